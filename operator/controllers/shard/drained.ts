/**
 * Regions from which all authority is to move (`Region.spec.drain`): which they are, and which shards are next. Pure.
 * A bounded number of primaries moves out of one region at once, the most important shards first; a shard that can't move
 * doesn't hold the others up.
 */
import { findCondition } from '#kube/conditions.ts';
import { regions, type Shard, shards } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import type { Cache } from '../../runtime/controller.ts';

/** How many primaries of one region are on the move at once: each costs its writers a pause, and its followers a burst. */
export const drainAtOnce = 4;

/** No primary is placed in one of these while another region can have it. */
export const drainedRegions = (cache: Cache, namespace: string | undefined): ReadonlySet<string> =>
  new Set(
    cache
      .list(regions, { namespace })
      .filter(({ spec }) => spec.drain)
      .map(({ metadata }) => metadata.name),
  );

/** Whether this shard's primary may leave its region now. Those before it have gone by the time the cache no longer has them there. */
export function drainTurn(shard: Stored<Shard>, cache: Cache): boolean {
  const region = shard.status?.authority?.region;
  if (region === undefined) return false;
  const others = cache
    .list(shards, { namespace: shard.metadata.namespace })
    .filter(({ metadata, status }) => metadata.uid !== shard.metadata.uid && status?.authority?.region === region)
    .filter(({ status }) => findCondition(status?.conditions, 'SwitchoverPossible')?.status !== 'False');
  return others.filter((other) => comesBefore(other, shard)).length < drainAtOnce;
}

export const comesBefore = (a: Shard, b: Shard): boolean => {
  const difference = b.spec.failover.priority - a.spec.failover.priority;
  return difference === 0 ? a.metadata.name < b.metadata.name : difference < 0;
};
