/**
 * Which of several Tenants with one key of one keyspace holds it. Pure, and the same whoever of them looks.
 * Invariant: at most one holds it, and a placed one before any other, so that no shard is told to own a tenant twice.
 */
import type { Rival, TenantSnapshot } from './snapshot.ts';

/** The Tenant that holds the key, where it isn't this one. */
export function holderOf(self: Rival, rivals: readonly Rival[]): Rival | undefined {
  // One that goes and was never placed holds nothing; one that was, holds until it is gone.
  const first = [self, ...rivals.filter((rival) => rival.isPlaced || !rival.isDeleting)].toSorted(compareClaims)[0];
  return first === self ? undefined : first;
}

/** Placed before unplaced, then older, then by name. */
function compareClaims(a: Rival, b: Rival): number {
  if (a.isPlaced !== b.isPlaced) return a.isPlaced ? -1 : 1;
  if (a.creationTimestamp !== b.creationTimestamp) return a.creationTimestamp < b.creationTimestamp ? -1 : 1;
  return a.name < b.name ? -1 : 1;
}

/** The tenant itself, as the others see it. */
export const selfOf = ({ tenant }: TenantSnapshot): Rival => ({
  name: tenant.metadata.name,
  creationTimestamp: tenant.metadata.creationTimestamp,
  isPlaced: tenant.status?.authority !== undefined,
  isDeleting: tenant.metadata.deletionTimestamp !== undefined,
});
