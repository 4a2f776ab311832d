/**
 * What one session has seen of each shard: what its causal reads must see, what its other reads must not go back behind, and so its
 * token. Where a position would cost a message of its own it isn't asked for: the place and the time are kept instead, and a position
 * that is asked of that place later, as is done ten times a second, says as much (`reachedBy`). Until then only that very place,
 * and the primary, surely have what was seen there.
 * Leaves to others: what members have (shard-positions.ts), whether one will do (demand.ts).
 */
import { laterOf, nowhere, type Position } from '#core/consistency/position.ts';
import { mergePositions, type Sighting, type Positions as TokenPositions } from '#core/consistency/token.ts';
import type { ConsistencyLevel } from '../map/map.ts';
import { type Demand, lossOf } from './demand.ts';
import type { Positions } from './positions.ts';
import type { Place, ShardPositions } from './shard-positions.ts';

/** Something was seen there, up to then (monotonic), and isn't placed yet. */
interface Doubt {
  /** Undefined: at more than one. */
  readonly place: Place | undefined;
  readonly sinceMs: number;
  /** It was shown by a read; else a transaction that may have written. */
  readonly isShown: boolean;
  /** The primary showed it, too, by then. */
  readonly isAcknowledged: boolean;
}

interface Seen {
  /** Everything: what was written, and what was read at whatever level. What a causal read must see. */
  all: Sighting;
  /** By reads. What reads of other levels don't go back behind. */
  shown: Sighting;
  /**
   * By followers. They show a commit as soon as they have replayed it, the primary only once it was acknowledged: until that is known of
   * all this, a read that goes from a follower to the primary could go back.
   */
  ahead: Position | undefined;
  atPrimary: Doubt | undefined;
  atFollower: Doubt | undefined;
  /** Something that it had seen may be lost, and it hasn't been told yet. */
  hasLost: boolean;
}

export class SessionPositions {
  readonly #positions: Positions;
  readonly #seen = new Map<string, Seen>();
  /** Of shards that the map doesn't have (yet, or any more): handed on with the token. */
  #foreign: TokenPositions = new Map();
  /** It has asked for another level than strong, or for its token: then positions are worth a message. */
  isAware = false;
  /** Tokens that it has taken up so far. */
  adoptions = 0;

  constructor(positions: Positions) {
    this.#positions = positions;
  }

  /** Where nothing has to be seen, the same object. */
  demand(shard: string, level: ConsistencyLevel, maxStalenessMs: number | undefined): Demand {
    this.isAware = true;
    this.#adoptForeign(shard);
    const seen = this.#seen.get(shard);
    const isCausal = level === 'causal';
    if (seen === undefined)
      return { floor: nowhere, only: undefined, maxStalenessMs, needsKeeper: isCausal, isAhead: false };
    this.#settle(seen, this.#positions.of(shard));
    const { atPrimary, atFollower } = seen;
    const isDoubted = atPrimary !== undefined && (isCausal || atPrimary.isShown);
    return {
      floor: isCausal ? seen.all : seen.shown,
      only: isDoubted || (atFollower !== undefined && atFollower.place === undefined) ? 'primary' : atFollower?.place,
      maxStalenessMs,
      needsKeeper: isCausal,
      isAhead: seen.ahead !== undefined || atFollower?.isAcknowledged === false,
    };
  }

  /** A transaction that may have written was committed before the primary was there. */
  committed(shard: string, position: Position): void {
    const seen = this.#of(shard);
    this.#raise(seen, this.#positions.of(shard), position, false);
    if (seen.atPrimary?.isShown === false) seen.atPrimary = undefined;
  }

  /** What was read at the primary lies before that. */
  readBefore(shard: string, position: Position): void {
    const seen = this.#of(shard);
    this.#raise(seen, this.#positions.of(shard), position, true);
    seen.atPrimary = undefined;
    // Nobody has what its primary hasn't; whether the primary shows it is another question.
    if (seen.atFollower?.isAcknowledged === false) seen.ahead = laterOf(seen.ahead ?? nowhere, position);
    seen.atFollower = undefined;
  }

  /** Something was seen at the primary, up to now (monotonic). */
  wasAtPrimary(shard: string, place: Place, nowMs: number, isShown: boolean): void {
    const seen = this.#of(shard);
    const before = seen.atPrimary;
    seen.atPrimary = {
      place,
      sinceMs: nowMs,
      isShown: isShown || before?.isShown === true,
      isAcknowledged: true,
    };
  }

