/**
 * A read at a follower: what it asks of the follower, whether that is known to be met, the check where it isn't, and under what the
 * answer is the client's. The check is a statement of its own ahead of everything else, so that it is over before the read's snapshot is
 * taken (docs/design-traps.md, T3); a bound on age is looked at once more when the answer has come, since waiting counts (T5). Where the
 * follower's copy alone doesn't keep safe what it shows, it is asked once more behind the read, and the answer waits until that much is
 * durable (A17).
 */
import { covers, nowhere, type Position } from '#core/consistency/position.ts';
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
  /** How far the follower surely was before the first snapshot. */
  #begunAt: Position = nowhere;
  readonly #provableAt: number | undefined;

  constructor(positions: ShardPositions, place: Place, demand: Demand) {
    this.place = place;
    this.#positions = positions;
    this.#demand = demand;
    this.#provableAt =
      demand.needsKeeper && positions.keeperOf(place)?.isHeld !== true ? positions.provableAt(place) : undefined;
    this.#verdict = judge(positions, place, demand);
    this.#noteBeginning();
  }

  get verdict(): Verdict {
    return this.#verdict;
  }

  /** The answer isn't the client's before it is shown to be durable. */
  get needsProof(): boolean {
    return this.#provableAt !== undefined;
  }

  /**
   * What is asked now is no more than what was asked of the follower at first, or what it had seen by then: the snapshot may be as old
   * as that. A token that was taken up meanwhile may ask for more.
   */
  serves(
    {
      level,
      maxStalenessMs,
    }: {
      readonly level: ConsistencyLevel;
      readonly maxStalenessMs?: number | undefined;
    },
    floor: Position,
  ): boolean {
    if (level === 'strong' || (level === 'causal' && !this.#demand.needsKeeper)) return false;
    if (!covers(this.#begunAt, floor, this.#positions.history)) return false;
    return maxStalenessMs === undefined || maxStalenessMs >= (this.#demand.maxStalenessMs ?? Number.POSITIVE_INFINITY);
  }

  /** Asks the backend until the demand is met, it can't be any more, or the time (monotonic) is over. Nobody else may use it meanwhile. */
  check(backend: Backend, untilMs: number, done: (isMet: boolean) => void): void {
    backend.write(
      this.ask(backend, (verdict) => {
        if (verdict === 'open' && performance.now() + pollMs < untilMs) {
          setTimeout(() => {
            if (!backend.isClosed) this.check(backend, untilMs, done);
          }, pollMs);
          return;
        }
        done(verdict === 'met');
      }),
    );
  }

  /** One check; returns the bytes to be written. What is written behind it runs, and takes its snapshot, when it is over. */
  ask(backend: Backend, answered: (verdict: Verdict) => void): Buffer {
    return backend.ownCall(replayLsnCall, (lsn) => {
      if (backend.isClosed) return;
      if (lsn !== undefined) this.#positions.sawReplay(this.place, lsn as Lsn);
      this.#verdict = lsn === undefined ? 'unmet' : judge(this.#positions, this.place, this.#demand);
      this.#noteBeginning();
      answered(this.#verdict);
    });
  }

  /**
   * Asks behind a read how far the follower was, and waits until that is durable, up to a time (monotonic). Returns the bytes to be
   * written.
   */
  askBehind(backend: Backend, untilMs: number, shown: (isDurable: boolean) => void): Buffer {
    return backend.ownCall(replayLsnCall, (lsn) => {
      if (backend.isClosed) return;
      const epoch = this.#provableAt;
      if (lsn === undefined || epoch === undefined) return shown(false);
      this.#awaitDurable({ epoch, lsn: lsn as Lsn }, untilMs, shown);
    });
  }

  #awaitDurable(position: Position, untilMs: number, shown: (isDurable: boolean) => void): void {
    if (this.#positions.isDurable(position)) return shown(true);
    if (performance.now() + proofPollMs > untilMs) return shown(false);
    setTimeout(() => this.#awaitDurable(position, untilMs, shown), proofPollMs);
  }

  #noteBeginning(): void {
    if (this.#verdict === 'met') this.#begunAt = this.#positions.positionOf(this.place) ?? nowhere;
  }

  /** For the next statement; undefined where its answer counts whenever it comes. */
  lease(): AnswerLease | undefined {
    const { needsKeeper, maxStalenessMs } = this.#demand;
    const isKept = needsKeeper && !this.needsProof;
    const keeper = isKept ? (this.#positions.keeperOf(this.place) ?? neverHeld) : undefined;
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
