/**
 * What is known of how long a statement's plan takes, learnt from each time it runs: only those that are surely quick, and whose
 * answers are small, may share a connection, since whoever comes behind them waits. Pure but for the numbers it keeps.
 *
 * Only the clock on the wall can be read, and it goes on while a member or this program waits for a processor. So the least of some runs
 * says whether a plan is quick, and a shared run that took long counts against it only if others' statements went on meanwhile. A plan
 * that turns out not to be quick has to prove itself anew after a time that doubles; if meanwhile its statements waited no less, each
 * for a connection of its own, then sharing wasn't what held them up: for a while only a good many slow runs count against it.
 */

/** Runs of its own before a plan may share. */
const provingRuns = 3;
/** The least of `windowRuns` runs. */
const quickMicros = 1_500;
const windowRuns = 32;
/** A run that takes longer may count as slow: nobody should wait that long for another. */
const slowMicros = 20_000;
/** Slow runs of a thousand that are let pass: less than what a 99th percentile shows, with room for several in line. */
const slowPerThousand = 2;
/** The same while sharing isn't to blame. */
const excusedPerThousand = 20;
const excusedMs = 10_000;
/** Runs on connections of their own that show how long one waits for these. */
const comparedRuns = 50;
const smallBytes = 16 * 1024;
const firstPenaltyMs = 250;
const longestPenaltyMs = 10_000;
/** Times the last penalty. */
const behavedFor = 8;
/** Weight of the newest in the averages. */
const weight = 1 / 8;
const slowWeight = 1 / 1_000;
/** Slow runs come in bursts, and what is compared is how long statements wait in the long run. */
const heldWeight = 1 / 4_096;

/** An average in which the newest weigh `leastWeight`, and the first ones all the same. */
class Average {
  value = 0;
  count = 0;
  readonly #leastWeight: number;

  constructor(leastWeight: number) {
    this.#leastWeight = leastWeight;
  }

  add(value: number): void {
    this.count += 1;
    this.value += (value - this.value) * Math.max(this.#leastWeight, 1 / this.count);
  }

  clear(): void {
    this.value = 0;
    this.count = 0;
  }
}

export class PlanCost {
  /** Of a run, on average; 0 before the first. */
  micros = 0;
  #runs = 0;
  #leastMicros = Number.POSITIVE_INFINITY;
  /** Of the window before. */
  #formerLeastMicros = Number.POSITIVE_INFINITY;
  /** Of a thousand, by the newest thousand or so. */
  #slow = 0;
  #penaltyMs = firstPenaltyMs;
  #barredUntilMs = 0;
  #isBarredAsSlow = false;
  #excusedUntilMs = 0;
  /** Microseconds that its statements waited before they ran: in line behind others, and for connections of their own since it was barred. */
  readonly #heldInLine = new Average(heldWeight);
  readonly #heldAlone = new Average(0);

  /** May be sent behind others, and have others sent behind it. */
  mayShare(nowMs: number): boolean {
    if (nowMs < this.#barredUntilMs || this.#runs < provingRuns) return false;
    if (this.#isBarredAsSlow) this.#compare(nowMs);
    return Math.min(this.#leastMicros, this.#formerLeastMicros) <= quickMicros;
  }

  /**
   * It has run in line with others: how long it was at the head and how long behind others, how much it answered, and whether member and
   * router went on meanwhile (progress.ts).
   */
  noteShared(micros: number, heldMicros: number, bytes: number, othersWentOn: boolean, nowMs: number): void {
    this.#note(micros, bytes, nowMs);
    // Those that are still in line when it is barred say no more than those that it was barred for.
    if (nowMs < this.#barredUntilMs) return;
    this.#heldInLine.add(heldMicros);
    const isSlow = micros > slowMicros && othersWentOn;
    this.#slow += ((isSlow ? 1_000 : 0) - this.#slow) * slowWeight;
    if (this.#slow <= (nowMs < this.#excusedUntilMs ? excusedPerThousand : slowPerThousand)) return;
    this.#isBarredAsSlow = true;
    this.#heldAlone.clear();
    this.#bar(nowMs);
  }

  /** It has run on a connection of its own, for which it waited so long. */
  noteAlone(micros: number, heldMicros: number, bytes: number, nowMs: number): void {
    this.#heldAlone.add(heldMicros);
    this.#note(micros, bytes, nowMs);
  }

  #note(micros: number, bytes: number, nowMs: number): void {
    this.#runs += 1;
    this.micros += (micros - this.micros) * (this.#runs < 1 / weight ? 1 / this.#runs : weight);
    this.#leastMicros = Math.min(this.#leastMicros, micros);
    if (bytes > smallBytes) return this.#bar(nowMs);
    if (this.#runs % windowRuns !== 0) return;
    this.#formerLeastMicros = this.#leastMicros;
    this.#leastMicros = Number.POSITIVE_INFINITY;
  }

  /** It may share again: was that what held its statements up? */
  #compare(nowMs: number): void {
    this.#isBarredAsSlow = false;
    if (this.#heldAlone.count < comparedRuns || this.#heldAlone.value < this.#heldInLine.value) return;
    this.#excusedUntilMs = nowMs + excusedMs;
    this.#penaltyMs = firstPenaltyMs;
  }

  /** Has to prove itself anew, and not before a while. */
  #bar(nowMs: number): void {
    this.#runs = 0;
    this.micros = 0;
    this.#slow = 0;
    this.#leastMicros = Number.POSITIVE_INFINITY;
    this.#formerLeastMicros = Number.POSITIVE_INFINITY;
    if (nowMs < this.#barredUntilMs) return;
    // Behaved for long: the next time counts as the first.
    if (nowMs - this.#barredUntilMs > this.#penaltyMs * behavedFor) this.#penaltyMs = firstPenaltyMs;
    this.#barredUntilMs = nowMs + this.#penaltyMs;
    this.#penaltyMs = Math.min(this.#penaltyMs * 2, longestPenaltyMs);
  }
}

/** By plan, for as long as somebody has the plan. */
export class PlanCosts {
  readonly #costs = new WeakMap<object, PlanCost>();

  of(plan: object): PlanCost {
    let cost = this.#costs.get(plan);
    if (cost === undefined) {
      cost = new PlanCost();
      this.#costs.set(plan, cost);
    }
    return cost;
  }
}
