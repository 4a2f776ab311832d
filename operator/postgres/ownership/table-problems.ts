/**
 * What stands in the way of protecting a relation or of moving a tenant's rows: pure decisions over `table-facts.ts`.
 * Each rule looks at one thing; a relation gets every problem that it has, so that one round of changes is enough.
 */
import { qualifiedName } from './reference-tables.ts';
import type { RelationFacts, SequenceFacts } from './table-facts.ts';
import type { TenantKey } from './tenant-key.ts';

export interface TableProblem {
  /** `schema.table` (or `schema.sequence`, `schema.view`). */
  readonly table: string;
  /** CamelCase, stable. */
  readonly reason: string;
  /** What is wrong, for people. */
  readonly message: string;
  /** What to change in the migration. */
  readonly hint: string;
}

export interface TableContext {
  readonly key: TenantKey;
  /** The declared reference tables, as `schema.table`. */
  readonly references: ReadonlySet<string>;
  readonly owner: string;
}

type Finding = Omit<TableProblem, 'table'>;
type Rule = (relation: RelationFacts, context: TableContext) => readonly Finding[];

const none: readonly Finding[] = [];
const when = (condition: boolean, reason: string, message: string, hint: string): readonly Finding[] =>
  condition ? [{ reason, message, hint }] : none;

const kind: Rule = (relation) => {
  if (relation.kind === 'm') {
    return when(
      true,
      'MaterializedView',
      'a materialised view holds rows of all tenants, and row-level security does not apply to it',
      'use a view, or a tenant table that the application fills',
    );
  }
  if (relation.kind === 'f') {
    return when(
      true,
      'ForeignTable',
      'rows of a foreign table are elsewhere and can not move',
      'use a table of this database',
    );
  }
  return when(
    relation.inherits,
    'Inheritance',
    'constraints and triggers of a table do not hold for tables that inherit from it',
    'use partitions (PARTITION BY) instead of INHERITS',
  );
};

const owner: Rule = (relation, context) =>
  when(
    relation.owner !== context.owner,
    'ForeignOwner',
    `it belongs to role "${relation.owner}", who could take its protection away`,
    `leave ownership with ${context.owner}: no OWNER TO, no SET ROLE in a migration`,
  );

const logged: Rule = (relation) =>
  when(
    relation.unlogged,
    'Unlogged',
    'an unlogged table is empty on every follower and after a failover',
    'leave out UNLOGGED',
  );

const tenantColumn: Rule = (relation, { key }) => {
  const column = relation.tenantColumn;
  if (column === null) {
    return when(
      true,
      'NoTenantColumn',
      `it has no column "${key.column}", so nobody can tell whose its rows are`,
      `add "${key.column} ${key.type} not null" and put it first in the primary key; or list the table in the keyspace's referenceTables if its rows are the same for everybody`,
    );
  }
  return [
    ...when(
      column.type !== key.type,
      'TenantColumnType',
      `column "${key.column}" is ${column.type}; the keyspace's tenant key is ${key.type}`,
      `declare it as "${key.column} ${key.type} not null"`,
    ),
    ...when(
      !column.notNull,
      'TenantColumnNullable',
      `column "${key.column}" may be null: such a row would be nobody's`,
      `declare it as "${key.column} ${key.type} not null"`,
    ),
    ...when(
      column.generated || column.identity,
      'TenantColumnGenerated',
      `column "${key.column}" is computed by Postgres, after the check of who owns the row`,
      'make it an ordinary column that the application fills',
    ),
    ...when(
      !column.deterministic,
      'TenantColumnCollation',
      `column "${key.column}" has a collation under which different tenants compare equal`,
      `leave the collation of "${key.column}" at its default`,
    ),
  ];
};

const primaryKey: Rule = (relation) => {
  if (relation.tenantColumn === null || relation.isPartition) return none;
  const primary = relation.uniqueIndexes.find((index) => index.primary);
  if (primary === undefined) {
    return when(
      true,
      'NoPrimaryKey',
      'it has no primary key, so its updates and deletes could not be replicated in a move',
      'add a primary key that contains the tenant column',
    );
  }
  return when(
    !primary.immediate,
    'DeferrablePrimaryKey',
    'a deferrable primary key can not identify rows in a move',
    'leave out DEFERRABLE',
  );
};

const uniqueIndexes: Rule = (relation, { key }) =>
  relation.tenantColumn === null || relation.isPartition
    ? none
    : relation.uniqueIndexes.flatMap((index) => [
        ...when(
          !index.hasTenant,
          index.primary
            ? 'PrimaryKeyWithoutTenant'
            : index.exclusion
              ? 'ExclusionWithoutTenant'
              : 'UniqueWithoutTenant',
          `${index.primary ? 'primary key' : index.exclusion ? 'exclusion constraint' : 'unique index'} "${index.name}" lacks "${key.column}": one tenant's row could refuse another's, also when tenants move`,
          index.exclusion ? `add "${key.column} with ="` : `add "${key.column}" to its columns, best as the first`,
        ),
        ...when(!index.valid, 'InvalidIndex', `index "${index.name}" is invalid`, 'drop it or build it again'),
      ]);

