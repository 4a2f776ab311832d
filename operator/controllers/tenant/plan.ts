/**
 * What to do for a tenant, and what to say of it. Pure.
 * Placing is one compare-and-swap on `status.authority`; only what is recorded there is then written to the shard. A placed tenant is
 * never placed again: that is what moves are for.
 *
 * Invariants: of several Tenants with one key at most one is placed; nothing is written to a shard for a Tenant that isn't the
 * holder of its key; a shard that can't be reached for a moment changes nothing in the status (there may be very many tenants).
 */
import { type PlacementWish, placeTenant, residencyObstacle } from '#core/placement/placement.ts';
import type { TenantAuthority } from '#crds/index.ts';
import { type Finding, findCondition, isTrue } from '#kube/conditions.ts';
import type { Tenant } from '#kube/meridian.ts';
import type { TenantChangeResult } from '#operator/postgres/ownership/tenants.ts';
import type { ActionResult, Conclusion, Plan } from '#operator/runtime/controller.ts';
import { tenantKeyProblem } from './key.ts';
import type { Home, OwnershipRow, Rival, ShardAccess, TenantSnapshot } from './snapshot.ts';

/** What placing found. `superseded`: somebody was placed since the loads were counted, and nothing was recorded. */
export type PlacementOutcome = 'superseded' | 'recorded' | TenantChangeResult;

export type TenantAction =
  /** Records the shard and, where it can be reached, has it own the tenant at once. */
  | {
      readonly kind: 'place';
      readonly shard: string;
      readonly key: string;
      readonly access: ShardAccess | undefined;
      readonly placementsSeen: number;
    }
  /** Writes the ownership row that `authority` says, where there is none. */
  | { readonly kind: 'own'; readonly access: ShardAccess; readonly key: string; readonly authority: TenantAuthority }
  /** Takes the row away, so that the shard refuses the tenant's writes; rows stay. */
  | { readonly kind: 'disown'; readonly access: ShardAccess; readonly key: string; readonly row: OwnershipRow }
  /** Takes the tenant's rows away, a batch after the other, then the ownership row. */
  | {
      readonly kind: 'clean';
      readonly access: ShardAccess;
      readonly key: string;
      readonly row: OwnershipRow | undefined;
    };

type TenantPlan = Plan<Tenant, TenantAction>;

const good = (type: string, reason: string, message: string): Finding => ({ type, status: 'True', reason, message });
const bad = (type: string, reason: string, message: string, warning = false): Finding => ({
  type,
  status: 'False',
  reason,
  message,
  ...(warning ? { warning } : {}),
});

/** How soon to look again at what no watch tells of. */
const retryMs = 2_000;
const verifyMs = 10 * 60_000;

export function planTenant(snapshot: TenantSnapshot): TenantPlan {
  if (snapshot.tenant.metadata.deletionTimestamp !== undefined) return planFarewell(snapshot);
  const obstacle = keyspaceObstacle(snapshot) ?? conflictObstacle(snapshot);
  if (obstacle !== undefined) return unplaced(snapshot, obstacle.phase, obstacle.finding);
  const authority = snapshot.tenant.status?.authority;
  return authority === undefined ? planPlacement(snapshot) : planOwnership(snapshot, authority);
}

const placedFinding = ({ shard, epoch }: TenantAuthority): Finding =>
  good('Placed', 'Placed', `on shard ${shard} since epoch ${epoch}`);

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

const selfOf = ({ tenant }: TenantSnapshot): Rival => ({
  name: tenant.metadata.name,
  creationTimestamp: tenant.metadata.creationTimestamp,
  isPlaced: tenant.status?.authority !== undefined,
  isDeleting: tenant.metadata.deletionTimestamp !== undefined,
});

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

