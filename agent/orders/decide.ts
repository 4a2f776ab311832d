/**
 * Whether an agent takes the orders that it is given: a pure decision over what it has promised and what it took last.
 * Refused: another shard's, another member's, another incarnation's; an epoch below the promise; another grantee at the
 * promised epoch; anything older than what was taken (docs/design-traps.md, A20 to A22). What follows from orders that
 * were taken is decided in `agent/member`.
 */

import type { PromiseRecord } from '#agent/promise/record.ts';
import { type MemberIdentity, replicationName } from '#core/identity.ts';
import { digestOfOrders } from '#core/protocol/digest.ts';
import type { Orders, OrdersRefusal } from '#core/protocol/orders.ts';

export interface OrdersContext {
  readonly member: MemberIdentity;
  readonly namespace: string;
  readonly shard: string;
  readonly promise: PromiseRecord;
  /** The orders taken last, also where the promise has outdated them since. */
  readonly taken: Orders | undefined;
  readonly hasData: boolean;
}

export type OrdersDecision =
  /** `isNew` is false for the same orders again. */
  | { readonly kind: 'take'; readonly isNew: boolean; readonly promise: PromiseRecord }
  | { readonly kind: 'refuse'; readonly refusal: OrdersRefusal };

type Check = (orders: Orders, context: OrdersContext) => OrdersRefusal | undefined;

const checks: readonly Check[] = [
  isOurShard,
  isOurName,
  isOurIncarnation,
  isComplete,
  isOfNoOlderEpoch,
  isNoOlder,
  isOfNewerEpochInTakeover,
  mayInitialise,
];

export function decideOrders(orders: Orders, context: OrdersContext): OrdersDecision {
  for (const check of checks) {
    const refusal = check(orders, context);
    if (refusal !== undefined) return { kind: 'refuse', refusal };
  }
  return {
    kind: 'take',
    isNew: context.taken === undefined || digestOfOrders(context.taken) !== digestOfOrders(orders),
    promise: promiseAfter(orders, context.promise),
  };
}

/** Whom the epoch of these orders belongs to: this member, its source, or (Hold without a source, ship) nobody yet. */
export function granteeOf(orders: Orders): string {
  if (orders.role === 'Initialise' || orders.role === 'Primary') return replicationName(orders.member);
  return orders.source === undefined || orders.ship === true ? '' : replicationName(orders.source);
}

/**
 * Whether orders taken earlier are still worked by: the promise is on disk first, so when the orders that went with it
 * were not written (a full disk, a death in between), those before them are outdated.
 */
export function isWithinPromise(orders: Orders, promise: PromiseRecord): boolean {
  if (orders.epoch !== promise.epoch) return orders.epoch > promise.epoch;
  const grantee = granteeOf(orders);
  return grantee === '' || promise.grantee === '' || grantee === promise.grantee;
}

export function promiseAfter(orders: Orders, promise: PromiseRecord): PromiseRecord {
  const grantee = granteeOf(orders);
  const isSameEpoch = orders.epoch === promise.epoch;
  return {
    ...promise,
    shardUid: orders.shard.uid,
    epoch: orders.epoch,
    grantee: grantee === '' && isSameEpoch ? promise.grantee : grantee,
    generation: Math.max(orders.generation, isSameEpoch ? promise.generation : 0),
    // Whoever ran a takeover may be no leader: its numbers say nothing about the leader's.
    ...(orders.takeover ? {} : { leaderTerm: orders.leaderTerm, sequence: orders.sequence }),
  };
}

function isOurShard(orders: Orders, { namespace, shard, promise }: OrdersContext): OrdersRefusal | undefined {
  const { shard: named } = orders;
  if (named.namespace !== namespace || named.name !== shard) {
    return refuse(
      'WrongShard',
      `this member belongs to shard ${namespace}/${shard}, not ${named.namespace}/${named.name}`,
    );
  }
  if (promise.shardUid !== '' && promise.shardUid !== named.uid) {
    return refuse(
      'WrongShard',
      `this volume belongs to the shard with UID ${promise.shardUid}, not ${named.uid}: the Shard was made anew; its members need empty volumes`,
    );
  }
  return undefined;
}

