/**
 * A keyspace as the controller sees it, for tests: small, whole, and changed by what a test says.
 */
import type { Deployment, Secret, Service } from '#kube/kinds.ts';
import type { Keyspace, Region } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import type { KeyspaceAction } from '#operator/controllers/keyspace/actions.ts';
import type { KeyspaceSnapshot, ShardView } from '#operator/controllers/keyspace/snapshot.ts';
import type { ActionResult } from '#operator/runtime/controller.ts';

const meta = (name: string) => ({
  name,
  namespace: 'prod',
  uid: `uid-${name}`,
  resourceVersion: '1',
  creationTimestamp: '2026-01-01T00:00:00Z',
});

export const keyspace = (
  spec: Partial<Keyspace['spec']> = {},
  status?: Keyspace['status'],
  metadata: Partial<Stored<Keyspace>['metadata']> = {},
): Stored<Keyspace> => ({
  apiVersion: 'meridian.db/v1alpha1',
  kind: 'Keyspace',
  metadata: { ...meta('shop'), ...metadata },
  spec: {
    tenantKey: { column: 'tenant_id', type: 'text' },
    migrations: [
      { name: '0001-a', sql: 'create table a ()' },
      { name: '0002-b', sql: 'create table b ()' },
    ],
    referenceTables: [],
    consistency: { default: 'strong', rules: [] },
    routers: {
      regions: [{ region: 'eu', replicas: 2, workers: 1, serviceType: 'ClusterIP' }],
      poolSize: 10,
      maxClients: 1000,
      prepareSimpleQueries: true,
      idleSessionTimeoutMs: 0,
      idleInTransactionSessionTimeoutMs: 300_000,
    },
    roles: [{ name: 'shop_app', anyTenant: true }],
    passwordOverlapSeconds: 60,
    deletionPolicy: 'Retain',
    ...spec,
  },
  ...(status === undefined ? {} : { status }),
});

export const region = (name: string, spec: Partial<Region['spec']> = {}): Stored<Region> => ({
  apiVersion: 'meridian.db/v1alpha1',
  kind: 'Region',
  metadata: meta(name),
  spec: { proximity: [], drain: false, ...spec },
});

export const readyShard = (name: string, over: Partial<ShardView> = {}): ShardView => ({
  name,
  uid: `uid-${name}`,
  deleting: false,
  primary: {
    kind: 'found',
    epoch: 1,
    incarnation: '0123456789abcdef',
    target: { namespace: 'prod', keyspace: 'shop', member: `${name}-eu-0`, address: '10.0.0.1' },
  },
  ...over,
});

export const waitingShard = (name: string): ShardView => ({
  ...readyShard(name),
  primary: { kind: 'missing', reason: 'NotInitialised', message: `shard ${name} has no primary yet` },
});

export const roleSecret = (role: string, keyspaceName = 'shop'): Stored<Secret> => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { ...meta(`${keyspaceName}-role-${role.replaceAll('_', '-')}`), labels: { 'meridian.db/role': role } },
});

export const deployment = (regionName: string, readyReplicas: number): Stored<Deployment> => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: meta(`shop-router-${regionName}`),
  status: { readyReplicas },
});

export const service = (regionName: string, status: Service['status'] = {}): Stored<Service> => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: meta(`shop-router-${regionName}`),
  status,
});

export const snapshot = (over: Partial<KeyspaceSnapshot> = {}): KeyspaceSnapshot => {
  const object = over.keyspace ?? keyspace();
  return {
    keyspace: object,
    shards: [readyShard('a'), readyShard('b')],
    regions: new Map([['eu', region('eu')]]),
    migrations: object.spec.migrations.map(({ name, sql }) => ({ name, kind: 'found' as const, sql: sql ?? '' })),
    deployments: new Map([['eu', deployment('eu', 2)]]),
    services: new Map([['eu', service('eu')]]),
    roleSecrets: new Map([['shop_app', roleSecret('shop_app')]]),
    routerImage: 'meridian/programs:1',
    ...over,
  };
};

export const done = (action: KeyspaceAction, value: unknown): ActionResult<KeyspaceAction> => ({
  action,
  outcome: 'done',
  value,
});
