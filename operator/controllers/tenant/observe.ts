/**
 * Gathers what the tenant controller decides upon: from the cache, and for a placed tenant its row on the shard's primary.
 */
import type { Client } from 'pg';
import {
  type PlacementWish,
  type ShardCandidate,
  type ShardCondition,
  withTenantsToCome,
} from '#core/placement/placement.ts';
import { databaseOf } from '#crds/index.ts';
import { findCondition } from '#kube/conditions.ts';
import { secrets } from '#kube/kinds.ts';
import {
  type Keyspace,
  keyspaces,
  type RegionalReplica,
  regionalReplicas,
  type Shard,
  shards,
  type Tenant,
  tenants,
} from '#kube/meridian.ts';
import { keyOf, type Stored } from '#kube/objects.ts';
import { operatorCredentials, operatorCredentialsReference } from '#operator/controllers/keyspace/credentials.ts';
import { hasSchema } from '#operator/controllers/keyspace/plan.ts';
import type { KeptConnections } from '#operator/postgres/kept-connections.ts';
import { readTenants } from '#operator/postgres/ownership/tenants.ts';
import { findPrimary } from '#operator/postgres/primary.ts';
import type { Cache, ObserveContext } from '#operator/runtime/controller.ts';
import type { OwnershipReader } from './ownership-reader.ts';
import type { Placements } from './placements.ts';
import type { Home, OwnershipRow, Rival, RowView, ShardAccess, TenantSnapshot } from './snapshot.ts';

export interface TenantSenses {
  readonly connections: KeptConnections;
  readonly reader: OwnershipReader;
  readonly placements: Placements;
  readonly cleaned: ReadonlySet<string>;
}

export const keyspaceKey = (tenant: Stored<Tenant>): string =>
  keyOf({ namespace: tenant.metadata.namespace, name: tenant.spec.keyspace });

export async function observeTenant(
  tenant: Stored<Tenant>,
  { cache }: ObserveContext,
  senses: TenantSenses,
): Promise<TenantSnapshot> {
  const { namespace, uid } = tenant.metadata;
  const keyspace = cache.get(keyspaces, { namespace, name: tenant.spec.keyspace });
  const home = await observeHome(tenant, keyspace, cache, senses);
  // Nothing below waits, so what it sees belongs together.
  const siblings = cache
    .list(tenants, { namespace })
    .filter(({ metadata, spec }) => spec.keyspace === tenant.spec.keyspace && metadata.uid !== uid);
  const isPlaced = tenant.status?.authority !== undefined;
  return {
    tenant,
    keyspace,
    home,
    rivals: rivalsOf(tenant, siblings, senses.placements),
    candidates: isPlaced ? [] : candidatesFor(tenant, siblings, keyspace, cache, senses.placements),
    access: accessOfShards(tenant, keyspace, cache),
    placementsSeen: senses.placements.version(keyspaceKey(tenant)),
    isCleaned: senses.cleaned.has(uid),
  };
}

function accessOfShards(
  tenant: Stored<Tenant>,
  keyspace: Stored<Keyspace> | undefined,
  cache: Cache,
): ReadonlyMap<string, ShardAccess> {
  const { namespace } = tenant.metadata;
  const access = new Map<string, ShardAccess>();
  if (keyspace === undefined) return access;
  const replicas = cache.list(regionalReplicas, { namespace });
  for (const entry of keyspace.status?.shards ?? []) {
    const shard = hasSchema(entry) ? cache.get(shards, { namespace, name: entry.name }) : undefined;
    const primary = shard === undefined ? undefined : findPrimary(shard, replicas);
    if (primary?.kind === 'found')
      access.set(entry.name, { shard: entry.name, member: primary.target, database: databaseOf(keyspace) });
  }
  return access;
}

function rivalsOf(
  tenant: Stored<Tenant>,
  siblings: readonly Stored<Tenant>[],
  placements: Placements,
): readonly Rival[] {
  const pending = placements.pending(keyspaceKey(tenant), isVisibleIn(siblings));
  return siblings
    .filter(({ spec }) => spec.key === tenant.spec.key)
    .map(({ metadata, status }) => ({
      name: metadata.name,
      creationTimestamp: metadata.creationTimestamp,
      isPlaced: status?.authority !== undefined || pending.has(metadata.uid),
      isDeleting: metadata.deletionTimestamp !== undefined,
    }));
}

/**
 * The cache shows the placement of that tenant, or that it is gone: it was there when it was placed. Else a Tenant that is deleted
 * and made again under the same key would wait for its predecessor for ever.
 */
export const isVisibleIn =
  (siblings: readonly Stored<Tenant>[]) =>
  (uid: string): boolean => {
    const found = siblings.find(({ metadata }) => metadata.uid === uid);
    return found === undefined || found.status?.authority !== undefined;
  };

