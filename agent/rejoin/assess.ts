/**
 * What a member that is to follow needs first, by what lies on its disk and the history that came with its orders. It only
 * reads; Postgres is down. The comparison is the same for a former primary and for any follower that wasn't asked in the
 * fence and has more than the chosen one (docs/design-traps.md, A24).
 */
import type { DataDirectory } from '#agent/postgres/data-directory.ts';
import { formatLsn } from '#core/lsn.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { AgentStatus } from '#core/protocol/status.ts';
import { divergedFrom } from './divergence.ts';
import { lineOnDisk, PositionUnknown, timelineOf } from './position.ts';
import { type Parting, readRejoin } from './rejoin-file.ts';
import { countTransactions } from './transactions.ts';

const COUNT_TIMEOUT_MS = 60_000;

export type DivergedStatus = NonNullable<AgentStatus['diverged']>;

export type RejoinNeed =
  /** Its log is a part of its primary's line. */
  | { readonly kind: 'Follow' }
  | { readonly kind: 'Diverged'; readonly diverged: DivergedStatus }
  /** A rewind was begun: only its end makes the data whole. */
  | { readonly kind: 'Interrupted'; readonly diverged: DivergedStatus }
  | { readonly kind: 'NeedsCopy'; readonly reason: string; readonly diverged?: DivergedStatus }
  /** No position can be read, and no rewind was begun: a copy that was never started, for example. */
  | { readonly kind: 'Unknown'; readonly reason: string };

export async function assessRejoin(
  data: DataDirectory,
  orders: Pick<Orders, 'history' | 'timeline' | 'mayRewind'>,
  rejoinFile: string,
): Promise<RejoinNeed> {
  const begun = await readRejoin(rejoinFile);
  if (begun?.stage === 'NeedsCopy') {
    const diverged = begun.parting === undefined ? {} : { diverged: divergedOf(begun.parting, true) };
    return { kind: 'NeedsCopy', reason: begun.reason, ...diverged };
  }
  if (begun !== undefined) return { kind: 'Interrupted', diverged: divergedOf(begun.parting, !orders.mayRewind) };
  try {
    const line = await lineOnDisk(data);
    const found = divergedFrom(line, orders);
    if (found === undefined) return { kind: 'Follow' };
    const diverged = {
      timeline: timelineOf(line),
      forkLsn: formatLsn(found.divergence.forkLsn),
      lsn: formatLsn(line.end),
      transactions: await countTransactions(data, found.stretches, AbortSignal.timeout(COUNT_TIMEOUT_MS)),
      waiting: !orders.mayRewind,
    };
    return { kind: 'Diverged', diverged };
  } catch (error) {
    if (error instanceof PositionUnknown) return { kind: 'Unknown', reason: error.message };
    throw error;
  }
}

export function divergedOf(parting: Parting, waiting: boolean): DivergedStatus {
  const { endTimeline, forkLsn, lsn, transactions, keptIn } = parting;
  return {
    timeline: endTimeline,
    forkLsn,
    lsn,
    transactions,
    waiting,
    ...(keptIn === undefined ? {} : { keptIn }),
  };
}
