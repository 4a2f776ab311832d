/**
 * A read at a follower: what it asks of the follower, whether that is known to be met, the check where it isn't, and under what the
 * answer is the client's. The check is a statement of its own ahead of everything else, so that it is over before the read's snapshot is
 * taken (docs/design-traps.md, T3); a bound on age is looked at once more when the answer has come, since waiting counts (T5).
 */
import type { Lsn } from '#core/lsn.ts';
import type { ConsistencyLevel } from '../map/map.ts';
import type { AnswerLease, Backend } from '../pool/backend.ts';
import { functionCallMessage } from '../wire/client-messages.ts';
import { type Demand, judge, type Verdict } from './demand.ts';
import type { Place, ShardPositions } from './shard-positions.ts';

/** pg_last_wal_replay_lsn() */
const replayLsnCall = functionCallMessage(3821);
/** An answer that seems too old waits so long to be shown young. */
const proofMs = 200;
const proofPollMs = 20;
/** Between two checks of a follower that is waited for. */
const pollMs = 3;

export class FollowerRead {
  readonly place: Place;
  readonly #positions: ShardPositions;
  readonly #demand: Demand;
  #verdict: Verdict;

  constructor(positions: ShardPositions, place: Place, demand: Demand) {
    this.place = place;
    this.#positions = positions;
    this.#demand = demand;
    this.#verdict = judge(positions, place, demand);
  }

  get verdict(): Verdict {
    return this.#verdict;
  }

  /** What is asked now is no more than what was asked of the follower at first. */
  serves({
    level,
    maxStalenessMs,
  }: {
    readonly level: ConsistencyLevel;
    readonly maxStalenessMs?: number | undefined;
  }): boolean {
    if (level === 'strong' || (level === 'causal' && !this.#demand.needsKeeper)) return false;
    return maxStalenessMs === undefined || maxStalenessMs >= (this.#demand.maxStalenessMs ?? Number.POSITIVE_INFINITY);
  }

  /** Asks the backend until the demand is met, it can't be any more, or the time (monotonic) is over. Nobody else may use it meanwhile. */
  check(backend: Backend, untilMs: number, done: (isMet: boolean) => void): void {
    backend.write(
      backend.ownCall(replayLsnCall, (lsn) => {
        if (backend.isClosed) return;
        if (lsn !== undefined) this.#positions.sawReplay(this.place, lsn as Lsn);
        this.#verdict = lsn === undefined ? 'unmet' : judge(this.#positions, this.place, this.#demand);
        if (this.#verdict === 'open' && performance.now() + pollMs < untilMs) {
          setTimeout(() => {
            if (!backend.isClosed) this.check(backend, untilMs, done);
          }, pollMs);
          return;
        }
        done(this.#verdict === 'met');
      }),
    );
  }

  /** For the next statement; undefined where its answer counts whenever it comes. */
  lease(): AnswerLease | undefined {
    const { needsKeeper, maxStalenessMs } = this.#demand;
    const keeper = needsKeeper ? (this.#positions.keeperOf(this.place) ?? neverHeld) : undefined;
    const position = this.#positions.positionOf(this.place);
    if (maxStalenessMs === undefined || position === undefined) return keeper;
    return new FreshAnswer(this.#positions, position, maxStalenessMs, keeper);
  }
}

/** Nothing is known any more of who keeps what is read. */
const neverHeld: AnswerLease = { isHeld: false, prove: (settle) => settle(false) };

/** Whether who was at that position isn't older than allowed when the first of the answer has come; the rest of it is as old as that. */
class FreshAnswer implements AnswerLease {
  readonly #positions: ShardPositions;
  readonly #position: NonNullable<ReturnType<ShardPositions['positionOf']>>;
  readonly #maxStalenessMs: number;
  readonly #keeper: AnswerLease | undefined;
  #hasArrived = false;

  constructor(
    positions: ShardPositions,
    position: NonNullable<ReturnType<ShardPositions['positionOf']>>,
    maxStalenessMs: number,
    keeper: AnswerLease | undefined,
  ) {
    this.#positions = positions;
    this.#position = position;
    this.#maxStalenessMs = maxStalenessMs;
    this.#keeper = keeper;
  }

  get isHeld(): boolean {
    if (this.#keeper?.isHeld === false) return false;
    if (!this.#hasArrived) {
      const asOfMs = this.#positions.asOfMs(this.#position);
      this.#hasArrived = asOfMs !== undefined && this.#positions.isBefore(asOfMs + this.#maxStalenessMs);
    }
    return this.#hasArrived;
  }

  /** Where nothing was written meanwhile, the next word of the primary shows it younger than was known. */
  prove(settle: (held: boolean) => void): void {
    this.#proveAge(this.#positions.nowMs, performance.now() + proofMs, (isYoung) => {
      if (!isYoung || this.#keeper === undefined || this.#keeper.isHeld) return settle(isYoung);
      this.#keeper.prove(settle);
    });
  }

  #proveAge(readMs: number, untilMs: number, settle: (isYoung: boolean) => void): void {
    const asOfMs = this.#positions.asOfMs(this.#position);
    this.#hasArrived ||= asOfMs !== undefined && readMs <= asOfMs + this.#maxStalenessMs;
    if (this.#hasArrived || performance.now() > untilMs) return settle(this.#hasArrived);
    setTimeout(() => this.#proveAge(readMs, untilMs, settle), proofPollMs);
  }
}
