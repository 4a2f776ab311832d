/** Where a transaction runs: whether a statement may run there, too (it stays where it began), what goes ahead of it, what it leaves. */
import { nowhere } from '#core/consistency/position.ts';
import type { Lease } from '../authority/lease.ts';
import type { FollowerRead } from '../consistency/follower-read.ts';
import type { SessionPositions } from '../consistency/session-positions.ts';
import { RouterError } from '../errors.ts';
import type { ChosenMember } from '../exec/member-choice.ts';
import { anyRoute, type Route, shardReadAt } from '../exec/route.ts';
import type { StatementPlan } from '../plan/types.ts';
import type { Backend } from '../pool/backend.ts';
import { quoteLiteral } from '../pool/hygiene.ts';
import type { Pool } from '../pool/pool.ts';
import { mayChangeKeeping } from './keeping.ts';
import { mayTaintSession } from './statement-class.ts';

export interface Bound {
  readonly backend: Backend;
  readonly pool: Pool;
  readonly chosen: ChosenMember;
  /** Under which its answers count; undefined while nothing was asked of it that needs one. */
  lease: Lease | undefined;
  /** What had been said of the transaction before it had its place. */
  readonly begun: readonly string[];
  /** What it is pinned to: undefined while no statement has named a tenant. */
  tenant: string | undefined;
  /** The pin has to be set (again) before the next statement. */
  needsPin: boolean;
  /** At a follower, where something is asked of it. */
  readonly read: FollowerRead | undefined;
  /** Tokens that the session had taken up when it was borrowed. */
  readonly adoptions: number;
  /** What was read there is known to be durable. */
  isProven: boolean;
  /** Something was sent in its transaction that may write. */
  mayHaveWritten: boolean;
  /** Something of the answer under way is the client's already. */
  hasAnswered: boolean;
  /** The session keeps it between transactions (keeping.ts). */
  isKept: boolean;
  /** Something has run since the backend was last asked that may have begun or ended what it is kept for. */
  isToBeAsked: boolean;
  /** Settings that functions have set since then, by name: the session has them from now on. */
  configured: readonly string[];
}

/** Just borrowed, for a request of that tenant. */
export const boundTo = (
  { backend, pool, chosen, lease, read }: Pick<Bound, 'backend' | 'pool' | 'chosen' | 'lease' | 'read'>,
  { begun, tenant, needsPin, adoptions }: Pick<Bound, 'begun' | 'tenant' | 'needsPin' | 'adoptions'>,
): Bound => ({
  backend,
  pool,
  chosen,
  lease,
  begun,
  tenant,
  needsPin,
  isKept: false,
  isToBeAsked: false,
  configured: [],
  read,
  mayHaveWritten: false,
  hasAnswered: false,
  isProven: false,
  adoptions,
});

/**
 * Another statement of its transaction: it stays where it began, and what ran so far may have needed no lease, and no tenant.
 * @throws RouterError for what would have to run elsewhere.
 */
export function stay(
  bound: Bound,
  route: Route,
  isPinnedBySetting: boolean,
  authority: { leaseOf(member: string): Lease | undefined },
  seen: SessionPositions,
): void {
  expectToStay(bound, route, seen);
  const { isPrimary, member } = bound.chosen;
  const readsBelowStrong = isPrimary && route.shard !== undefined && route.level !== 'eventual';
  if ((route.primaryOnly || readsBelowStrong) && bound.lease === undefined) {
    bound.lease = authority.leaseOf(member.name);
    if (bound.lease === undefined)
      throw new RouterError('NoMember', `the primary of shard "${member.shard}" is not open now`);
    bound.backend.believeUnder(bound.lease);
  }
  if (bound.tenant !== undefined || route.tenant === undefined) return;
  bound.tenant = route.tenant;
  bound.needsPin = isPinnedBySetting;
}

/** Without another token nothing is to be seen that wasn't when it began: where it reads now it has read before. */
const asBegun = { floor: nowhere, isAhead: false };

function expectToStay({ tenant, chosen, isKept, read, adoptions }: Bound, route: Route, seen: SessionPositions): void {
  if (route === anyRoute) return;
  if (tenant !== undefined && route.tenant !== undefined && route.tenant !== tenant)
    throw new RouterError(
      'OtherTenant',
      `the statement is for tenant "${route.tenant}", but the transaction is tenant "${tenant}"'s`,
    );
  const { member, isPrimary } = chosen;
  if (route.shard !== undefined && route.shard !== member.shard)
    throw isKept
      ? new RouterError('OtherShard', `the session keeps its connection to shard "${member.shard}"`, {
          hint: 'It listens, or has session locks, temporary tables or the like: DISCARD ALL lets go of them.',
        })
      : new RouterError('OtherShard', `the transaction already runs on shard "${member.shard}"`);
  // Its snapshot may be older than any check that could still be made.
  const shard = shardReadAt(route, member.shard);
  if (shard !== undefined && route.level !== 'strong' && !route.primaryOnly) {
    const { floor, isAhead } =
      seen.adoptions === adoptions ? asBegun : seen.demand(shard, route.level, route.maxStalenessMs);
    if (isPrimary ? isAhead && !isKept : read?.serves(route, floor) !== true)
      throw new RouterError('NotOnFollower', `this statement asks for more than the transaction's follower was asked`, {
        hint: 'Set the level, and the token, before the transaction begins.',
      });
  }
  if (route.primaryOnly && !isPrimary)
    throw new RouterError('NotOnFollower', 'this statement needs the primary, but the transaction reads on a follower');
}

/**
 * Goes ahead of the client's own, with a Sync of its own (trap B17). Where it fails the session has no tenant, and sees no rows.
 */
export function pinStatements(bound: Bound, pin: string): string[] {
  if (!bound.needsPin) return [];
  bound.needsPin = false;
  const { backend } = bound;
  // It has been let alone since it was set: for the same tenant once more.
  if (backend.isPinTrusted && (backend.pin ?? '') === pin) return [];
  backend.pin = pin;
  return [`SET meridian.tenant = ${quoteLiteral(pin)}`];
}

/** It should have been impossible: what followed has run outside its transaction, and nobody may take it for done. */
export function beginFailed(error: ReadonlyMap<string, string> | undefined, backend: Backend): void {
  if (error !== undefined && !backend.isClosed) backend.close(`BEGIN failed: ${error.get('M') ?? ''}`);
}

/** Notes at the backend what these statements may leave in it. */
export function suspect(
  bound: Bound,
  plans: readonly (StatementPlan | undefined)[],
  volatileFunctions: ReadonlySet<string>,
): void {
  for (const plan of plans) {
    if (plan?.mayShare !== true) bound.backend.isPinTrusted = false;
    if (plan === undefined) continue;
    if (mayTaintSession(plan, volatileFunctions)) bound.backend.isSuspect = true;
    if (mayChangeKeeping(plan, volatileFunctions, bound.isKept)) bound.isToBeAsked = true;
    if (plan.configures !== undefined) bound.configured = [...new Set([...bound.configured, ...plan.configures])];
  }
}

/** Statements of the router's own; called back when all are answered, with the first error there was. */
export function sayFirst(
  backend: Backend,
  statements: readonly string[],
  answered: (failure: ReadonlyMap<string, string> | undefined) => void,
): void {
  let left = statements.length;
  let failure: ReadonlyMap<string, string> | undefined;
  const bytes = statements.map((sql) =>
    backend.ownQuery(sql, ({ error }) => {
      failure ??= error;
      left -= 1;
      if (left === 0) answered(failure);
    }),
  );
  backend.write(Buffer.concat(bytes));
}
