/** The map from API objects: in whatever order they come, while they are half there, and while the API server is away. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { KubeApi } from '#kube/client.ts';
import {
  type Keyspace,
  keyspaces,
  type Region,
  type RegionalReplica,
  regionalReplicas,
  regions,
  type Shard,
  shards,
  type Tenant,
  tenants,
} from '#kube/meridian.ts';
import { KubeMapSource } from '#router/map/kube-source.ts';
import type { ClusterMap } from '#router/map/map.ts';
import { mapOfObjects } from '#router/map/objects.ts';
import { FakeApiServer } from '../../kube/fake/server.ts';

const namespace = 'shop';
const base = <Kind extends string>(kind: Kind, name: string) =>
  ({ apiVersion: 'meridian.db/v1alpha1', kind, metadata: { name, namespace } }) as const;

const keyspace = {
  ...base('Keyspace', 'main-shop'),
  spec: {
    tenantKey: { column: 'tenant_id', type: 'uuid' },
    consistency: { default: 'eventual', rules: [] },
    routers: {
      regions: [],
      poolSize: 7,
      maxClients: 70,
      idleSessionTimeoutMs: 5,
      idleInTransactionSessionTimeoutMs: 6,
    },
    roles: [
      { name: 'shop_app', anyTenant: true, limits: { connections: 3 } },
      { name: 'watcher', admin: 'stats' },
    ],
  },
} as unknown as Keyspace;
const shard = (name: string, authority?: object, of = 'main-shop'): Shard =>
  ({ ...base('Shard', name), spec: { keyspace: of }, status: { authority } }) as unknown as Shard;
const replica = (name: string, of: string, region: string, members: object[]): RegionalReplica =>
  ({
    ...base('RegionalReplica', name),
    spec: { shard: of, region },
    status: { members },
  }) as unknown as RegionalReplica;
const tenant = (key: string, authority?: object, of = 'main-shop'): Tenant =>
  ({ ...base('Tenant', key), spec: { keyspace: of, key }, status: { authority } }) as unknown as Tenant;
const region = { ...base('Region', 'eu'), spec: { proximity: ['us'] } } as unknown as Region;

const active = { member: 'one-eu-0', epoch: 4, state: 'Active' };
const member = { name: 'one-eu-0', address: '10.0.0.7', phase: 'Primary', role: 'primary' };

describe('mapOfObjects', () => {
  const objects = {
    keyspace,
    shards: [
      shard('one', active),
      shard('two', { ...active, state: 'Stopping', target: { name: 'two-us-0' } }),
      shard('begun', { ...active, epoch: 1, state: 'Initialising' }),
      shard('new'),
      shard('other', active, 'else'),
    ],
    regionalReplicas: [
      replica('one-eu', 'one', 'eu', [member, { ...member, name: 'one-eu-1', role: 'none' }]),
      replica('one-us', 'one', 'us', [{ name: 'one-us-0', phase: 'Pending', role: 'none' }]),
      replica('other-eu', 'other', 'eu', [{ ...member, name: 'other-eu-0' }]),
      replica('lost-eu', 'nowhere', 'eu', [{ ...member, name: 'lost-eu-0' }]),
    ],
    tenants: [
      tenant('acme', { shard: 'one', epoch: 2, state: 'active' }),
      tenant('unplaced'),
      tenant('far', { shard: 'other', epoch: 1, state: 'active' }, 'else'),
    ],
    regions: [region],
  };
  const map = mapOfObjects('main-shop', objects) as ClusterMap;

  test('names the database, the bounds and the proximity', () => {
    assert.equal(map.keyspace.database, 'main_shop');
    assert.equal(map.keyspace.tenantType, 'uuid');
    assert.deepEqual([map.keyspace.poolSize, map.keyspace.maxClients], [7, 70]);
    assert.deepEqual(map.keyspace.roles, ['shop_app', 'watcher']);
    assert.deepEqual(map.keyspace.roleLimits, { shop_app: { connections: 3 } });
    assert.deepEqual(map.keyspace.admins, { watcher: 'stats' });
    assert.deepEqual([map.keyspace.idleSessionMs, map.keyspace.idleInTransactionMs], [5, 6]);
    assert.deepEqual(map.proximity.get('eu'), ['us']);
  });

  test('gives a shard a primary once its authority is decided, and says where it is going', () => {
    assert.deepEqual(
      [...map.shards.values()].map(({ name, epoch, primary, target }) => [name, epoch, primary, target]),
      [
        ['one', 4, 'one-eu-0', undefined],
        ['two', 4, 'one-eu-0', 'two-us-0'],
        ['begun', 1, undefined, undefined],
        ['new', 0, undefined, undefined],
      ],
    );
  });

  test('knows members that have an address, and which of them take connections', () => {
    assert.deepEqual(
      [...map.members.values()].map(({ name, region: where, ready }) => [name, where, ready]),
      [
        ['one-eu-0', 'eu', true],
        ['one-eu-1', 'eu', false],
      ],
    );
  });

  test('knows tenants of its keyspace that have been placed', () => {
    assert.deepEqual([...map.tenants.keys()], ['acme']);
  });

  test('is none while there is no keyspace', () => {
    assert.equal(mapOfObjects('main-shop', { ...objects, keyspace: undefined }), undefined);
  });
});

describe('KubeMapSource', () => {
  let server: FakeApiServer;
  let api: KubeApi;
  let aborter: AbortController;

  beforeEach(async () => {
    server = new FakeApiServer();
    await server.start();
    api = new KubeApi(server.configuration);
    aborter = new AbortController();
  });
  afterEach(async () => {
    aborter.abort();
    await api.close();
    await server.stop();
  });

  async function eventually(condition: () => boolean): Promise<void> {
    const deadline = performance.now() + 60_000;
    while (!condition()) {
      assert.ok(performance.now() < deadline, condition.toString());
      await sleep(10);
    }
  }

  test('says the map once the keyspace is there, and again with every change, also after the API server was away', async () => {
    await api.of(tenants).create(tenant('acme'));
    const maps: ClusterMap[] = [];
    const source = new KubeMapSource({ api, namespace, keyspace: 'main-shop', log: pino({ level: 'silent' }) });
    let isStarted = false;
    const started = source
      .start((map) => maps.push(map), aborter.signal)
      .then(() => {
        isStarted = true;
      });
    await sleep(100);
    assert.ok(!isStarted, 'it waits for the keyspace');
    await api.of(keyspaces).create(keyspace);
    await started;
    assert.equal(maps.at(-1)?.tenants.size, 0);

    await api.of(regions).create(region);
    const made = await api.of(shards).create(shard('one'));
    await api.of(shards).updateStatus({ ...made, status: { authority: active } } as unknown as typeof made);
    await api.of(regionalReplicas).create(replica('one-eu', 'one', 'eu', [member]));
    await eventually(() => maps.at(-1)?.shards.get('one')?.primary === 'one-eu-0');

    await server.stop();
    await sleep(50);
    assert.equal(maps.at(-1)?.shards.get('one')?.primary, 'one-eu-0', 'an API server that is away changes nothing');
    await server.start();
    await api.of(tenants).delete({ namespace, name: 'acme' });
    await api.of(shards).delete({ namespace, name: 'one' });
    await eventually(() => maps.at(-1)?.shards.size === 0);
  });
});