function planOwnership(snapshot: TenantSnapshot, authority: TenantAuthority): TenantPlan {
  const { tenant, home } = snapshot;
  const { placedAt, sizeBytes } = tenant.status ?? {};
  const recorded = {
    authority,
    ...(placedAt === undefined ? {} : { placedAt }),
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
  };
  const always = [placedFinding(authority), ...moveNeeded(tenant, authority), ...residencyHeld(tenant, home)];
  const judgement = judgeOwnership(snapshot, authority);
  if (judgement.kind === 'keep') {
    const wasOwned = isTrue(tenant.status?.conditions, 'Owned');
    return {
      actions: [],
      status: { phase: wasOwned ? (tenant.status?.phase ?? 'Ready') : 'Placed', ...recorded },
      // What was true when the shard could last be asked stays said; only a tenant never owned yet says what it waits for.
      conditions: wasOwned
        ? always
        : [
            bad('Ready', judgement.reason, judgement.message),
            ...always,
            bad('Owned', judgement.reason, judgement.message),
          ],
      requeueAfterMs: wasOwned ? verifyMs : retryMs,
    };
  }
  if (judgement.kind === 'owned') return owned(recorded, always, authority);
  const isWriting = judgement.kind === 'own';
  const reason = isWriting ? 'Writing' : judgement.reason;
  const message = isWriting ? `shard ${authority.shard} is being told` : judgement.message;
  return {
    actions: isWriting ? [{ kind: 'own', access: judgement.access, key: tenant.spec.key, authority }] : [],
    status: { phase: isWriting ? 'Placed' : 'Blocked', ...recorded },
    conditions: [bad('Ready', reason, message), ...always, bad('Owned', reason, message, !isWriting)],
    requeueAfterMs: isWriting ? retryMs : verifyMs,
  };
}

const owned = (
  recorded: Omit<NonNullable<TenantPlan['status']>, 'phase'>,
  always: readonly Finding[],
  authority: TenantAuthority,
): TenantPlan => ({
  actions: [],
  status: { phase: 'Ready', ...recorded },
  conditions: [
    good('Ready', 'Ready', `shard ${authority.shard} accepts its writes`),
    ...always,
    good('Owned', 'RowWritten', `shard ${authority.shard} owns it at epoch ${authority.epoch}`),
  ],
  requeueAfterMs: verifyMs,
});

/** What the actions found put over what the plan said before them. */
export function concludeTenant(
  snapshot: TenantSnapshot,
  plan: TenantPlan,
  results: readonly ActionResult<TenantAction>[],
): Conclusion<Tenant> {
  const [result] = results;
  if (result?.outcome !== 'done') return plan;
  if (result.action.kind === 'place')
    return concludePlacement(snapshot, plan, result.action.shard, result.value as PlacementOutcome);
  if (result.action.kind !== 'own') return plan;
  const { authority } = result.action;
  const change = result.value as TenantChangeResult;
  const row: OwnershipRow | undefined =
    change.kind === 'refused' ? change.found : { epoch: authority.epoch, state: 'active', attempt: authority.attempt };
  if (row === undefined || snapshot.home === undefined) return plan;
  const { actions: _none, ...conclusion } = planOwnership(
    { ...snapshot, home: { ...snapshot.home, row: { kind: 'present', row } } },
    authority,
  );
  return conclusion;
}

function concludePlacement(
  snapshot: TenantSnapshot,
  plan: TenantPlan,
  shard: string,
  outcome: PlacementOutcome,
): Conclusion<Tenant> {
  // The loads that the choice rested on are old: look again, say nothing.
  if (outcome === 'superseded') return { requeueAfterMs: againMs };
  if (outcome === 'recorded' || outcome.kind === 'refused') return plan;
  const authority: TenantAuthority = { shard, epoch: 1, state: 'active', attempt: 0 };
  const residency =
    snapshot.tenant.spec.allowedRegions === undefined
      ? []
      : [good('ResidencyHeld', 'Held', `every region of shard ${shard} is allowed`)];
  const { actions: _none, ...conclusion } = owned({ authority }, [placedFinding(authority), ...residency], authority);
  return conclusion;
}

const againMs = 20;

