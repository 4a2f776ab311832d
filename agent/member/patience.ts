/**
 * How long a primary is given to come to serve before its epoch is given up: what counts is the time that it could have
 * served (its authority confirmed, its lease held) and didn't, and the starts that failed. Given up, it is tried again later
 * and longer, since there may be nobody else: a recovery that takes long must come to its end some day.
 */
import { bootTimeMs } from '#clock/boot-time.ts';
import { restartAttempts, restartPatienceMs } from '#core/authority/timing.ts';

/** How long it stays given up before the next try. */
const PAUSE_MS = 30_000;
const MOST_PATIENCE_MS = 600_000;

export class Patience {
  readonly #now: () => number;
  #lostSince: number | undefined;
  #failedStarts = 0;
  #round = 0;
  #releasedAt: number | undefined;

  constructor(now: () => number = bootTimeMs) {
    this.#now = now;
  }

  get isReleased(): boolean {
    return this.#releasedAt !== undefined;
  }

  /** To be called at every look. `couldServe`: nothing but its own Postgres keeps this primary from serving. */
  look({ couldServe, isServing }: { readonly couldServe: boolean; readonly isServing: boolean }): void {
    const now = this.#now();
    if (this.#releasedAt !== undefined) {
      if (now - this.#releasedAt < PAUSE_MS) return;
      this.#releasedAt = undefined;
      this.#round += 1;
      this.#failedStarts = 0;
      this.#lostSince = undefined;
    }
    if (isServing) {
      this.forget();
      return;
    }
    if (couldServe) this.#lostSince ??= now;
    else this.#lostSince = undefined;
    const patienceMs = Math.min(MOST_PATIENCE_MS, restartPatienceMs * 2 ** this.#round);
    const isOver = this.#lostSince !== undefined && now - this.#lostSince >= patienceMs;
    if (isOver || this.#failedStarts >= restartAttempts) this.#releasedAt = now;
  }

  startFailed(): void {
    this.#failedStarts += 1;
  }

  /** It serves, or it isn't asked to. */
  forget(): void {
    this.#lostSince = undefined;
    this.#failedStarts = 0;
    this.#round = 0;
    this.#releasedAt = undefined;
  }
}