function isOurName({ member }: Orders, context: OrdersContext): OrdersRefusal | undefined {
  return member.name === context.member.name
    ? undefined
    : refuse('WrongMember', `this is ${context.member.name}, not ${member.name}`);
}

function isOurIncarnation({ member }: Orders, context: OrdersContext): OrdersRefusal | undefined {
  return member.incarnation === context.member.incarnation
    ? undefined
    : refuse('WrongIncarnation', `this is incarnation ${context.member.incarnation}, not ${member.incarnation}`);
}

function isComplete({ role, source, member }: Orders): OrdersRefusal | undefined {
  if (role !== 'Follower') return undefined;
  if (source === undefined) return refuse('Invalid', 'a follower needs a source');
  return source.name === member.name ? refuse('Invalid', 'a follower cannot be its own source') : undefined;
}

function isOfNoOlderEpoch(orders: Orders, { promise }: OrdersContext): OrdersRefusal | undefined {
  if (orders.epoch < promise.epoch) {
    return refuse('StaleEpoch', `epoch ${promise.epoch} is promised; these orders are of epoch ${orders.epoch}`);
  }
  const grantee = granteeOf(orders);
  const isContested = orders.epoch === promise.epoch && promise.grantee !== '' && grantee !== '';
  return isContested && promise.grantee !== grantee
    ? refuse('StaleEpoch', `epoch ${promise.epoch} is promised to ${promise.grantee}, not to ${grantee}`)
    : undefined;
}

/** Within one promise the order is (leader term, sequence); the same number again must say the same. */
function isNoOlder(orders: Orders, { promise, taken }: OrdersContext): OrdersRefusal | undefined {
  if (orders.takeover) return undefined;
  const isOlder =
    orders.leaderTerm < promise.leaderTerm ||
    (orders.leaderTerm === promise.leaderTerm && orders.sequence < promise.sequence);
  const said = `(term ${orders.leaderTerm}, sequence ${orders.sequence})`;
  if (isOlder) {
    return refuse('StaleSequence', `${said} is older than the last taken (${promise.leaderTerm}, ${promise.sequence})`);
  }
  const isRepeated =
    taken !== undefined &&
    !taken.takeover &&
    taken.leaderTerm === orders.leaderTerm &&
    taken.sequence === orders.sequence;
  return isRepeated && digestOfOrders(taken) !== digestOfOrders(orders)
    ? refuse('StaleSequence', `${said} was taken with another content`)
    : undefined;
}

/** Ordered by the epoch alone: one takeover makes an epoch, the leader's orders go on from there. The same again is no other. */
function isOfNewerEpochInTakeover(orders: Orders, { taken }: OrdersContext): OrdersRefusal | undefined {
  if (!orders.takeover || taken === undefined || orders.epoch > taken.epoch) return undefined;
  if (orders.epoch === taken.epoch && taken.ship === true) return undefined;
  return orders.epoch === taken.epoch && digestOfOrders(orders) === digestOfOrders(taken)
    ? undefined
    : refuse('StaleEpoch', `orders of epoch ${taken.epoch} were taken already: a takeover comes with a higher one`);
}

/** Initialise again is the same wish while this member works on it or has done it. */
function mayInitialise(orders: Orders, { hasData, promise }: OrdersContext): OrdersRefusal | undefined {
  if (orders.role !== 'Initialise') return undefined;
  const isOurs = promise.epoch === orders.epoch && promise.grantee === replicationName(orders.member);
  return isOurs || (promise.epoch === 0 && !hasData)
    ? undefined
    : refuse('HasData', 'this member has data or a promise already: it may not initialise the shard');
}

const refuse = (code: OrdersRefusal['code'], message: string): OrdersRefusal => ({ code, message });