const replicaIdentity: Rule = (relation) =>
  when(
    relation.replicaIdentity === 'n',
    'NoReplicaIdentity',
    'its replica identity is NOTHING, so its updates and deletes could not be replicated in a move',
    'leave REPLICA IDENTITY at its default',
  );

const foreignKeys: Rule = (relation, { key, references }) =>
  relation.foreignKeys.flatMap((foreignKey) => {
    const target = qualifiedName(foreignKey.targetSchema, foreignKey.targetTable);
    if (references.has(target)) {
      return when(
        foreignKey.cascades,
        'CascadeFromReference',
        `foreign key "${foreignKey.name}" would change tenants' rows when rows of ${target} change, without a check of who owns them`,
        'leave out ON DELETE and ON UPDATE actions towards reference tables',
      );
    }
    return [
      ...when(
        !foreignKey.hasTenant,
        'ForeignKeyWithoutTenant',
        `foreign key "${foreignKey.name}" to ${target} lacks "${key.column}": a row could refer to another tenant's`,
        `make it (${key.column}, ...) references ${target} (${key.column}, ...)`,
      ),
      ...when(
        foreignKey.clearsTenant,
        'ForeignKeyClearsTenant',
        `foreign key "${foreignKey.name}" would set "${key.column}" to null or its default`,
        'name the columns to set: ON DELETE SET NULL (column), and leave out ON UPDATE SET',
      ),
    ];
  });

const largeObjects: Rule = (relation) =>
  when(
    relation.largeObjectColumns.length > 0,
    'LargeObjects',
    `column ${relation.largeObjectColumns.map((name) => `"${name}"`).join(', ')} can point at large objects, which belong to no tenant and can not move`,
    'use bytea, or bigint if it is only a number',
  );

const permissivePolicies: Rule = (relation) =>
  when(
    relation.permissivePolicies.length > 0,
    'PermissivePolicy',
    `policy ${relation.permissivePolicies.map((name) => `"${name}"`).join(', ')} would show rows of other tenants`,
    'make it AS RESTRICTIVE, which can only narrow what is seen',
  );

const referenceForeignKeys: Rule = (relation, { references }) =>
  relation.foreignKeys.flatMap((foreignKey) => {
    const target = qualifiedName(foreignKey.targetSchema, foreignKey.targetTable);
    return when(
      !references.has(target),
      'ReferenceToTenantTable',
      `foreign key "${foreignKey.name}" of a reference table refers to ${target}, whose rows differ between shards`,
      'refer to reference tables only',
    );
  });

const referenceSequences: Rule = (relation) =>
  when(
    relation.sequenceColumns.length > 0,
    'ReferenceTableSequence',
    `column ${relation.sequenceColumns.map((name) => `"${name}"`).join(', ')} draws from a sequence, which gives each shard other numbers: the rows would not be the same everywhere`,
    'write the values out in the migration',
  );

const tenantRules: readonly Rule[] = [
  owner,
  logged,
  tenantColumn,
  primaryKey,
  uniqueIndexes,
  replicaIdentity,
  foreignKeys,
  largeObjects,
  permissivePolicies,
];
const referenceRules: readonly Rule[] = [owner, logged, largeObjects, referenceForeignKeys, referenceSequences];

function rulesFor(relation: RelationFacts, context: TableContext): readonly Rule[] {
  if (relation.kind === 'v') return [owner];
  if (relation.kind === 'm' || relation.kind === 'f' || relation.inherits) return [kind];
  return context.references.has(qualifiedName(relation.schema, relation.name)) ? referenceRules : tenantRules;
}

export function relationProblems(relation: RelationFacts, context: TableContext): readonly TableProblem[] {
  const table = qualifiedName(relation.schema, relation.name);
  return rulesFor(relation, context).flatMap((rule) =>
    rule(relation, context).map((finding) => ({ table, ...finding })),
  );
}

export function sequenceProblems(sequence: SequenceFacts): readonly TableProblem[] {
  const table = qualifiedName(sequence.schema, sequence.name);
  const narrow =
    sequence.type !== 'bigint' || (sequence.ownerColumnType !== null && sequence.ownerColumnType !== 'bigint');
  return [
    ...when(
      narrow,
      'NarrowSequence',
      `it counts in ${sequence.type}${sequence.ownerTable === null ? '' : ` for a column of type ${sequence.ownerColumnType} in ${sequence.ownerTable}`}; the ranges that keep shards apart need bigint`,
      'use bigint (bigserial, "bigint generated always as identity")',
    ),
    ...when(
      BigInt(sequence.increment) < 0n,
      'DescendingSequence',
      'it counts downwards; shards draw from ranges that grow',
      'use a positive increment',
    ),
    ...when(sequence.unlogged, 'Unlogged', 'an unlogged sequence starts again after a failover', 'leave out UNLOGGED'),
  ].map((finding) => ({ table, ...finding }));
}
