/**
 * Has the shard of a placed tenant own it, and says whether it does. Pure.
 * Invariants: only what `status.authority` records is written to a shard; a shard that can't be reached for a moment changes nothing
 * in the status (there may be very many tenants).
 */
import type { TenantAuthority } from '#crds/index.ts';
import { type Finding, isTrue } from '#kube/conditions.ts';
import type { Tenant } from '#kube/meridian.ts';
import type { TenantChangeResult } from '#operator/postgres/ownership/tenants.ts';
import type { ActionResult, Conclusion } from '#operator/runtime/controller.ts';
import type { PlacementOutcome, TenantAction, TenantPlan } from './actions.ts';
import { bad, good, moveNeeded, placedFinding, residencyHeld } from './findings.ts';
import type { OwnershipRow, ShardAccess, TenantSnapshot } from './snapshot.ts';

/** How soon to look again at what no watch tells of. */
const retryMs = 2_000;
const verifyMs = 10 * 60_000;
const againMs = 20;

export function planOwnership(snapshot: TenantSnapshot, authority: TenantAuthority): TenantPlan {
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
export const accessOf = ({ access, home }: TenantSnapshot): ShardAccess | undefined =>
  home === undefined ? undefined : access.get(home.shard);
