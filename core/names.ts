/**
 * Names that several programs must agree on: API group, labels, annotations, ports, object names, file places.
 * Only spelling is here; what the objects mean is in `crds/` and `docs/design.md`.
 */

export const apiGroup = 'meridian.db';
export const apiVersion = 'v1alpha1';
export const fieldManager = 'meridian-operator';
export const protectFinalizer = 'meridian.db/protect';

export const labels = {
  managedBy: 'app.kubernetes.io/managed-by',
  component: 'app.kubernetes.io/component',
  keyspace: 'meridian.db/keyspace',
  shard: 'meridian.db/shard',
  regionalReplica: 'meridian.db/regional-replica',
  region: 'meridian.db/region',
  role: 'meridian.db/role',
} as const;

export const managedByValue = 'meridian';

export const annotations = {
  /** On a role's Secret: any new value asks for a new password. */
  rotate: 'meridian.db/rotate',
  /** The last value of `rotate` that was served. */
  rotated: 'meridian.db/rotated',
  /** On a Shard: the member, or else the region, that is to become primary; taken away when that is done or refused. */
  switchover: 'meridian.db/switchover',
  /** On a Shard: members (comma-separated) whose Postgres is to stay down; a fenced primary isn't failed over. */
  fence: 'meridian.db/fence',
  /** Digest of what an object was made from. */
  checksum: 'meridian.db/checksum',
} as const;

export const ports = {
  postgres: 5432,
  agentApi: 8420,
  tunnel: 8421,
  memberHttp: 8422,
  /** Lease requests and grants between agents: a thread of its own answers here. */
  lease: 8423,
  routerHttp: 8432,
  operatorHttp: 8080,
} as const;

/** Where things lie in a member's pod. The volume is the PVC; everything under `run` is lost with the pod. */
export const memberPaths = {
  volume: '/var/lib/meridian',
  promise: '/var/lib/meridian/promise',
  orders: '/var/lib/meridian/orders.json',
  pgdata: '/var/lib/meridian/pgdata',
  /** What a rejoin needs to know of itself after a death in the middle; beside the data directory, never in it. */
  rejoin: '/var/lib/meridian/rejoin.json',
  /** Diverged WAL that was put aside before a rewind. */
  kept: '/var/lib/meridian/kept',
  run: '/run/meridian',
  postgresSockets: '/run/meridian/postgres',
  upstreamSockets: '/run/meridian/upstream',
  tls: '/etc/meridian/tls',
} as const;

/** User, group and fsGroup of every container that Meridian makes. */
export const containerUserId = 10001;

export const caSecretName = (keyspace: string): string => `${keyspace}-ca`;
export const operatorTlsSecretName = (keyspace: string): string => `${keyspace}-operator-tls`;
export const routerTlsSecretName = (keyspace: string): string => `${keyspace}-router-tls`;
/** Keys by which routers sign tokens. */
export const tokenKeysSecretName = (keyspace: string): string => `${keyspace}-token-keys`;
export const memberTlsSecretName = (regionalReplica: string): string => `${regionalReplica}-tls`;
/** The Lease object that a primary without acknowledging followers (k = 0) holds. */
export const authorityLeaseName = (shard: string): string => `${shard}-authority`;
export const routerName = (keyspace: string, region: string): string => `${keyspace}-router-${region}`;
/** The headless Service in front of all router pods of a keyspace: where routers find each other. */
export const routerPeersName = (keyspace: string): string => `${keyspace}-routers`;
export const roleSecretName = (keyspace: string, role: string): string =>
  `${keyspace}-role-${role.replaceAll('_', '-')}`;
export const memberServiceAccountName = (keyspace: string): string => `${keyspace}-member`;
export const routerServiceAccountName = (keyspace: string): string => `${keyspace}-router`;
export const memberName = (regionalReplica: string, ordinal: number): string => `${regionalReplica}-${ordinal}`;
