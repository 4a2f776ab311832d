/**
 * Orders for a newly decided record, as whoever ran the takeover sends them, leader or not. Pure.
 * By the record alone: no change of the membership and no rolling change is under way in them. Nobody is restarted: each keeps the
 * restart nonce that it had. The shard controller of the leader repeats them with its own numbers, and goes on from there.
 */
import type { AuthorityRecord } from '#core/authority/record.ts';
import type { Keyspace, Shard } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import { type MemberView, statusOf } from './members.ts';
import { type WishedOrders, wishedOrders } from './orders.ts';
import { nonceOfParameters } from './rollout.ts';
import { ordersInput } from './wishes.ts';

export interface TakeoverOrdersInput {
  /** For its spec and identity; what its status says doesn't matter. */
  readonly shard: Stored<Shard>;
  readonly keyspace: Stored<Keyspace>;
  readonly record: AuthorityRecord;
  readonly views: readonly MemberView[];
}

/** The chosen one's first. A member that doesn't answer gets none. */
export function takeoverOrders({ shard, keyspace, record, views }: TakeoverOrdersInput): WishedOrders[] {
  const target = nonceOfParameters(shard.spec.postgres.parameters);
  // For how long who is away is the leader's to count; until it does, nobody is.
  const input = ordersInput({ shard, keyspace, record, views, awayMs: new Map(), change: undefined });
  return wishedOrders({ ...input, nonceOf: (view) => statusOf(view)?.orders?.restartNonce ?? target }).map(
    (wished) => ({ ...wished, orders: { ...wished.orders, takeover: true } }),
  );
}