function candidatesFor(
  tenant: Stored<Tenant>,
  siblings: readonly Stored<Tenant>[],
  keyspace: Stored<Keyspace> | undefined,
  cache: Cache,
  placements: Placements,
): readonly ShardCandidate[] {
  const { namespace } = tenant.metadata;
  const pending = placements.pending(keyspaceKey(tenant), isVisibleIn(siblings));
  const counts = new Map<string, { tenants: number; sizeBytes: number | undefined }>();
  const unplaced: PlacementWish[] = [];
  for (const { metadata, spec, status } of siblings) {
    const shard = status?.authority?.shard ?? pending.get(metadata.uid)?.shard;
    if (shard !== undefined) {
      const count = counts.get(shard) ?? { tenants: 0, sizeBytes: undefined };
      const sizeBytes = status?.sizeBytes === undefined ? count.sizeBytes : (count.sizeBytes ?? 0) + status.sizeBytes;
      counts.set(shard, { tenants: count.tenants + 1, sizeBytes });
    } else if (metadata.deletionTimestamp === undefined && spec.key !== tenant.spec.key)
      unplaced.push({ keyspace: spec.keyspace, shard: spec.shard, allowedRegions: spec.allowedRegions });
  }
  const replicas = cache.list(regionalReplicas, { namespace });
  const candidates = cache.list(shards, { namespace }).map(
    (shard): ShardCandidate => ({
      name: shard.metadata.name,
      keyspace: shard.spec.keyspace,
      condition: conditionOf(shard, keyspace, Date.now()),
      deleting: shard.metadata.deletionTimestamp !== undefined,
      primaryRegion: shard.spec.primaryRegion,
      replicaRegions: regionsOf(shard, replicas),
      tenants: counts.get(shard.metadata.name)?.tenants ?? 0,
      sizeBytes: counts.get(shard.metadata.name)?.sizeBytes,
    }),
  );
  return withTenantsToCome(candidates, unplaced);
}

/** A shard that isn't ready for longer gets no tenant that could go elsewhere. */
const patienceMs = 10 * 60_000;

export function conditionOf(
  shard: Stored<Shard>,
  keyspace: Stored<Keyspace> | undefined,
  nowMs: number,
): ShardCondition {
  const entry = keyspace?.status?.shards?.find(({ name }) => name === shard.metadata.name);
  const ready = findCondition(shard.status?.conditions, 'Ready');
  if (entry !== undefined && hasSchema(entry) && ready?.status === 'True') return 'ready';
  const since = ready === undefined ? shard.metadata.creationTimestamp : ready.lastTransitionTime;
  return nowMs - Date.parse(since) < patienceMs ? 'starting' : 'unavailable';
}

const regionsOf = (shard: Stored<Shard>, replicas: readonly Stored<RegionalReplica>[]): readonly string[] =>
  replicas.filter(({ spec }) => spec.shard === shard.metadata.name).map(({ spec }) => spec.region);

async function observeHome(
  tenant: Stored<Tenant>,
  keyspace: Stored<Keyspace> | undefined,
  cache: Cache,
  senses: TenantSenses,
): Promise<Home | undefined> {
  const authority = tenant.status?.authority;
  if (authority === undefined) return undefined;
  const { namespace } = tenant.metadata;
  const shard = cache.get(shards, { namespace, name: authority.shard });
  if (shard === undefined)
    return {
      shard: authority.shard,
      state: 'absent',
      primaryRegion: '',
      replicaRegions: [],
      hasSchema: false,
      primary: { kind: 'missing', reason: 'ShardNotFound', message: `there is no Shard ${authority.shard}` },
      row: { kind: 'unknown', message: `there is no Shard ${authority.shard}` },
    };
  const replicas = cache.list(regionalReplicas, { namespace });
  const primary = findPrimary(shard, replicas);
  const entry = keyspace?.status?.shards?.find(({ name }) => name === authority.shard);
  const home: Home = {
    shard: authority.shard,
    state: shard.metadata.deletionTimestamp === undefined ? 'present' : 'deleting',
    primaryRegion: shard.spec.primaryRegion,
    replicaRegions: regionsOf(shard, replicas),
    hasSchema: entry !== undefined && hasSchema(entry),
    primary,
    row: { kind: 'unknown', message: `shard ${authority.shard} can't be asked now` },
  };
  return { ...home, row: await readRow(tenant, keyspace, shard, home, cache, senses) };
}

async function readRow(
  tenant: Stored<Tenant>,
  keyspace: Stored<Keyspace> | undefined,
  shard: Stored<Shard>,
  home: Home,
  cache: Cache,
  { connections, reader }: TenantSenses,
): Promise<RowView> {
  const { primary } = home;
  if (keyspace === undefined || !home.hasSchema || primary.kind === 'missing') return home.row;
  const { namespace = '' } = tenant.metadata;
  const secret = cache.get(secrets, operatorCredentialsReference(namespace, keyspace.metadata.name));
  const credentials = operatorCredentials(secret);
  if (credentials === undefined) return { kind: 'unknown', message: "the operator's certificate isn't there yet" };
  const ask = <T>(use: (client: Client) => Promise<T>): Promise<T> =>
    connections.use(primary.target, databaseOf(keyspace), credentials, use);
  const { key } = tenant.spec;
  // What lets go for good must not rest on what is only remembered: the row of a former leader would stay for ever.
  if (tenant.metadata.deletionTimestamp !== undefined)
    return ask((client) => readRowNow(client, key)).catch(unknownRow);
  const identity = { uid: shard.metadata.uid, epoch: primary.epoch, incarnation: primary.incarnation };
  return reader.row(identity, key, () => ask(readTenants));
}

async function readRowNow(client: Client, key: string): Promise<RowView> {
  const { rows } = await client.query<{ epoch: string; state: OwnershipRow['state']; attempt: number }>(
    'select epoch, state, attempt from meridian.ownership where key = $1',
    [key],
  );
  const row = rows[0];
  return row === undefined ? { kind: 'absent' } : { kind: 'present', row: { ...row, epoch: Number(row.epoch) } };
}

const unknownRow = (error: unknown): RowView => ({
  kind: 'unknown',
  message: (error instanceof Error ? error.message : String(error)).slice(0, 500),
});