  /** Something was read from a follower, up to now (monotonic). `isAcknowledged`: all of it had been, and was known to be. */
  wasAtFollower(shard: string, place: Place, nowMs: number, isAcknowledged = false): void {
    const seen = this.#of(shard);
    const before = seen.atFollower?.place;
    const isOther = seen.atFollower !== undefined && (before === undefined || before.postmaster !== place.postmaster);
    if (isOther) this.#settle(seen, this.#positions.of(shard));
    const { atFollower } = seen;
    seen.atFollower = {
      place: isOther && atFollower !== undefined ? undefined : place,
      sinceMs: nowMs,
      isShown: true,
      isAcknowledged: isAcknowledged && atFollower?.isAcknowledged !== false,
    };
  }

  /** True once where something that it has seen of the shard may be lost: from then on it goes by what is left (docs/design-traps.md, T2). */
  takeLoss(shard: string, epoch: number): boolean {
    this.#adoptForeign(shard);
    const seen = this.#seen.get(shard);
    if (seen === undefined) return false;
    const positions = this.#positions.of(shard);
    const left = lossOf(positions, seen.all, epoch);
    const hasLost = seen.hasLost || left !== undefined;
    seen.hasLost = false;
    if (left !== undefined) {
      seen.all = left;
      seen.shown = lossOf(positions, seen.shown, epoch) ?? seen.shown;
    }
    return hasLost;
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
    const own = new Map<string, Sighting>();
    for (const [shard, seen] of this.#seen) {
      if (seen.all.epoch === 0) continue;
      const sighting: Sighting = seen.ahead === undefined ? seen.all : { ...seen.all, isAhead: true };
      own.set(this.#positions.identityOf(shard), sighting);
    }
    return mergePositions(this.#foreign, own);
  }

  /** Another session's token: what it has seen counts as seen here. */
  adopt(positions: TokenPositions): void {
    this.isAware = true;
    this.adoptions += 1;
    this.#foreign = mergePositions(this.#foreign, positions);
    for (const shard of this.#seen.keys()) this.#adoptForeign(shard);
  }

  /** It begins anew. */
  clear(): void {
    this.#seen.clear();
    this.#foreign = new Map();
  }

  #of(shard: string): Seen {
    let seen = this.#seen.get(shard);
    if (seen === undefined) {
      seen = {
        all: nowhere,
        shown: nowhere,
        ahead: undefined,
        atPrimary: undefined,
        atFollower: undefined,
        hasLost: false,
      };
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
    const { isAhead, ...sighting } = position;
    this.#note(seen, this.#positions.of(shard), sighting, true);
    if (isAhead === true) seen.ahead = laterOf(seen.ahead ?? nowhere, position);
  }

  #settle(seen: Seen, positions: ShardPositions): void {
    const { atPrimary, atFollower } = seen;
    if (atPrimary !== undefined) {
      const position = positions.reachedBy(atPrimary.place, atPrimary.sinceMs);
      if (position !== undefined) {
        this.#raise(seen, positions, position, atPrimary.isShown);
        seen.atPrimary = undefined;
      }
    }
    if (atFollower !== undefined) {
      const position = positions.reachedBy(atFollower.place, atFollower.sinceMs);
      if (position !== undefined) {
        this.#raise(seen, positions, position, true);
        if (!atFollower.isAcknowledged) seen.ahead = laterOf(seen.ahead ?? nowhere, position);
        seen.atFollower = undefined;
      }
    }
    if (seen.ahead !== undefined && positions.isAcknowledged(seen.ahead)) seen.ahead = undefined;
  }

  /** Seen here, now. */
  #raise(seen: Seen, positions: ShardPositions, { epoch, lsn }: Position, isShown: boolean): void {
    const mayBeLost = positions.acknowledgements === 0;
    this.#note(seen, positions, { epoch, lsn, ...(mayBeLost ? { mayBeLost } : {}) }, isShown);
  }

  #note(seen: Seen, positions: ShardPositions, position: Sighting, isShown: boolean): void {
    // A later epoch takes its place: what of it is lost has to be said all the same.
    seen.hasLost ||= lossOf(positions, seen.all, position.epoch) !== undefined;
    seen.all = laterOf(seen.all, position);
    if (isShown) seen.shown = laterOf(seen.shown, position);
  }
}
