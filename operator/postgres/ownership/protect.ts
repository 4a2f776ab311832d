/**
 * Puts every relation of the keyspace under protection, or says why it can't be: policies, triggers, grants, sequence ranges.
 * `table-facts.ts` reads what is, `table-problems.ts` judges, here is what changes. A relation that is right already is not touched, so
 * an unchanged schema costs two catalogue queries and no lock.
 * Invariant: an application has privileges on a tenant table only while the table is fully protected.
 */
import type { ClientBase } from 'pg';
import { applicationGroup, ownerRole } from '#core/roles.ts';
import { identifier, inTransaction, qualified } from '../sql-text.ts';
import { readSettings } from './install.ts';
import { createPolicySql, createTriggerSql, policies, type Shape, triggersOf } from './pattern-sql.ts';
import { parseTableName, qualifiedName } from './reference-tables.ts';
import { type SequenceRange, sequenceRange } from './sequence-range.ts';
import { settingProblems } from './setting-problems.ts';
import {
  type RelationFacts,
  readRelations,
  readSchemas,
  readSequences,
  type SchemaFacts,
  type SequenceFacts,
} from './table-facts.ts';
import { relationProblems, sequenceProblems, type TableContext, type TableProblem } from './table-problems.ts';
import type { TenantKey } from './tenant-key.ts';

export type { TableProblem } from './table-problems.ts';

export interface ProtectOptions {
  /** Tables with the same rows on every shard, `table` (in `public`) or `schema.table`. */
  readonly referenceTables: readonly string[];
}

/** Longest wait for a table that long transactions use; then SQLSTATE 55P03, and the operator tries again later. */
const lockTimeoutMs = 5_000;

/**
 * Connected as `meridian_operator`; in a transaction of its own. Relations without a problem are protected even if others have one; one
 * with a problem gets policies and triggers as far as they go, and no privileges for applications.
 */
export async function protectTables(client: ClientBase, options: ProtectOptions): Promise<readonly TableProblem[]> {
  return inTransaction(client, () => protectTablesWithin(client, options));
}

/** The same inside the caller's transaction, which must be a superuser's (its role is put back to that). */
export async function protectTablesWithin(
  client: ClientBase,
  options: ProtectOptions,
): Promise<readonly TableProblem[]> {
  await client.query(`set local lock_timeout = ${lockTimeoutMs}; set local search_path = pg_catalog`);
  const { problems, relations, sequences, context, shardOrdinal } = await examine(client, options);
  const bad = new Set(problems.map((problem) => problem.table));
  const range = sequenceRange(shardOrdinal);
  const changes = [
    ...referenceTableChanges(context),
    ...(await readSchemas(client)).flatMap(schemaChanges),
    ...relations.flatMap((relation) => relationChanges(relation, context, bad)),
    ...sequences.flatMap((sequence) => sequenceChanges(sequence, range, bad)),
  ];
  for (const change of changes) await client.query(change.sql, change.values);
  return problems;
}

/** What stands in the way of moving a tenant's rows by logical replication, whatever was declared. Changes nothing. */
export async function checkMovable(client: ClientBase, options: ProtectOptions): Promise<readonly TableProblem[]> {
  return inTransaction(client, async () => {
    await client.query('set local search_path = pg_catalog');
    return findObstacles(client, options);
  });
}

async function findObstacles(client: ClientBase, options: ProtectOptions): Promise<readonly TableProblem[]> {
  const { problems, relations, context } = await examine(client, options);
  const { rows } = await client.query<{ found: boolean }>(
    'select exists (select from pg_catalog.pg_largeobject_metadata) as found',
  );
  const largeObjects: TableProblem = {
    table: 'pg_catalog.pg_largeobject',
    reason: 'LargeObjects',
    message: 'there are large objects, which belong to no tenant and can not move',
    hint: 'copy what is needed into bytea columns and remove them (lo_unlink)',
  };
  const unprotected = relations
    .filter((relation) => isTenantTable(relation, context) && protectionSql(relation, context.key).length > 0)
    .map((relation) => ({
      table: qualifiedName(relation.schema, relation.name),
      reason: 'Unprotected',
      message: 'its policies or triggers are missing or changed',
      hint: 'the operator puts them back when it next looks at the keyspace',
    }));
  return [...problems, ...unprotected, ...(rows[0]?.found === true ? [largeObjects] : [])];
}

interface Examination {
  readonly problems: readonly TableProblem[];
  readonly relations: readonly RelationFacts[];
  readonly sequences: readonly SequenceFacts[];
  readonly context: TableContext;
  readonly shardOrdinal: number;
}

async function examine(client: ClientBase, options: ProtectOptions): Promise<Examination> {
  const { tenantKey: key, shardOrdinal } = await readSettings(client);
  const references = new Set(
    options.referenceTables.map(parseTableName).map(({ schema, name }) => qualifiedName(schema, name)),
  );
  const context: TableContext = { key, references, owner: ownerRole };
  const relations = await readRelations(client, key);
  const sequences = await readSequences(client);
  const problems = [
    ...relations.flatMap((relation) => relationProblems(relation, context)),
    ...sequences.flatMap(sequenceProblems),
    ...(await settingProblems(client)),
  ];
  return { problems, relations, sequences, context, shardOrdinal };
}

interface Change {
  readonly sql: string;
  readonly values?: unknown[];
}

const change = (sql: string): Change => ({ sql });

