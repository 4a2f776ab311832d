/**
 * A Tenant that goes. Pure.
 */
import type { TenantPlan } from './actions.ts';
import { bad } from './findings.ts';
import { accessOf } from './ownership.ts';
import { holderOf, selfOf } from './rivals.ts';
import type { Home, TenantSnapshot } from './snapshot.ts';

/** How soon to ask a shard again that didn't answer. */
const retryMs = 2_000;

/**
 * Lets go at once where there is nothing to undo: never placed, not the holder of its key, or its keyspace
 * or shard gone or going (then rows go, or stay, with the shard's volumes).
 */
export function planFarewell(snapshot: TenantSnapshot): TenantPlan {
  const { tenant, keyspace, home } = snapshot;
  const authority = tenant.status?.authority;
  const isHolder = holderOf(selfOf(snapshot), snapshot.rivals) === undefined;
  const isOrphan =
    keyspace === undefined || keyspace.metadata.deletionTimestamp !== undefined || home?.state !== 'present';
  if (authority === undefined || !isHolder || isOrphan || snapshot.isCleaned) return { actions: [], release: true };
  const status = { ...recordedOf(tenant), phase: 'Deleting' };
  const access = accessOf(snapshot);
  if (access === undefined || home.row.kind === 'unknown')
    return {
      actions: [],
      status,
      conditions: [bad('Ready', 'DeletionWaiting', `deletion waits for shard ${authority.shard}: ${waitingFor(home)}`)],
      requeueAfterMs: retryMs,
    };
  const { key, deletionPolicy } = tenant.spec;
  const row = home.row.kind === 'present' ? home.row.row : undefined;
  const conditions = [bad('Ready', 'Deleting', 'the tenant is being deleted')];
  if (deletionPolicy === 'Delete')
    return { actions: [{ kind: 'clean', access, key, row }], status, conditions, requeueAfterMs: 0 };
  // Nothing is said: the object is gone with the same round.
  return { actions: row === undefined ? [] : [{ kind: 'disown', access, key, row }], release: true };
}

const waitingFor = (home: Home): string => {
  if (home.primary.kind === 'missing') return home.primary.message;
  return home.row.kind === 'unknown' ? home.row.message : "it doesn't have the keyspace's schema";
};

function recordedOf(tenant: TenantSnapshot['tenant']) {
  const { conditions: _conditions, observedGeneration: _generation, ...recorded } = tenant.status ?? {};
  return recorded;
}
