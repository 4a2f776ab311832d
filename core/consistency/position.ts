/**
 * Positions in a shard's history and what "has seen" means across epochs: pure. A position is (epoch, LSN); LSNs of different epochs
 * mean nothing to each other without the fork at which the later one left the earlier (docs/design-traps.md, T1, T2, B7).
 * Leaves to others: where positions come from (router/consistency), tokens as texts (token.ts).
 */
import { divergenceFrom } from '../authority/position.ts';
import type { HistoryEntry } from '../authority/record.ts';
import { type Lsn, zeroLsn } from '../lsn.ts';

/** Everything of the shard's history up to an LSN, as the primary of an epoch wrote it. */
export interface Position {
  readonly epoch: number;
  readonly lsn: Lsn;
}

export const nowhere: Position = { epoch: 0, lsn: zeroLsn };

/** `Shard.status.history`, or what is known of it: every epoch has a timeline of its own. */
export type History = readonly HistoryEntry[];

/** What of a position of an earlier epoch is left in a later one; `isKnown` false where the history doesn't say: then nothing is cut. */
export interface Cut {
  readonly lsn: Lsn;
  readonly isKnown: boolean;
}

/** @param epoch That the position is looked at from; one that isn't later changes nothing. */
export function cutTo({ epoch: own, lsn }: Position, epoch: number, history: History): Cut {
  if (epoch <= own) return { lsn, isKnown: true };
  const timelineOf = (wanted: number): number | undefined =>
    history.findLast((entry) => entry.epoch === wanted)?.timeline;
  const [from, to] = [timelineOf(own), timelineOf(epoch)];
  if (from === undefined || to === undefined) return { lsn, isKnown: false };
  const divergence = divergenceFrom({ history }, { timeline: from, lsn }, to);
  if (divergence === undefined) return { lsn, isKnown: true };
  // Timeline 0: the entries between are gone from the record.
  return divergence.timeline === 0 ? { lsn, isKnown: false } : { lsn: divergence.forkLsn, isKnown: true };
}

/** Whether who is at least `at` has surely seen all that is left of `needed`. */
export function covers(at: Position, needed: Position, history: History): boolean {
  if (needed.epoch === 0) return true;
  if (at.epoch < needed.epoch) return false;
  if (at.lsn >= needed.lsn) return true;
  return at.epoch > needed.epoch && at.lsn >= cutTo(needed, at.epoch, history).lsn;
}

/** The one that includes the other: a later epoch's positions lie behind its fork, and so include what is left of the earlier ones. */
export function laterOf<One extends Position, Other extends Position>(one: One, other: Other): One | Other {
  if (one.epoch !== other.epoch) return one.epoch > other.epoch ? one : other;
  return one.lsn >= other.lsn ? one : other;
}
