/**
 * The map from the API server's objects: pure. Objects may arrive in any order and name what isn't there yet; such parts are left
 * out until it is. Undefined while the keyspace itself isn't there.
 */

import { ports } from '#core/names.ts';
import { databaseOf } from '#crds/keyspace.ts';
import type { Keyspace, Region, RegionalReplica, Shard, Tenant } from '#kube/meridian.ts';
import type { ClusterMap, KeyspaceView, Limits, MemberView, ShardView, TenantView } from './map.ts';

export interface KeyspaceObjects {
  readonly keyspace: Keyspace | undefined;
  readonly shards: readonly Shard[];
  readonly regionalReplicas: readonly RegionalReplica[];
  readonly tenants: readonly Tenant[];
  readonly regions: readonly Region[];
}

/** `name`: which keyspace is served; objects of others are passed over. */
export function mapOfObjects(name: string, objects: KeyspaceObjects): ClusterMap | undefined {
  const { keyspace } = objects;
  if (keyspace === undefined) return undefined;
  const shards = new Map<string, ShardView>();
  for (const shard of objects.shards) if (shard.spec.keyspace === name) shards.set(shard.metadata.name, shardOf(shard));
  const members = new Map<string, MemberView>();
  for (const replica of objects.regionalReplicas) {
    if (!shards.has(replica.spec.shard)) continue;
    for (const member of replica.status?.members ?? []) {
      if (member.address === undefined || member.address === '') continue;
      members.set(member.name, {
        name: member.name,
        shard: replica.spec.shard,
        region: replica.spec.region,
        address: member.address,
        port: ports.postgres,
        agentPort: ports.agentApi,
        ready: member.role !== 'none',
      });
    }
  }
  const tenants = new Map<string, TenantView>();
  for (const tenant of objects.tenants) {
    const authority = tenant.status?.authority;
    if (tenant.spec.keyspace !== name || authority === undefined) continue;
    const { shard, epoch, state } = authority;
    const limits = limitsOf(tenant.spec.limits);
    tenants.set(tenant.spec.key, { key: tenant.spec.key, uid: tenant.metadata.uid, shard, epoch, state, limits });
  }
  return {
    keyspace: keyspaceOf(keyspace),
    shards,
    members,
    tenants,
    proximity: new Map(objects.regions.map((region) => [region.metadata.name, region.spec.proximity])),
  };
}

function shardOf(shard: Shard): ShardView {
  const authority = shard.status?.authority;
  return {
    name: shard.metadata.name,
    uid: shard.metadata.uid,
    epoch: authority?.epoch ?? 0,
    // One that is about to be handed over serves until its agent says that it stops.
    primary: authority === undefined || authority.state === 'Initialising' ? undefined : authority.member,
    target: authority?.state === 'Stopping' ? authority.target?.name : undefined,
    history: shard.status?.history,
  };
}

function keyspaceOf(keyspace: Keyspace): KeyspaceView {
  const { tenantKey, consistency, routers, roles } = keyspace.spec;
  return {
    name: keyspace.metadata.name,
    database: databaseOf(keyspace),
    tenantColumn: tenantKey.column,
    tenantType: tenantKey.type,
    consistency: {
      default: consistency.default,
      maxStalenessMs: consistency.maxStalenessMs,
      rules: consistency.rules,
    },
    poolSize: routers.poolSize,
    roles: roles.map(({ name }) => name),
    certificateRoles: roles.flatMap(({ name, clientCertificate }) => (clientCertificate === true ? [name] : [])),
    roleLimits: Object.fromEntries(
      roles.flatMap(({ name, limits }) => {
        const some = limitsOf(limits);
        return some === undefined ? [] : [[name, some]];
      }),
    ),
    admins: Object.fromEntries(roles.flatMap(({ name, admin }) => (admin === undefined ? [] : [[name, admin]]))),
    maxClients: routers.maxClients,
    idleSessionMs: routers.idleSessionTimeoutMs,
    idleInTransactionMs: routers.idleInTransactionSessionTimeoutMs,
  };
}

/** Objects of before the limits were declared have none. */
const limitsOf = (limits: Limits | undefined): Limits | undefined =>
  limits === undefined || Object.values(limits).every((value) => value === undefined) ? undefined : limits;
