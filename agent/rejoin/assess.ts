/**
 * What a member that is to follow needs first, by what lies on its disk and the history that came with its orders. It only
 * reads; Postgres is down. The comparison is the same for a former primary and for any follower that wasn't asked in the
 * fence and has more than the chosen one (docs/design-traps.md, A24).
 */
import type { ControlFile } from '#agent/postgres/control-file.ts';
import type { DataDirectory } from '#agent/postgres/data-directory.ts';
import { formatLsn, zeroLsn } from '#core/lsn.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { AgentStatus } from '#core/protocol/status.ts';
import { type Divergence, divergedFrom, divergenceOf } from './divergence.ts';
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
    if (!(error instanceof PositionUnknown)) throw error;
    return (await neverWhole(data, orders)) ?? { kind: 'Unknown', reason: error.message };
  }
}

/**
 * Where a recovery would have to come to before the data is whole is past the fork: its primary never gives it the log for that, and
 * without a clean end it can't be rewound either. So it is with a member that was rewound to a primary which had gone before the
 * member had caught up with it, while others went on from an earlier place.
 */
async function neverWhole(
  data: DataDirectory,
  orders: Pick<Orders, 'history' | 'timeline'>,
): Promise<RejoinNeed | undefined> {
  if ((await data.state()) === 'absent') return undefined;
  const control = await data.control();
  const parting = wholePast(control, orders);
  if (parting === undefined) return undefined;
  const [timeline, lsn] = [control.minRecoveryTimeline, formatLsn(control.minRecovery)];
  return {
    kind: 'NeedsCopy',
    reason: `it is whole only at ${lsn} on timeline ${timeline}, which its primary left at ${formatLsn(parting.forkLsn)}`,
    diverged: { timeline, forkLsn: formatLsn(parting.forkLsn), lsn, waiting: true },
  };
}

/** Whether what its recovery has to reach is outside of the history of its primary, and where that was left. */
export function wholePast(
  { minRecovery, minRecoveryTimeline }: Pick<ControlFile, 'minRecovery' | 'minRecoveryTimeline'>,
  orders: Pick<Orders, 'history' | 'timeline'>,
): Divergence | undefined {
  if (minRecovery === zeroLsn) return undefined;
  return divergenceOf({ timeline: minRecoveryTimeline, lsn: formatLsn(minRecovery) }, orders);
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
