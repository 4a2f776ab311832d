/**
 * What a failover cost, as it becomes known: first what was heard, exactly once the primary before is back. Pure.
 * The deciding swap leaves `status.lastFailover`; the rest is said by the agent of the former primary, before it rewinds
 * (`diverged`) or after (`rejoined`), and must not be forgotten when that agent is.
 */
import type { ShardLastFailover } from '#crds/index.ts';
import { lsnOf, type MemberView, statusOf } from './members.ts';

export function lossAfter(
  last: ShardLastFailover | undefined,
  views: readonly MemberView[],
): ShardLastFailover | undefined {
  if (last === undefined || isAllKnown(last)) return last;
  const status = statusOf(views.find(({ name }) => name === last.from));
  // With another volume it knows nothing of what it had.
  if (status?.member.incarnation !== last.fromIncarnation) return last;
  const { diverged, upstream } = status;
  const rejoined = status.rejoined !== undefined && status.rejoined.epoch >= last.epoch ? status.rejoined : undefined;
  const keptIn = diverged?.keptIn ?? rejoined?.keptIn;
  if (last.exact) return keptIn === undefined ? last : { ...last, keptIn };
  const kept = keptIn === undefined ? {} : { keptIn };
  if (diverged !== undefined)
    return {
      ...last,
      ...range(diverged.forkLsn, diverged.lsn),
      ...(diverged.transactions === undefined ? {} : { transactions: diverged.transactions, exact: true }),
      ...kept,
    };
  if (rejoined !== undefined)
    return {
      ...last,
      ...range(rejoined.forkLsn, rejoined.lsn),
      ...(rejoined.transactions === undefined ? {} : { transactions: rejoined.transactions }),
      exact: rejoined.transactions !== undefined,
      ...kept,
    };
  // It follows with what it had: there was nothing else.
  if (status.orders?.epoch !== undefined && status.orders.epoch >= last.epoch && upstream?.streaming === true)
    return { ...last, transactions: 0, exact: true };
  return last;
}

/** It is counted before it is put aside; of nothing, nothing is. */
const isAllKnown = ({ exact, transactions, keptIn }: ShardLastFailover): boolean =>
  exact && (transactions === 0 || keptIn !== undefined);

const range = (from: string, to: string): Pick<ShardLastFailover, 'lostFrom' | 'lostTo'> =>
  lsnOf(from) === undefined || lsnOf(to) === undefined ? {} : { lostFrom: from, lostTo: to };
