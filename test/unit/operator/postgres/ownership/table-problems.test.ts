/** Which relations can be protected and could move, decided from facts alone; the same rules against a real catalogue are in test/integration. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { RelationFacts, SequenceFacts } from '#operator/postgres/ownership/table-facts.ts';
import { relationProblems, sequenceProblems, type TableContext } from '#operator/postgres/ownership/table-problems.ts';

const context: TableContext = {
  key: { column: 'tenant_id', type: 'text' },
  references: new Set(['public.country']),
  owner: 'meridian_owner',
};

const primary = { name: 't_pkey', primary: true, immediate: true, exclusion: false, valid: true, hasTenant: true };

const table: RelationFacts = {
  schema: 'public',
  name: 't',
  kind: 'r',
  owner: 'meridian_owner',
  unlogged: false,
  isPartition: false,
  inherits: false,
  replicaIdentity: 'd',
  tenantColumn: {
    name: 'tenant_id',
    type: 'text',
    notNull: true,
    generated: false,
    identity: false,
    deterministic: true,
  },
  largeObjectColumns: [],
  sequenceColumns: [],
  uniqueIndexes: [primary],
  foreignKeys: [],
  rowSecurity: false,
  forceRowSecurity: false,
  rightPolicies: [],
  wrongPolicies: [],
  permissivePolicies: [],
  rightTriggers: [],
  wrongTriggers: [],
  granted: [],
  public: [],
};

const foreignKey = {
  name: 'fk',
  targetSchema: 'public',
  targetTable: 'other',
  hasTenant: true,
  cascades: true,
  clearsTenant: false,
};

const column = table.tenantColumn;
const cases: readonly [name: string, change: Partial<RelationFacts>, ...reasons: string[]][] = [
  ['a sound table', {}],
  ['no tenant column', { tenantColumn: null }, 'NoTenantColumn'],
  ['a nullable tenant column', { tenantColumn: column && { ...column, notNull: false } }, 'TenantColumnNullable'],
  ['another type', { tenantColumn: column && { ...column, type: 'citext' } }, 'TenantColumnType'],
  ['no primary key', { uniqueIndexes: [] }, 'NoPrimaryKey'],
  [
    'an invalid unique index',
    { uniqueIndexes: [primary, { ...primary, primary: false, valid: false }] },
    'InvalidIndex',
  ],
  [
    'everything at once is told at once',
    { unlogged: true, owner: 'me', replicaIdentity: 'n' },
    'ForeignOwner',
    'Unlogged',
    'NoReplicaIdentity',
  ],
  ['a cascade within the tenant', { foreignKeys: [foreignKey] }],
  ['a foreign key across tenants', { foreignKeys: [{ ...foreignKey, hasTenant: false }] }, 'ForeignKeyWithoutTenant'],
  [
    'a plain reference to a reference table',
    { foreignKeys: [{ ...foreignKey, targetTable: 'country', hasTenant: false, cascades: false }] },
  ],
  [
    'a cascade from a reference table',
    { foreignKeys: [{ ...foreignKey, targetTable: 'country', hasTenant: false }] },
    'CascadeFromReference',
  ],
  // Constraints of a partition are its parent's.
  ['a partition', { isPartition: true, uniqueIndexes: [] }],
  ['a view of the owner', { kind: 'v', tenantColumn: null, uniqueIndexes: [] }],
  ['a view of somebody else', { kind: 'v', owner: 'me' }, 'ForeignOwner'],
  ['a reference table without a tenant', { name: 'country', tenantColumn: null, uniqueIndexes: [] }],
  [
    'a reference table that refers to tenants',
    { name: 'country', foreignKeys: [foreignKey] },
    'ReferenceToTenantTable',
  ],
];

for (const [name, change, ...reasons] of cases) {
  test(`${name}: ${reasons.length === 0 ? 'accepted' : reasons.join(', ')}`, () => {
    const problems = relationProblems({ ...table, ...change }, context);
    assert.deepEqual(
      problems.map((problem) => problem.reason),
      reasons,
    );
    for (const problem of problems) assert.ok(problem.message.length > 10 && problem.hint.length > 10);
  });
}

test('what is accepted as a tenant table has the tenant in every unique index and every foreign key', () => {
  const index = fc.record({
    name: fc.string(),
    primary: fc.boolean(),
    immediate: fc.boolean(),
    exclusion: fc.boolean(),
    valid: fc.boolean(),
    hasTenant: fc.boolean(),
  });
  const key = fc.record({
    name: fc.string(),
    targetSchema: fc.constant('public'),
    targetTable: fc.constantFrom('country', 'other'),
    hasTenant: fc.boolean(),
    cascades: fc.boolean(),
    clearsTenant: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(index, { maxLength: 4 }), fc.array(key, { maxLength: 3 }), (uniqueIndexes, foreignKeys) => {
      const accepted = relationProblems({ ...table, uniqueIndexes, foreignKeys }, context).length === 0;
      const sound =
        uniqueIndexes.some((one) => one.primary) &&
        uniqueIndexes.find((one) => one.primary)?.immediate === true &&
        uniqueIndexes.every((one) => one.hasTenant && one.valid) &&
        foreignKeys.every((one) =>
          one.targetTable === 'country' ? !one.cascades : one.hasTenant && !one.clearsTenant,
        );
      assert.equal(accepted, sound);
    }),
  );
});

const sequence: SequenceFacts = {
  schema: 'public',
  name: 's',
  type: 'bigint',
  increment: '1',
  minimum: '1',
  maximum: '9',
  cache: '1',
  start: '1',
  cycle: false,
  lastValue: null,
  unlogged: false,
  ownerTable: null,
  ownerColumnType: null,
  granted: [],
};

for (const [name, change, ...reasons] of [
  ['a bigint sequence', {}],
  ['an integer sequence', { type: 'integer' }, 'NarrowSequence'],
  ['a bigint sequence for an integer column', { ownerTable: 'public.t', ownerColumnType: 'integer' }, 'NarrowSequence'],
  ['one that counts down', { increment: '-5' }, 'DescendingSequence'],
] as const satisfies readonly [string, Partial<SequenceFacts>, ...string[]][]) {
  test(`${name}: ${reasons.length === 0 ? 'accepted' : reasons.join(', ')}`, () => {
    assert.deepEqual(
      sequenceProblems({ ...sequence, ...change }).map((problem) => problem.reason),
      reasons,
    );
  });
}
