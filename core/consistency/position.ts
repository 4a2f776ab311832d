/**
 * Positions in a shard's history and what "has seen" means across epochs: pure. A position is (epoch, LSN); LSNs of different epochs
 * mean nothing to each other without the fork at which the later one left the earlier (docs/design-traps.md, T1, T2, B7).
 * Leaves to others: where positions come from (router/consistency), tokens as texts (token.ts).
 */
import { type Lsn, zeroLsn } from '../lsn.ts';

/** Everything of the shard's history up to an LSN, as the primary of an epoch wrote it. */
export interface Position {
  readonly epoch: number;
  readonly lsn: Lsn;
}

export const nowhere: Position = { epoch: 0, lsn: zeroLsn };

/** How an epoch began: as `Shard.status.history` says. */
export interface Fork {
  readonly epoch: number;
  readonly timeline: number;
  /** Where its timeline left the one before. Where that is the same timeline nothing was left: the primary only got a new epoch. */
  readonly forkLsn: Lsn;
}

/** In the order of epochs. */
export type Forks = readonly Fork[];

/** What of a position of an earlier epoch is left in a later one, as far as is known: `isKnown` false where a fork between is missing. */
export interface Cut {
  readonly lsn: Lsn;
  readonly isKnown: boolean;
}

/** @param epoch That the position is looked at from; one that isn't later changes nothing. */
export function cutTo(position: Position, epoch: number, forks: Forks): Cut {
  let { lsn } = position;
  let isKnown = true;
  let timeline = forks.find((fork) => fork.epoch === position.epoch)?.timeline;
  for (let each = position.epoch + 1; each <= epoch; each++) {
    const fork = forks.find((one) => one.epoch === each);
    if (fork === undefined) {
      // Epochs may be passed over: a failover that was topped by another leaves no entry. Only the last one surely has one.
      if (each === epoch) isKnown = false;
      continue;
    }
    // Where it isn't known on which timeline it was, nothing is cut: it may be the same.
    if (timeline === undefined) isKnown = false;
    else if (fork.timeline !== timeline && fork.forkLsn < lsn) lsn = fork.forkLsn;
    timeline = fork.timeline;
  }
  return { lsn, isKnown };
}

/** Whether who is at least `at` has surely seen all that is left of `needed`. */
export function covers(at: Position, needed: Position, forks: Forks): boolean {
  if (needed.epoch === 0) return true;
  if (at.epoch < needed.epoch) return false;
  if (at.lsn >= needed.lsn) return true;
  return at.epoch > needed.epoch && at.lsn >= cutTo(needed, at.epoch, forks).lsn;
}

/** The one that includes the other: a later epoch's positions lie behind its fork, and so include what is left of the earlier ones. */
export function laterOf(one: Position, other: Position): Position {
  if (one.epoch !== other.epoch) return one.epoch > other.epoch ? one : other;
  return one.lsn >= other.lsn ? one : other;
}
