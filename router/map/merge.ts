/**
 * Takes a new map over the present one. Authority never goes back: of a shard or a tenant the higher epoch stays, whatever
 * a late or restarted source says (docs/design.md, section 6; traps A19, ambiguity 25).
 */
import type { ClusterMap, ShardView, TenantView } from './map.ts';

function newer<T extends { readonly epoch: number; readonly uid?: string | undefined }>(
  before: T | undefined,
  after: T,
): T {
  return before !== undefined && before.uid === after.uid && before.epoch > after.epoch ? before : after;
}

/** An epoch that a member's agent knows of and the source of maps doesn't, yet. The same map where it is none that is higher. */
export function withAuthority(map: ClusterMap, shard: string, epoch: number, primary: string): ClusterMap {
  const before = map.shards.get(shard);
  if (before === undefined || before.epoch >= epoch) return map;
  return { ...map, shards: new Map(map.shards).set(shard, { ...before, epoch, primary, target: undefined }) };
}

/** What is gone from `after` is gone: a name that comes back later starts without a memory of its old epoch. */
export function mergeMaps(before: ClusterMap | undefined, after: ClusterMap): ClusterMap {
  if (before === undefined) return after;
  const shards = new Map<string, ShardView>();
  for (const [name, shard] of after.shards) shards.set(name, newer(before.shards.get(name), shard));
  const tenants = new Map<string, TenantView>();
  for (const [key, tenant] of after.tenants) tenants.set(key, newer(before.tenants.get(key), tenant));
  return { ...after, shards, tenants };
}
