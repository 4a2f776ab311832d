import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { KeyspaceAction } from '#operator/controllers/keyspace/actions.ts';
import { planFarewell, planKeyspace } from '#operator/controllers/keyspace/plan.ts';
import { deployment, keyspace, readyShard, region, roleSecret, snapshot, waitingShard } from './world.ts';

type Kind = KeyspaceAction['kind'];
const ofKind = <K extends Kind>(actions: readonly KeyspaceAction[], kind: K) =>
  actions.filter((action): action is Extract<KeyspaceAction, { kind: K }> => action.kind === kind);
const applied = (actions: readonly KeyspaceAction[]): string[] =>
  ofKind(actions, 'applyRouterObject').map(({ object }) => `${object.kind} ${object.metadata.name}`);

describe('the plan of a keyspace', () => {
  test('certificates come first, what is done on shards last', () => {
    const kinds = planKeyspace(snapshot()).map(({ kind }) => kind);
    assert.equal(kinds[0], 'ensureCertificates');
    assert.equal(kinds.at(-1), 'setUpShards');
  });

  test('ordinals are recorded before the shards are told of them, and only when they change', () => {
    const kinds = planKeyspace(snapshot()).map(({ kind }) => kind);
    assert.ok(kinds.indexOf('recordOrdinals') < kinds.indexOf('setUpShards'));
    const settled = keyspace(
      {},
      {
        shards: [
          { name: 'a', ordinal: 0, migrations: 2, ready: true },
          { name: 'b', ordinal: 1, migrations: 2, ready: true },
        ],
        nextOrdinal: 2,
      },
    );
    assert.deepEqual(ofKind(planKeyspace(snapshot({ keyspace: settled })), 'recordOrdinals'), []);
  });

  test('a shard without a primary is given an ordinal and is not set up', () => {
    const actions = planKeyspace(snapshot({ shards: [readyShard('a'), waitingShard('b')] }));
    assert.deepEqual(
      ofKind(actions, 'recordOrdinals')[0]?.shards.map(({ name }) => name),
      ['a', 'b'],
    );
    assert.deepEqual(
      ofKind(actions, 'setUpShards')[0]?.shards.map(({ name }) => name),
      ['a'],
    );
    assert.deepEqual(ofKind(actions, 'setUpShards')[0]?.away, []);
  });

  test('a shard with a schema that is away is named, so that new migrations and rotations wait for it', () => {
    const status = {
      shards: [
        { name: 'a', ordinal: 0, migrations: 2, ready: true },
        { name: 'b', ordinal: 1, migrations: 2, ready: false },
      ],
      nextOrdinal: 2,
    };
    const actions = planKeyspace(
      snapshot({ keyspace: keyspace({}, status), shards: [readyShard('a'), waitingShard('b')] }),
    );
    assert.deepEqual(
      ofKind(actions, 'setUpShards')[0]?.away.map(({ name }) => name),
      ['b'],
    );
    assert.equal(ofKind(actions, 'ensureRoleSecret')[0]?.complete, false);
  });

  test('a shard being deleted gets nothing more', () => {
    const actions = planKeyspace(snapshot({ shards: [readyShard('a'), readyShard('b', { deleting: true })] }));
    assert.deepEqual(
      ofKind(actions, 'setUpShards')[0]?.shards.map(({ name }) => name),
      ['a'],
    );
  });

  test('migrations end before the first whose SQL is missing', () => {
    const actions = planKeyspace(
      snapshot({
        migrations: [
          { name: '0001-a', kind: 'found', sql: 'a' },
          { name: '0002-b', kind: 'missing', reason: 'ConfigMapMissing', message: '' },
          { name: '0003-c', kind: 'found', sql: 'c' },
        ],
      }),
    );
    const wish = ofKind(actions, 'setUpShards')[0]?.wish;
    assert.deepEqual(
      wish?.migrations.map(({ name }) => name),
      ['0001-a'],
    );
    assert.equal(wish?.hasAllMigrations, false);
  });

  test('a region gets its Service, budget and Deployment; the account and policy are shared', () => {
    assert.deepEqual(applied(planKeyspace(snapshot())), [
      'ServiceAccount shop-router',
      'Role shop-router',
      'RoleBinding shop-router',
      'Service shop-routers',
      'NetworkPolicy shop-router',
      'Service shop-router-eu',
      'PodDisruptionBudget shop-router-eu',
      'Deployment shop-router-eu',
    ]);
  });

  test("routers run on the nodes of the Region, by its selector or by Kubernetes' own label", () => {
    const selectorWith = (regions: ReturnType<typeof region>) => {
      const actions = planKeyspace(snapshot({ regions: new Map([['eu', regions]]) }));
      const object = ofKind(actions, 'applyRouterObject').find(
        ({ object: each }) => each.kind === 'Deployment',
      )?.object;
      assert.ok(object !== undefined && 'spec' in object && object.spec !== undefined && 'template' in object.spec);
      return object.spec.template.spec?.nodeSelector;
    };
    assert.deepEqual(selectorWith(region('eu')), { 'topology.kubernetes.io/region': 'eu' });
    assert.deepEqual(selectorWith(region('eu', { nodeSelector: { zone: 'x' } })), { zone: 'x' });
  });

  test('a region nobody declared gets no router, and its certificate name all the same', () => {
    const actions = planKeyspace(snapshot({ regions: new Map() }));
    assert.ok(!applied(actions).some((name) => name.startsWith('Deployment')));
    assert.ok(ofKind(actions, 'ensureCertificates')[0]?.routerDnsNames.includes('shop-router-eu.prod.svc'));
  });

  test('a region taken out of the spec loses its router', () => {
    const actions = planKeyspace(snapshot({ deployments: new Map([['us', deployment('us', 1)]]) }));
    assert.deepEqual(ofKind(actions, 'deleteRouter'), [{ kind: 'deleteRouter', region: 'us' }]);
  });

  test('a role taken out of the spec loses its Secret', () => {
    const roleSecrets = new Map([
      ['shop_app', roleSecret('shop_app')],
      ['old_app', roleSecret('old_app')],
    ]);
    assert.deepEqual(ofKind(planKeyspace(snapshot({ roleSecrets })), 'deleteSecret'), [
      { kind: 'deleteSecret', name: 'shop-role-old-app' },
    ]);
  });

  test('no action holds anything of a Secret', () => {
    const secret = { ...roleSecret('shop_app'), data: { password: 'c2VjcmV0', verifier: 'c2VjcmV0' } };
    const text = JSON.stringify(planKeyspace(snapshot({ roleSecrets: new Map([['shop_app', secret]]) })));
    assert.ok(!text.includes('c2VjcmV0'));
  });
});

describe('the farewell of a keyspace', () => {
  const leaving = (deletionPolicy: 'Retain' | 'Delete') =>
    keyspace({ deletionPolicy }, undefined, { deletionTimestamp: '2026-01-02T00:00:00Z' });

  test('waits for its shards, those being deleted too', () => {
    const shards = [readyShard('a', { deleting: true })];
    assert.deepEqual(planFarewell(snapshot({ keyspace: leaving('Delete'), shards })), { actions: [], release: false });
  });

  test('Retain keeps the passwords', () => {
    assert.deepEqual(planFarewell(snapshot({ keyspace: leaving('Retain'), shards: [] })), {
      actions: [],
      release: true,
    });
  });

  test('Delete takes the authority and the passwords with it', () => {
    const plan = planFarewell(snapshot({ keyspace: leaving('Delete'), shards: [] }));
    assert.deepEqual(plan, {
      release: true,
      actions: [
        { kind: 'deleteSecret', name: 'shop-ca' },
        { kind: 'deleteSecret', name: 'shop-role-shop-app' },
      ],
    });
  });
});
