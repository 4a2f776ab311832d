/**
 * Which volumes go with a Shard whose deletionPolicy is Delete. Pure.
 * Invariant: never those of an earlier Shard of the same name that were to be kept. A claim is older than the Shard only if it
 * was made for another: nothing of ours makes claims before their Shard.
 */
import type { PersistentVolumeClaim } from '#kube/kinds.ts';
import type { Shard } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';

export interface OwnedClaim {
  readonly name: string;
  readonly uid: string;
}

/** Both times are the API server's, in whole seconds: a Shard and its claims may well be made within the same one. */
export function ownClaims(shard: Stored<Shard>, claims: readonly Stored<PersistentVolumeClaim>[]): OwnedClaim[] {
  const since = Date.parse(shard.metadata.creationTimestamp);
  return claims
    .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
    .filter(({ metadata }) => Date.parse(metadata.creationTimestamp) >= since)
    .map(({ metadata }) => ({ name: metadata.name, uid: metadata.uid }));
}