type OwnershipJudgement =
  | { readonly kind: 'owned' }
  | { readonly kind: 'own'; readonly access: ShardAccess }
  /** Nothing can be learnt or done now. */
  | { readonly kind: 'keep'; readonly reason: string; readonly message: string }
  | { readonly kind: 'not owned'; readonly phase: string; readonly reason: string; readonly message: string };

function judgeOwnership(snapshot: TenantSnapshot, authority: TenantAuthority): OwnershipJudgement {
  const { home } = snapshot;
  if (home === undefined || home.state === 'absent')
    return {
      kind: 'not owned',
      phase: 'Blocked',
      reason: 'ShardNotFound',
      message: `its shard ${authority.shard} is gone: make the Shard again over its volumes, or delete this Tenant`,
    };
  if (authority.state !== 'active')
    return {
      kind: 'keep',
      reason: 'Switching',
      message: `a move of the tenant is deciding (attempt ${authority.attempt})`,
    };
  const access = accessOf(snapshot);
  if (access === undefined)
    return home.primary.kind === 'missing'
      ? { kind: 'keep', reason: home.primary.reason, message: home.primary.message }
      : {
          kind: 'keep',
          reason: 'SchemaMissing',
          message: `shard ${home.shard} doesn't have the keyspace's schema yet`,
        };
  switch (home.row.kind) {
    case 'unknown':
      return { kind: 'keep', reason: 'ShardNotReached', message: home.row.message };
    case 'absent':
      return { kind: 'own', access };
    case 'present': {
      const { epoch, state } = home.row.row;
      if (epoch === authority.epoch && state === 'active') return { kind: 'owned' };
      return {
        kind: 'not owned',
        phase: 'Blocked',
        reason: 'OtherState',
        message: `shard ${home.shard} has it as ${state} at epoch ${epoch}, the record says active at epoch ${authority.epoch}`,
      };
    }
  }
}

/** How to reach the shard that owns the tenant; undefined while it can't be. */
const accessOf = ({ access, home }: TenantSnapshot): ShardAccess | undefined =>
  home === undefined ? undefined : access.get(home.shard);

/** Said where there is something to say, or was: tenants are many, and each condition is kept for each of them. */
const spare = (tenant: TenantSnapshot['tenant'], finding: Finding, isWorthSaying: boolean): readonly Finding[] =>
  isWorthSaying || findCondition(tenant.status?.conditions, finding.type) !== undefined ? [finding] : [];

function moveNeeded(tenant: TenantSnapshot['tenant'], authority: TenantAuthority): readonly Finding[] {
  const type = 'MoveNeeded';
  const wanted = tenant.spec.shard;
  if (wanted === undefined || wanted === authority.shard)
    return spare(tenant, bad(type, 'InPlace', 'it is where the spec wants it'), false);
  const message = `it is on shard ${authority.shard} and spec.shard wants ${wanted}: moves come with TenantMove; nothing changes by itself`;
  return [good(type, 'OtherShardWanted', message)];
}

function residencyHeld(tenant: TenantSnapshot['tenant'], home: Home | undefined): readonly Finding[] {
  const type = 'ResidencyHeld';
  const { allowedRegions } = tenant.spec;
  if (allowedRegions === undefined) return spare(tenant, good(type, 'Unrestricted', 'every region is allowed'), false);
  if (home === undefined || home.state === 'absent')
    return [{ type, status: 'Unknown', reason: 'ShardNotFound', message: 'its shard is gone, so nothing is known' }];
  const obstacle = residencyObstacle({ ...home, name: home.shard }, allowedRegions);
  return obstacle?.reason === 'ResidencyForbids'
    ? [bad(type, obstacle.reason, `${obstacle.message}: take the RegionalReplica away, or move the tenant`, true)]
    : [good(type, 'Held', `every region of shard ${home.shard} is allowed`)];
}

/**
 * A Tenant that goes. It lets go at once where there is nothing to undo: never placed, not the holder of its key, or its keyspace
 * or shard gone or going (then rows go, or stay, with the shard's volumes).
 */
function planFarewell(snapshot: TenantSnapshot): TenantPlan {
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
