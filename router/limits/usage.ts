/**
 * What one tenant, or one role, uses of this router: its client connections, what it has in flight, and its statements of late.
 * Pure but for the numbers it keeps. Leaves limits to others: they are the map's, may change at any time, and are said with each question.
 */
import { FairQueue, type Place } from '../pool/fair-queue.ts';

/** One who waits for something in flight to end. */
export interface Turn {
  go(): void;
}

export class Usage {
  connections = 0;
  inFlight = 0;
  readonly #waiting = new FairQueue<Turn>();
  #tokens = Number.POSITIVE_INFINITY;
  #filledAtMs = 0;

  get waiting(): number {
    return this.#waiting.length;
  }

  get isUnused(): boolean {
    return this.connections === 0 && this.inFlight === 0 && this.#waiting.length === 0;
  }

  /**
   * Takes so many statements out of what a second allows. False: there is nothing left. What wasn't used is kept for one second; a text
   * of several statements is let pass as a whole, and owed for.
   */
  spend(statements: number, perSecond: number, nowMs: number): boolean {
    const tokens = Math.min(perSecond, this.#tokens + ((nowMs - this.#filledAtMs) * perSecond) / 1_000);
    this.#filledAtMs = nowMs;
    this.#tokens = tokens < 1 ? tokens : tokens - statements;
    return tokens >= 1;
  }

  /** Goes at once, or when something has ended; tenants take turns. Returns its place where it has to wait. */
  enter(tenant: string, most: number, turn: Turn): Place<Turn> | undefined {
    if (this.inFlight < most && this.#waiting.length === 0) {
      this.inFlight += 1;
      turn.go();
      return undefined;
    }
    return this.#waiting.push(tenant, turn);
  }

  stopWaiting(place: Place<Turn>): void {
    this.#waiting.remove(place);
  }

  leave(most: number): void {
    this.inFlight -= 1;
    this.admit(most);
  }

  /** As many of those who wait as may go now. */
  admit(most: number): void {
    while (this.inFlight < most) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.inFlight += 1;
      next.go();
    }
  }
}
