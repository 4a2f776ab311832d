/** Manifests that are fine are accepted offline, and those that the API server refuses are refused offline, too. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kinds } from '#crds/index.ts';
import {
  keyspace,
  type Manifest,
  region,
  regionalReplica,
  shard,
  tenant,
  wrongObjects,
} from '#test/e2e/wrong-objects.ts';

const kindOf = (manifest: Manifest) => {
  const kind = kinds.find((one) => one.kind === manifest.kind);
  assert.ok(kind, manifest.kind);
  return kind;
};

const messages = (manifest: Manifest): string[] => {
  const result = kindOf(manifest).manifest.safeParse(manifest);
  return result.success ? [] : result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
};

/** Every CEL message of a kind, so that a refusal by rule can be told from one by shape. */
const ruleMessages = (manifest: Manifest): string[] =>
  [...JSON.stringify(customResourceDefinition(kindOf(manifest))).matchAll(/"message":("(?:[^"\\]|\\.)*")/g)].map(
    (found) => JSON.parse(found[1] ?? '""') as string,
  );

const { customResourceDefinition } = await import('#crds/generate.ts');

test('the least that each kind needs is accepted, and gets its defaults', () => {
  for (const manifest of [region(), keyspace(), shard(), regionalReplica(), tenant()])
    assert.deepEqual(messages(manifest), [], manifest.kind);
  const parsed = kindOf(shard()).manifest.parse(shard()).spec;
  assert.deepEqual(parsed, {
    keyspace: 'shop',
    primaryRegion: 'eu',
    postgres: { version: '17', parameters: {} },
    storage: { size: '10Gi' },
    durability: { acknowledgements: 1, scope: 'AnyMember', onLoss: 'Block' },
    failover: { mode: 'Automatic', priority: 0 },
    deletionPolicy: 'Retain',
  });
});

for (const wrong of wrongObjects) {
  if (wrong.before) {
    test(`before it is changed, ${wrong.name} is fine`, () => {
      assert.ok(wrong.before);
      assert.deepEqual(messages(wrong.before), []);
    });
    continue;
  }
  test(`${wrong.name} is refused`, () => {
    const found = messages(wrong.object);
    assert.notEqual(found.length, 0);
    const byRule = ruleMessages(wrong.object).some((message) => message.includes(wrong.message));
    if (byRule)
      assert.ok(
        found.some((message) => message.includes(wrong.message)),
        found.join('\n'),
      );
  });
}

test('every wrong object is one change away from a good one of its kind', () => {
  const names = wrongObjects.map(({ name }) => name);
  assert.equal(new Set(names).size, names.length, 'names are unique');
});

const goodObjects: readonly [string, Manifest][] = [
  [
    'a region of several labels',
    region({ nodeSelector: { 'cloud.example/zone': 'a', pool: '' }, proximity: ['us', 'ap'] }),
  ],
  [
    'a keyspace of everything',
    keyspace({
      database: 'shop_data',
      tenantKey: { column: 'account', type: 'uuid' },
      migrations: [
        { name: '0001', sql: 'select 1' },
        { name: '0002', configMapKeyRef: { name: 'm', key: 'b.sql' } },
      ],
      referenceTables: ['currencies', 'geo.countries'],
      consistency: {
        default: 'bounded',
        maxStalenessMs: 1000,
        rules: [
          { role: 'app', level: 'eventual' },
          { table: 'app', level: 'causal' },
        ],
      },
      routers: {
        regions: [
          {
            region: 'eu',
            replicas: 2,
            serviceType: 'NodePort',
            nodePort: 30432,
            resources: { requests: { cpu: 2, memory: '1Gi' } },
          },
        ],
      },
      roles: [
        { name: 'app', anyTenant: true },
        { name: '_one', tenants: ['Größe 42'], limits: { connections: 5, transactionsInFlight: 2 } },
        { name: 'monitor', admin: 'stats' },
        { name: 'both', anyTenant: true, admin: 'full' },
      ],
    }),
  ],
  ['a shard without acknowledgements', shard({ durability: { acknowledgements: 0 } })],
  [
    "a shard with an extension's setting",
    shard({ postgres: { parameters: { 'pg_stat_statements.max': '1000', work_mem: '16MB' } } }),
  ],
  ['a replica of none', regionalReplica({ instances: 0 })],
  [
    'a tenant by uuid',
    tenant({ key: 'b7e0a1c2-0000-4000-8000-000000000000', allowedRegions: ['eu'], limits: { connections: 10 } }),
  ],
];

for (const [name, manifest] of goodObjects) {
  test(`${name} is accepted`, () => assert.deepEqual(messages(manifest), []));
}
