/** What the member says about authority, from what it knows at this moment. Pure; the wire's meaning is in `core/protocol/authority.ts`. */
import type { SeenAuthority } from '#agent/authority/gate.ts';
import type { PositionSeen } from '#agent/postgres/positions.ts';
import type { PromiseRecord } from '#agent/promise/record.ts';
import { deliverableMs } from '#core/authority/lease.ts';
import { type MemberIdentity, replicationName } from '#core/identity.ts';
import { formatLsn, parseLsn } from '#core/lsn.ts';
import type { AuthorityAnswer, AuthorityState } from '#core/protocol/authority.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { AuthorityFacts } from './authority-answer.ts';
import type { OpeningState } from './commits.ts';
import type { LeaseSeen, LeaseThread } from './lease-duty.ts';
import type { ServerView } from './plan.ts';

export interface AuthorityView {
  readonly member: MemberIdentity;
  readonly region: string;
  readonly promise: PromiseRecord;
  readonly promiseAgeMs: number;
  readonly agentAgeMs: number;
  readonly orders: Orders | undefined;
  readonly former: Orders | undefined;
  readonly server: ServerView;
  readonly isHandingOver: boolean;
  /** Given up, with no process of Postgres left. */
  readonly isReleased: boolean;
  readonly isServing: boolean;
  readonly seen: SeenAuthority | undefined;
  readonly lease: Pick<LeaseThread, 'remainingMs' | 'leaseNumber' | 'heardMs' | 'grantRemainingMs'>;
  /** Since the last byte of WAL arrived. */
  readonly walHeardMs: number | null;
}

/** What `/metrics` tells of it besides. */
export interface AuthoritySeen extends LeaseSeen {
  /** For which the start gate has been passed; 0 for none. */
  readonly confirmedEpoch: number;
  readonly opening: OpeningState;
  /** Taken since the agent's start. */
  readonly fences: number;
}

export function authorityFactsOf(view: AuthorityView): AuthorityFacts {
  const { member, region, promise, promiseAgeMs, agentAgeMs } = view;
  const { epoch, grantee, generation } = promise;
  const known = knownOf(view);
  return {
    member,
    shardUid: promise.shardUid,
    region,
    state: stateOf(view),
    promise: { epoch, grantee, generation, ageMs: promiseAgeMs },
    agentAgeMs,
    ...(known === undefined ? {} : { known }),
    ...primaryOf(view),
    ...followerOf(view),
  };
}

function stateOf({ orders, former, server, isHandingOver }: AuthorityView): AuthorityState {
  if (orders === undefined && former !== undefined) {
    const isGoingDown = isHandingOver || (server.state === 'running' && server.as === 'primary');
    return isGoingDown ? 'stopping' : 'fenced';
  }
  if (server.state === 'stopped') return 'down';
  if (!server.isReady) return 'starting';
  if (server.as === 'primary') return server.isOpen ? 'open' : 'opening';
  // On its way to be promoted, or a follower.
  return orders?.role === 'Follower' ? 'following' : 'opening';
}

/** Entries of the history that a router may miss while the API server, which has all of them, is away. */
const HISTORY_SAID = 4;

type RouterFacts = Pick<AuthorityAnswer, 'position' | 'history' | 'keepers' | 'acknowledged'>;

/** What only routers are told, beside what everybody is. */
export function routerFactsOf(
  orders: Orders | undefined,
  state: AuthorityState,
  position: PositionSeen | undefined,
  receivedAt: number,
): RouterFacts {
  const facts: RouterFacts = {};
  if (position !== undefined) {
    const { begunAt, flushed: _flushed, ...seen } = position;
    facts.position = { begunMs: begunAt - receivedAt, ...seen };
  }
  if (orders === undefined) return facts;
  facts.history = orders.history.slice(-HISTORY_SAID);
  if (orders.role !== 'Primary' || state !== 'open') return facts;
  facts.keepers = keepersOf(orders);
  if (position === undefined || position.isRecovering || position.epoch !== orders.epoch) return facts;
  const lsn = acknowledgedLsn(facts.keepers, position);
  if (lsn !== undefined) facts.acknowledged = { epoch: orders.epoch, lsn };
  return facts;
}

/**
 * The durable position (docs/design.md, section 4): what k of those who count have flushed, k the greater and those who count the fewer
 * while a change is under way, so that no change of the membership takes anything of it back. Undefined where fewer have said so.
 */
function acknowledgedLsn(
  { acknowledgements, members }: NonNullable<AuthorityAnswer['keepers']>,
  { lsn, flushed }: PositionSeen,
): string | undefined {
  if (acknowledgements === 0) return lsn;
  const said = members.flatMap((member) => flushed.get(replicationName(member)) ?? []).map((text) => parseLsn(text));
  const kth = said.toSorted((one, other) => (one < other ? 1 : one > other ? -1 : 0))[acknowledgements - 1];
  return kth === undefined ? undefined : formatLsn(kth);
}

/** While a change is under way the strictest of both sides: whoever leaves is out, and k is the greater. */
function keepersOf({ synchronous, lease }: Orders): NonNullable<AuthorityAnswer['keepers']> {
  const leased = new Set(lease.members.map(replicationName));
  return {
    acknowledgements: Math.max(synchronous.acknowledgements, lease.required),
    members: synchronous.members.filter((member) => leased.has(replicationName(member))),
  };
}

/** While it is handed over it still is, to routers, the primary of the epoch that ends. */
const standingOf = ({ orders, former, isHandingOver }: AuthorityView): Orders | undefined =>
  orders ?? (isHandingOver ? former : undefined);

function knownOf(view: AuthorityView): AuthorityAnswer['known'] {
  const ordered = authorityIn(view.orders ?? view.former);
  const { seen } = view;
  if (seen === undefined || (ordered !== undefined && seen.epoch <= ordered.epoch)) return ordered;
  return { epoch: seen.epoch, member: seen.member };
}

function authorityIn(orders: Orders | undefined): AuthorityAnswer['known'] {
  if (orders === undefined || orders.ship === true) return undefined;
  const { role, epoch, member, source } = orders;
  if (role === 'Primary' || role === 'Initialise') return { epoch, member };
  if (source === undefined) return undefined;
  const { name, incarnation, address } = source;
  return { epoch, member: { name, incarnation }, address };
}

function primaryOf(view: AuthorityView): Pick<AuthorityAnswer, 'primary'> {
  const orders = standingOf(view);
  if (orders === undefined || (orders.role !== 'Primary' && orders.role !== 'Initialise')) return {};
  const { server, lease, isServing, isReleased } = view;
  return {
    primary: {
      epoch: orders.epoch,
      timeline: server.state === 'running' && server.timeline > 0 ? server.timeline : orders.timeline,
      serving: isServing,
      leaseRemainingMs: deliverable(lease.remainingMs()),
      leaseNumber: lease.leaseNumber(),
      released: isReleased,
    },
  };
}

/** What others may rely on: with k = 0 the lease may run for 15 s, and k may be raised under it. */
const deliverable = (remainingMs: number | null): number | null =>
  remainingMs === null ? null : deliverableMs(remainingMs);

function followerOf({ orders, lease, walHeardMs }: AuthorityView): Pick<AuthorityAnswer, 'follower'> {
  if (orders?.role !== 'Follower' || orders.source === undefined) return {};
  const { name, incarnation } = orders.source;
  return {
    follower: {
      source: { name, incarnation },
      epoch: orders.epoch,
      servingHeardMs: lease.heardMs().servingMs,
      walHeardMs,
      grantRemainingMs: lease.grantRemainingMs(),
    },
  };
}
