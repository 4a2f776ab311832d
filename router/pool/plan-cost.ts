/**
 * What is known of how long a statement's plan takes, learnt from each time it runs: only those that are surely quick, and whose
 * answers are small, may share a connection, since whoever comes behind them waits. Pure but for the numbers it keeps.
 *
 * Only the clock on the wall can be read, and it goes on while a member or this program waits for a processor. So the least of some runs
 * says whether a plan is quick, and a shared run that took long counts against it only if others' statements went on meanwhile. A few
 * such runs hold nobody up for long, since those behind are run elsewhere (lane.ts). A plan that has many of them has to prove itself
 * anew after a time that doubles.
 */

/** Runs of its own before a plan may share. */
const provingRuns = 3;
/** The least of `windowRuns` runs. */
const quickMicros = 1_500;
const windowRuns = 32;
/** As so much the longest run counts in the average: one that was held up says little of the next. */
const longestMicros = 5_000;
/** A run that takes longer may count as slow: nobody should wait that long for another. */
const slowMicros = 20_000;
/** Slow runs of a thousand that are let pass: what a busy machine makes slow now and then, with room to spare. */
const slowPerThousand = 50;
const smallBytes = 16 * 1024;
const firstPenaltyMs = 250;
const longestPenaltyMs = 10_000;
/** Times the last penalty. */
const behavedFor = 8;
/** Weight of the newest in the averages. */
const weight = 1 / 8;
const slowWeight = 1 / 1_000;
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

  /** May be sent behind others, and have others sent behind it. */
  mayShare(nowMs: number): boolean {
    if (nowMs < this.#barredUntilMs || this.#runs < provingRuns) return false;
    return Math.min(this.#leastMicros, this.#formerLeastMicros) <= quickMicros;
  }

  /** It was so long at the head of a line, and member and router went on meanwhile or not (progress.ts). */
  noteShared(micros: number, bytes: number, othersWentOn: boolean, nowMs: number): void {
    this.#note(micros, bytes, nowMs);
    if (this.#runs % windowRuns === 0) {
      this.#formerLeastMicros = this.#leastMicros;
      this.#leastMicros = Number.POSITIVE_INFINITY;
    }
    // Those that are still in line when it is barred say no more than those that it was barred for.
    if (nowMs < this.#barredUntilMs) return;
    const isSlow = micros > slowMicros && othersWentOn;
    this.#slow += ((isSlow ? 1_000 : 0) - this.#slow) * slowWeight;
    if (this.#slow > slowPerThousand) this.#bar(nowMs);
  }

  /** It has run on a connection of its own: next to many others, of which only the quickest says how long it takes. */
  noteAlone(micros: number, bytes: number, nowMs: number): void {
    this.#note(micros, bytes, nowMs);
  }

  #note(micros: number, bytes: number, nowMs: number): void {
    this.#runs += 1;
    const counted = Math.min(micros, longestMicros);
    this.micros += (counted - this.micros) * (this.#runs < 1 / weight ? 1 / this.#runs : weight);
    this.#leastMicros = Math.min(this.#leastMicros, micros);
    if (bytes > smallBytes) this.#bar(nowMs);
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
