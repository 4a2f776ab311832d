/**
 * What each member is ordered to be, from the record and from where the primary is now. Pure; numbers are put on later.
 * Invariants: nobody is ordered who doesn't answer as the identity meant, who has promised another shard, or who has promised
 * a higher epoch than the record's (it is being fenced: it would refuse); followers are never sent to a primary whose address
 * isn't known; sync list, lease set and history come from the record alone.
 */

import type { LeaseSettings } from '#core/authority/lease.ts';
import { maxMembers, type SynchronousSettings } from '#core/authority/membership-change.ts';
import { type AuthorityRecord, isPrimary, primaryOf, sameMember } from '#core/authority/record.ts';
import type { MemberIdentity } from '#core/identity.ts';
import { ports } from '#core/names.ts';
import { digestOfOrders } from '#core/protocol/digest.ts';
import type { Orders } from '#core/protocol/orders.ts';
import { identityOf, type MemberView, statusOf } from './members.ts';

/** Orders without who speaks and when. */
export type OrdersWish = Omit<Orders, 'leaderTerm' | 'sequence'>;

export interface OrdersInput {
  readonly shard: Orders['shard'];
  readonly record: AuthorityRecord;
  readonly views: readonly MemberView[];
  /** What the primary's Postgres is to work by; ahead of the record while something is removed or raised. */
  readonly settings: SynchronousSettings;
  /** By whose grants the primary stands, as strict as both sides of a change. */
  readonly lease: LeaseSettings;
  /** The same by the record alone: what followers are told, so that none takes itself for removed before it is. */
  readonly recorded: SynchronousSettings;
  readonly parameters: Readonly<Record<string, string>>;
  /** The restart nonce of each member by name. */
  readonly nonceOf: (view: MemberView) => string;
  /** Members whose Postgres is to stay down. */
  readonly fenced: ReadonlySet<string>;
  /** Whether a follower whose data left its primary's history may be rewound in place. */
  readonly mayRewind: (view: MemberView) => boolean;
}

export interface WishedOrders {
  readonly view: MemberView;
  readonly orders: OrdersWish;
  readonly digest: string;
}

const digestOfWish = (wish: OrdersWish): string => digestOfOrders({ ...wish, leaderTerm: 0, sequence: 0 });

/** The primary's first: it lets in only followers that its own orders name. */
export function wishedOrders(input: OrdersInput): WishedOrders[] {
  const primary = input.record.authority.member;
  const primaryFirst = input.views.toSorted((a, b) => Number(b.name === primary) - Number(a.name === primary));
  return primaryFirst.flatMap((view) => {
    const orders = ordersFor(view, input);
    return orders === undefined ? [] : [{ view, orders, digest: digestOfWish(orders) }];
  });
}

function ordersFor(view: MemberView, input: OrdersInput): OrdersWish | undefined {
  const { record } = input;
  const member = identityOf(view);
  if (member === undefined || isStranger(view, input.shard.uid) || isAhead(view, record)) return undefined;
  const shared = {
    shard: input.shard,
    member,
    epoch: record.authority.epoch,
    generation: record.membership.generation,
    synchronous: synchronousFor(member, input),
    lease: leaseFor(member, input),
    timeline: record.authority.timeline,
    history: record.history.map((entry) => ({ ...entry })),
    parameters: { ...input.parameters },
    restartNonce: input.nonceOf(view),
    mayRewind: input.mayRewind(view),
    takeover: false,
  };
  const slots = slotsFor(member, input);
  if (input.fenced.has(view.name)) return { ...shared, role: 'Hold', slots };
  if (record.authority.state === 'Initialising')
    // The others wait without orders: until there is a primary there is nothing to copy.
    return isPrimary(record, member) ? { ...shared, role: 'Initialise', slots: [] } : undefined;
  if (isPrimary(record, member)) return { ...shared, role: 'Primary', slots };
  // The primary's name with another volume: its data is gone, and who leads is to be decided, not cloned over.
  if (member.name === record.authority.member) return undefined;
  const source = sourceOf(input);
  return source === undefined ? undefined : { ...shared, role: 'Follower', slots, source };
}

function synchronousFor(member: MemberIdentity, { record, settings, recorded }: OrdersInput): Orders['synchronous'] {
  const { acknowledgements, members } = isPrimary(record, member) ? settings : recorded;
  return { acknowledgements, members: [...members] };
}

/** Only a primary stands by a lease; what followers grant doesn't depend on who else does. */
function leaseFor(member: MemberIdentity, { record, lease }: OrdersInput): Orders['lease'] {
  return isPrimary(record, member)
    ? { ...lease, members: [...lease.members] }
    : { members: [], required: 0, kubernetes: false };
}

/** It has promised another shard, for example one of the same name that was deleted with its volumes kept. */
export function isStranger(view: MemberView, shardUid: string): boolean {
  const promise = statusOf(view)?.promise;
  return promise !== undefined && promise.shardUid !== '' && promise.shardUid !== shardUid;
}

/** It has promised a later epoch than the record's: somebody fences it, or the record is not what it was. */
export const isAhead = (view: MemberView, { authority }: AuthorityRecord): boolean =>
  (statusOf(view)?.promise?.epoch ?? 0) > authority.epoch;

function sourceOf({ record, views }: OrdersInput): NonNullable<Orders['source']> | undefined {
  const address = views.find(({ name }) => name === record.authority.member)?.pod?.address;
  return address === undefined ? undefined : { ...primaryOf(record), address, tunnelPort: ports.tunnel };
}

/**
 * All others: those in the record, and those that are on their way into it. The latter also while they are silent: an answer
 * that is late once would else cost a member that copies or catches up its slot, and with it the log that it needs.
 * No more names than may be in the record, since Postgres has slots and WAL senders for those only.
 */
function slotsFor(self: MemberIdentity, { record, views, shard }: OrdersInput): MemberIdentity[] {
  const others = new Map<string, MemberIdentity>();
  const add = (member: MemberIdentity): void => {
    if (!sameMember(member, self)) others.set(`${member.name}/${member.incarnation}`, member);
  };
  for (const member of record.membership.members) add(member);
  const names = new Set(record.membership.members.map(({ name }) => name));
  for (const view of views) {
    const member = identityOf(view) ?? view.lastKnown;
    if (member === undefined || !view.declared || isStranger(view, shard.uid)) continue;
    if (names.size >= maxMembers && !names.has(view.name)) continue;
    names.add(view.name);
    add(member);
  }
  return [...others.entries()].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, member]) => member);
}

export type Delivery =
  /** It has exactly these, from this term. */
  | 'delivered'
  | 'due'
  /** It has taken orders of a higher term than ours: we aren't the leader any more, or the Lease was made anew. */
  | 'outranked';

export function deliveryOf({ view, digest }: WishedOrders, leaderTerm: number): Delivery {
  const taken = statusOf(view)?.orders;
  if (taken === undefined) return 'due';
  if (taken.leaderTerm > leaderTerm) return 'outranked';
  return taken.digest === digest && taken.leaderTerm === leaderTerm ? 'delivered' : 'due';
}