/** The router's catalogue tells reference tables by this list. */
function referenceTableChanges({ references }: TableContext): readonly Change[] {
  const names = [...references].map(parseTableName);
  const values = [names.map(({ schema }) => schema), names.map(({ name }) => name)];
  const wanted = 'select * from unnest($1::name[], $2::name[]) as wanted(schema_name, table_name)';
  return [
    { sql: `delete from meridian.reference_table where (schema_name, table_name) not in (${wanted})`, values },
    { sql: `insert into meridian.reference_table ${wanted} on conflict do nothing`, values },
  ];
}

function schemaChanges({ name, usable, open }: SchemaFacts): readonly Change[] {
  return [
    ...(usable ? [] : [change(`grant usage on schema ${identifier(name)} to ${applicationGroup}`)]),
    // Whoever can make a function or an operator can have others call it.
    ...(open ? [change(`revoke create on schema ${identifier(name)} from public, ${applicationGroup}`)] : []),
  ];
}

const isReference = (relation: RelationFacts, { references }: TableContext): boolean =>
  references.has(qualifiedName(relation.schema, relation.name));

const isTenantTable = (relation: RelationFacts, context: TableContext): boolean =>
  (relation.kind === 'r' || relation.kind === 'p') && !isReference(relation, context);

function relationChanges(relation: RelationFacts, context: TableContext, bad: ReadonlySet<string>): readonly Change[] {
  const isBad = bad.has(qualifiedName(relation.schema, relation.name));
  const grants = grantSql(relation, isBad ? [] : wantedPrivileges(relation, context)).map(change);
  if (relation.kind === 'r' || relation.kind === 'p') {
    if (isReference(relation, context)) return [...unprotectionSql(relation).map(change), ...grants];
    if (isBad) return grants;
    return [...protectionSql(relation, context.key).map(change), ...grants];
  }
  return grants;
}

function wantedPrivileges(relation: RelationFacts, context: TableContext): readonly string[] {
  // Partitions are reached through their parent, whose policies then hold.
  if (relation.isPartition) return [];
  if (relation.kind === 'v' || isReference(relation, context)) return ['SELECT'];
  return ['DELETE', 'INSERT', 'SELECT', 'UPDATE'];
}

function protectionSql(relation: RelationFacts, key: TenantKey): readonly string[] {
  const { schema, name } = relation;
  const table = qualified(schema, name);
  const shape: Shape = relation.kind === 'p' || relation.isPartition ? 'partitioned' : 'plain';
  return [
    ...(relation.rowSecurity ? [] : [`alter table ${table} enable row level security`]),
    ...(relation.forceRowSecurity ? [] : [`alter table ${table} force row level security`]),
    ...relation.wrongPolicies.map((policy) => `drop policy ${identifier(policy)} on ${table}`),
    ...policies
      .filter((policy) => !relation.rightPolicies.includes(policy))
      .map((policy) => createPolicySql(policy, shape, schema, name, key)),
    ...relation.wrongTriggers.map((trigger) => `drop trigger ${identifier(trigger)} on ${table}`),
    ...triggersOf(shape)
      .filter((trigger) => !relation.rightTriggers.includes(trigger))
      .map((trigger) => createTriggerSql(trigger, schema, name, key)),
  ];
}

/** A tenant table that was declared a reference table since. */
function unprotectionSql(relation: RelationFacts): readonly string[] {
  const table = qualified(relation.schema, relation.name);
  const ours = [...relation.rightPolicies, ...relation.wrongPolicies];
  if (ours.length === 0) return [];
  return [
    ...ours.map((policy) => `drop policy ${identifier(policy)} on ${table}`),
    ...[...relation.rightTriggers, ...relation.wrongTriggers].map(
      (trigger) => `drop trigger ${identifier(trigger)} on ${table}`,
    ),
    `alter table ${table} disable row level security, no force row level security`,
  ];
}

function grantSql(relation: RelationFacts, wanted: readonly string[]): readonly string[] {
  const table = qualified(relation.schema, relation.name);
  const missing = wanted.filter((privilege) => !relation.granted.includes(privilege));
  const surplus = relation.granted.filter((privilege) => !wanted.includes(privilege));
  return [
    ...(relation.public.length > 0 ? [`revoke all on ${table} from public`] : []),
    ...(surplus.length > 0 ? [`revoke ${surplus.join(', ')} on ${table} from ${applicationGroup}`] : []),
    ...(missing.length > 0 ? [`grant ${missing.join(', ')} on ${table} to ${applicationGroup}`] : []),
  ];
}

function sequenceChanges(sequence: SequenceFacts, range: SequenceRange, bad: ReadonlySet<string>): readonly Change[] {
  if (bad.has(qualifiedName(sequence.schema, sequence.name))) return [];
  const name = qualified(sequence.schema, sequence.name);
  const { minimum, maximum } = range;
  const isInRange = BigInt(sequence.minimum) === minimum && BigInt(sequence.maximum) === maximum;
  const last = sequence.lastValue === null ? undefined : BigInt(sequence.lastValue);
  const restart = last !== undefined && last >= minimum && last <= maximum ? '' : ' restart';
  return [
    // A sequence that has given out a value of its range goes on from there, whatever a migration did to its bounds.
    ...(isInRange
      ? []
      : [change(`alter sequence ${name} minvalue ${minimum} maxvalue ${maximum} start with ${minimum}${restart}`)]),
    // A cache would be each session's own, and a cycle would give numbers out twice.
    ...(sequence.cache === '1' && !sequence.cycle ? [] : [change(`alter sequence ${name} cache 1 no cycle`)]),
    ...(sequence.granted.includes('USAGE') ? [] : [change(`grant usage on sequence ${name} to ${applicationGroup}`)]),
  ];
}
