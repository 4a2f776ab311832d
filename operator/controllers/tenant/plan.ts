/**
 * What to do for a tenant, and what to say of it. Pure.
 * Placing is one compare-and-swap on `status.authority`; only what is recorded there is then written to the shard. A placed tenant is
 * never placed again: that is what moves are for.
 *
 * What comes after placing is in `ownership.ts`, and the end in `farewell.ts`.
 * Invariant: of several Tenants with one key at most one is placed, and nothing is written to a shard for any other.
 */
import { type PlacementWish, placeTenant } from '#core/placement/placement.ts';
import type { Finding } from '#kube/conditions.ts';
import type { TenantPlan } from './actions.ts';
import { planFarewell } from './farewell.ts';
import { bad, good } from './findings.ts';
import { tenantKeyProblem } from './key.ts';
import { planOwnership } from './ownership.ts';
import { holderOf, selfOf } from './rivals.ts';
import type { TenantSnapshot } from './snapshot.ts';

export function planTenant(snapshot: TenantSnapshot): TenantPlan {
  if (snapshot.tenant.metadata.deletionTimestamp !== undefined) return planFarewell(snapshot);
  const obstacle = keyspaceObstacle(snapshot) ?? conflictObstacle(snapshot);
  if (obstacle !== undefined) return unplaced(snapshot, obstacle.phase, obstacle.finding);
  const authority = snapshot.tenant.status?.authority;
  return authority === undefined ? planPlacement(snapshot) : planOwnership(snapshot, authority);
}

interface Obstacle {
  readonly phase: string;
  readonly finding: Finding;
}

function keyspaceObstacle({ tenant, keyspace }: TenantSnapshot): Obstacle | undefined {
  const name = tenant.spec.keyspace;
  if (keyspace === undefined)
    return {
      phase: 'Pending',
      finding: bad('Placed', 'KeyspaceNotFound', `spec.keyspace names ${name}, and there is no such Keyspace`),
    };
  const problem = tenantKeyProblem(tenant.spec.key, keyspace.spec.tenantKey.type);
  if (problem !== undefined)
    return {
      phase: 'Invalid',
      finding: bad('Placed', 'KeyInvalid', `${problem}: make a Tenant with such a key`, true),
    };
  if (keyspace.metadata.deletionTimestamp !== undefined && tenant.status?.authority === undefined)
    return { phase: 'Pending', finding: bad('Placed', 'KeyspaceDeleting', `keyspace ${name} is being deleted`) };
  return undefined;
}

function conflictObstacle(snapshot: TenantSnapshot): Obstacle | undefined {
  const holder = holderOf(selfOf(snapshot), snapshot.rivals);
  if (holder === undefined) return undefined;
  const { key, keyspace } = snapshot.tenant.spec;
  return {
    phase: 'Conflict',
    finding: bad(
      'Placed',
      'Conflict',
      `Tenant ${holder.name} has the key ${JSON.stringify(key)} of keyspace ${keyspace} already: delete one of the two`,
      true,
    ),
  };
}

/** The status of a tenant that can't be served, with what is recorded kept. */
function unplaced(snapshot: TenantSnapshot, phase: string, finding: Finding): TenantPlan {
  const { authority, placedAt, sizeBytes } = snapshot.tenant.status ?? {};
  return {
    actions: [],
    status: {
      phase,
      ...(authority === undefined ? {} : { authority }),
      ...(placedAt === undefined ? {} : { placedAt }),
      ...(sizeBytes === undefined ? {} : { sizeBytes }),
    },
    conditions: [bad('Ready', finding.reason, finding.message), finding],
  };
}

function planPlacement(snapshot: TenantSnapshot): TenantPlan {
  const { spec } = snapshot.tenant;
  const wish: PlacementWish = { keyspace: spec.keyspace, shard: spec.shard, allowedRegions: spec.allowedRegions };
  const placement = placeTenant(wish, snapshot.candidates);
  if (placement.kind === 'refused') {
    const isWaiting = placement.reason === 'ShardNotReady' || placement.reason === 'NoShards';
    const finding = bad('Placed', placement.reason, placement.message, !isWaiting);
    // Shards become unavailable by time alone, which no watch tells.
    return { ...unplaced(snapshot, 'Pending', finding), requeueAfterMs: 60_000 };
  }
  return {
    actions: [
      {
        kind: 'place',
        shard: placement.shard,
        key: spec.key,
        access: snapshot.access.get(placement.shard),
        placementsSeen: snapshot.placementsSeen,
      },
    ],
    status: { phase: 'Placed' },
    conditions: [
      bad('Ready', 'Placed', `placed ${placement.message}; the shard is told next`),
      good('Placed', 'Placed', placement.message),
    ],
    // The round that follows sees the record and writes the row.
    requeueAfterMs: 0,
  };
}
