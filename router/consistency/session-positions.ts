/**
 * What one session has seen of each shard: what its causal reads must see, what its other reads must not go back behind, and so its
 * token. Where a position would cost a message of its own it isn't asked for: the place and the time are kept instead, and a position
 * that is asked of that place later, as is done ten times a second, says as much (`reachedBy`). Until then only that very place,
 * and the primary, surely have what was seen there.
 * Leaves to others: what members have (shard-positions.ts), whether one will do (demand.ts).
 */
import { laterOf, nowhere, type Position } from '#core/consistency/position.ts';
import { mergePositions, type Positions as TokenPositions } from '#core/consistency/token.ts';
import type { ConsistencyLevel } from '../map/map.ts';
import type { Demand } from './demand.ts';
import type { Positions } from './positions.ts';
import type { Place, ShardPositions } from './shard-positions.ts';

/** Something was seen there, up to then (monotonic), and isn't placed yet. */
interface Doubt {
  /** Undefined: at more than one. */
  readonly place: Place | undefined;
  readonly sinceMs: number;
  /** It was shown by a read; else a transaction that may have written. */
  readonly isShown: boolean;
}

interface Seen {
  /** Everything: what was written, and what was read at whatever level. What a causal read must see. */
  all: Position;
  /** By reads. What reads of other levels don't go back behind. */
  shown: Position;
  atPrimary: Doubt | undefined;
  atFollower: Doubt | undefined;
}

export class SessionPositions {
  readonly #positions: Positions;
  readonly #seen = new Map<string, Seen>();
  /** Of shards that the map doesn't have (yet, or any more): handed on with the token. */
  #foreign: TokenPositions = new Map();
  /** It has asked for another level than strong, or for its token: then positions are worth a message. */
  isAware = false;

  constructor(positions: Positions) {
    this.#positions = positions;
  }

  /** Where nothing has to be seen, the same object. */
  demand(shard: string, level: ConsistencyLevel, maxStalenessMs: number | undefined): Demand {
    this.isAware = true;
    this.#adoptForeign(shard);
    const seen = this.#seen.get(shard);
    const isCausal = level === 'causal';
    if (seen === undefined) return { floor: nowhere, only: undefined, maxStalenessMs, needsKeeper: isCausal };
    this.#settle(seen, this.#positions.of(shard));
    const { atPrimary, atFollower } = seen;
    const isDoubted = atPrimary !== undefined && (isCausal || atPrimary.isShown);
    return {
      floor: isCausal ? seen.all : seen.shown,
      only: isDoubted || (atFollower !== undefined && atFollower.place === undefined) ? 'primary' : atFollower?.place,
      maxStalenessMs,
      needsKeeper: isCausal,
    };
  }

  /** A transaction that may have written was committed before the primary was there. */
  committed(shard: string, position: Position): void {
    const seen = this.#of(shard);
    seen.all = laterOf(seen.all, position);
    if (seen.atPrimary?.isShown === false) seen.atPrimary = undefined;
  }

  /** What was read at the primary lies before that. */
  readBefore(shard: string, position: Position): void {
    const seen = this.#of(shard);
    seen.all = laterOf(seen.all, position);
    seen.shown = laterOf(seen.shown, position);
    seen.atPrimary = undefined;
    seen.atFollower = undefined;
  }

  /** Something was seen at the primary, up to now (monotonic). */
  wasAtPrimary(shard: string, place: Place, nowMs: number, isShown: boolean): void {
    const seen = this.#of(shard);
    const before = seen.atPrimary;
    seen.atPrimary = { place, sinceMs: nowMs, isShown: isShown || before?.isShown === true };
  }

  /** Something was read from a follower, up to now (monotonic). */
  wasAtFollower(shard: string, place: Place, nowMs: number): void {
    const seen = this.#of(shard);
    const before = seen.atFollower?.place;
    const isOther = seen.atFollower !== undefined && (before === undefined || before.postmaster !== place.postmaster);
    if (isOther) this.#settle(seen, this.#positions.of(shard));
    seen.atFollower = {
      place: isOther && seen.atFollower !== undefined ? undefined : place,
      sinceMs: nowMs,
      isShown: true,
    };
  }

  /** Whether all that was seen has its position; else it will in a moment. */
  get isSettled(): boolean {
    let isSettled = true;
    for (const [shard, seen] of this.#seen) {
      this.#settle(seen, this.#positions.of(shard));
      if (seen.atPrimary !== undefined || seen.atFollower !== undefined) isSettled = false;
    }
    return isSettled;
  }

  /** For the token; whole only if `isSettled`. */
  get all(): TokenPositions {
    const own = new Map<string, Position>();
    for (const [shard, seen] of this.#seen)
      if (seen.all.epoch > 0) own.set(this.#positions.identityOf(shard), seen.all);
    return mergePositions(this.#foreign, own);
  }

  /** Another session's token: what it has seen counts as seen here. */
  adopt(positions: TokenPositions): void {
    this.isAware = true;
    this.#foreign = mergePositions(this.#foreign, positions);
    for (const shard of this.#seen.keys()) this.#adoptForeign(shard);
  }

  /** It begins anew. */
  clear(): void {
    this.#seen.clear();
    this.#foreign = new Map();
  }

  /** What lies behind the end of its epoch may be lost, and has been said to be (docs/design-traps.md, T2): it counts no more. */
  cut(shard: string, position: Position): void {
    const seen = this.#of(shard);
    seen.all = position;
    seen.shown = position;
  }

  #of(shard: string): Seen {
    let seen = this.#seen.get(shard);
    if (seen === undefined) {
      seen = { all: nowhere, shown: nowhere, atPrimary: undefined, atFollower: undefined };
      this.#seen.set(shard, seen);
    }
    return seen;
  }

  #adoptForeign(shard: string): void {
    if (this.#foreign.size === 0) return;
    const identity = this.#positions.identityOf(shard);
    const position = this.#foreign.get(identity);
    if (position === undefined) return;
    const rest = new Map(this.#foreign);
    rest.delete(identity);
    this.#foreign = rest;
    const seen = this.#of(shard);
    seen.all = laterOf(seen.all, position);
    seen.shown = laterOf(seen.shown, position);
  }

  #settle(seen: Seen, positions: ShardPositions): void {
    const { atPrimary, atFollower } = seen;
    if (atPrimary !== undefined) {
      const position = positions.reachedBy(atPrimary.place, atPrimary.sinceMs);
      if (position !== undefined) {
        seen.all = laterOf(seen.all, position);
        if (atPrimary.isShown) seen.shown = laterOf(seen.shown, position);
        seen.atPrimary = undefined;
      }
    }
    if (atFollower === undefined) return;
    const position = positions.reachedBy(atFollower.place, atFollower.sinceMs);
    if (position === undefined) return;
    seen.all = laterOf(seen.all, position);
    seen.shown = laterOf(seen.shown, position);
    seen.atFollower = undefined;
  }
}
