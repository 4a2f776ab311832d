/**
 * What a read asks of the member that serves it, and whether a follower meets it: pure but for what is known of the shard. The
 * primary meets every demand, as long as its epoch isn't older than what was seen.
 * A read that can't keep its promise isn't served: whoever asks goes on to the next member, and in the end to the primary.
 */
import { cutTo, type Position } from '#core/consistency/position.ts';
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
  if (position === undefined || (needsKeeper && positions.keeperOf(place)?.isHeld !== true)) return 'unmet';
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

/** Who is there is at most so old at this moment. */
export function isFresh(positions: ShardPositions, at: Position, withinMs: number): boolean {
  const asOfMs = positions.asOfMs(at);
  return asOfMs !== undefined && positions.isBefore(asOfMs + withinMs);
}

/**
 * What is left of the floor at this epoch of the primary, where some of it may be lost: only where nobody has to acknowledge
 * (k = 0). With k >= 1 what lies behind the fork was never acknowledged (docs/design-traps.md, T2).
 */
export function lossOf(positions: ShardPositions, floor: Position, epoch: number): Position | undefined {
  if (positions.acknowledgements !== 0 || floor.epoch === 0 || floor.epoch >= epoch) return undefined;
  const { lsn, isKnown } = cutTo(floor, epoch, positions.history);
  return isKnown && lsn >= floor.lsn ? undefined : { epoch: floor.epoch, lsn };
}

const isSamePlace = (one: Place, other: Place): boolean =>
  one.member === other.member && one.postmaster === other.postmaster;
