/**
 * What a read asks of the member that serves it, and whether a follower meets it: pure but for what is known of the shard. The
 * primary meets every demand, as long as its epoch isn't older than what was seen, and it shows what followers have shown (`isAhead`).
 * A read that can't keep its promise isn't served: whoever asks goes on to the next member, and in the end to the primary.
 */
import { cutTo, type Position } from '#core/consistency/position.ts';
import type { Sighting } from '#core/consistency/token.ts';
import type { Place, ShardPositions } from './shard-positions.ts';

export interface Demand {
  /** All that is left of this must have been replayed. */
  readonly floor: Position;
  /** Something was seen there of which the position isn't known yet: nobody else but the primary has it for certain. */
  readonly only: Place | 'primary' | undefined;
  /** Of a bounded read. */
  readonly maxStalenessMs: number | undefined;
  /** What it shows mustn't be lost with the primary (docs/design-traps.md, A17). */
  readonly needsKeeper: boolean;
  /** The primary may not show all of it yet. */
  readonly isAhead: boolean;
  /** Its answer can be held until it is shown that nothing of it can be lost: where that isn't sure beforehand. */
  readonly mayBeProven?: boolean;
}

/**
 * met: by what is known. open: it follows so closely that by now it may, or soon will: it has to be asked. unmet: it lags, or nothing
 * is known of it.
 */
export type Verdict = 'met' | 'open' | 'unmet';

/** Behind its primary by more than this it isn't waited for. */
const closeMs = 1_000;

export function judge(positions: ShardPositions, place: Place, demand: Demand): Verdict {
  const { floor, only, maxStalenessMs, needsKeeper } = demand;
  if (only !== undefined && (only === 'primary' || !isSamePlace(only, place))) return 'unmet';
  if (floor.epoch === 0 && maxStalenessMs === undefined && !needsKeeper) return 'met';
  const position = positions.positionOf(place);
  if (position === undefined || (needsKeeper && !isKept(positions, place, demand))) return 'unmet';
  if (maxStalenessMs !== undefined && !isFresh(positions, position, maxStalenessMs)) {
    const newestMs = positions.newestSample?.atMs ?? Number.NEGATIVE_INFINITY;
    const mayBe =
      positions.isBefore(newestMs + maxStalenessMs) && isFresh(positions, position, maxStalenessMs + closeMs);
    if (!mayBe) return 'unmet';
    return position.epoch >= floor.epoch ? 'open' : 'unmet';
  }
  if (positions.hasSeen(position, floor)) return 'met';
  // Its epoch is known from its agent only: a check says nothing of that.
  return position.epoch >= floor.epoch && isFresh(positions, position, closeMs) ? 'open' : 'unmet';
}

/** What it shows is kept safe by its own copy, or can be shown to be by others'. */
const isKept = (positions: ShardPositions, place: Place, { mayBeProven }: Demand): boolean =>
  positions.keeperOf(place)?.isHeld === true || (mayBeProven === true && positions.provableAt(place) !== undefined);

/** Who is there is at most so old at this moment. */
export function isFresh(positions: ShardPositions, at: Position, withinMs: number): boolean {
  const asOfMs = positions.asOfMs(at);
  return asOfMs !== undefined && positions.isBefore(asOfMs + withinMs);
}

/**
 * What is left of what was seen, looked at from a later epoch, where some of it may be lost: only where nobody had to acknowledge it
 * (k = 0). With k >= 1 what lies behind the fork was never acknowledged (docs/design-traps.md, T2).
 */
export function lossOf(positions: ShardPositions, seen: Sighting, epoch: number): Sighting | undefined {
  if (seen.mayBeLost !== true || seen.epoch >= epoch) return undefined;
  const { lsn, isKnown } = cutTo(seen, epoch, positions.history);
  return isKnown && lsn >= seen.lsn ? undefined : { epoch: seen.epoch, lsn };
}

const isSamePlace = (one: Place, other: Place): boolean =>
  one.member === other.member && one.postmaster === other.postmaster;
