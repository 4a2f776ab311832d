/**
 * A queue of keys to work on. Invariants: a key waits at most once; one key is never worked on twice at the same time (a key
 * added meanwhile runs again afterwards); a key whose work throws comes back after its own growing pause, and a change that
 * wakes it sooner wakes it at most once a second; a key that keeps waking itself (its work changes what it watches) is slowed down.
 * In memory only: whoever starts anew adds every key again.
 */
import { type BackoffLimits, backoffMs } from './backoff.ts';

export interface QueueOptions {
  /** Keys worked on at once; default 4. */
  readonly concurrency?: number;
  /** Default 100 ms to 60 s. */
  readonly backoff?: BackoffLimits;
  /** Told of each failure and the pause before the next try. */
  readonly onFailure?: (key: string, error: unknown, failures: number, pauseMs: number) => void;
}

/** Does the work of a key. What it gives back: when to come again; undefined: not before something adds the key. */
export type Work = (key: string) => Promise<{ readonly againAfterMs?: number | undefined } | void>;

/** A key may run this often within the window at full speed; beyond, once a second. */
const burst = 30;
const burstWindowMs = 10_000;
const slowedMs = 1_000;

interface Delayed {
  readonly timer: NodeJS.Timeout;
  readonly dueAtMs: number;
}

export class WorkQueue {
  readonly #work: Work;
  readonly #options: QueueOptions;
  readonly #ready = new Set<string>();
  readonly #running = new Set<string>();
  readonly #delayed = new Map<string, Delayed>();
  readonly #failures = new Map<string, number>();
  readonly #runs = new Map<string, { readonly sinceMs: number; count: number }>();
  #idle: PromiseWithResolvers<void> | undefined;
  #started = false;
  #stopped = false;

  constructor(work: Work, options: QueueOptions = {}) {
    this.#work = work;
    this.#options = options;
  }

  /** Keys that wait to be worked on now (delayed ones don't count). */
  get length(): number {
    return this.#ready.size;
  }

  get running(): number {
    return this.#running.size;
  }

  failuresOf(key: string): number {
    return this.#failures.get(key) ?? 0;
  }

  /** Work on `key` as soon as it may, whatever delay it had. */
  add(key: string): void {
    if (this.#stopped || this.#ready.has(key)) return;
    if (this.#isSlowed(key)) this.addAfter(key, slowedMs);
    else this.#makeReady(key);
  }

  /** Work on `key` after `delayMs`, or sooner if it is added meanwhile or was due sooner. */
  addAfter(key: string, delayMs: number): void {
    if (this.#stopped || this.#ready.has(key)) return;
    if (delayMs <= 0) {
      this.add(key);
      return;
    }
    const dueAtMs = performance.now() + delayMs;
    const present = this.#delayed.get(key);
    if (present !== undefined && present.dueAtMs <= dueAtMs) return;
    this.#cancelDelay(key);
    const timer = setTimeout(
      () => {
        this.#delayed.delete(key);
        this.#makeReady(key);
      },
      Math.min(delayMs, 2 ** 31 - 1),
    );
    this.#delayed.set(key, { timer, dueAtMs });
  }

  /** Forgets the past failures of a key that is no more. */
  forget(key: string): void {
    this.#failures.delete(key);
    this.#runs.delete(key);
    this.#cancelDelay(key);
  }

  /** Nothing is worked on before this. */
  start(): void {
    this.#started = true;
    this.#next();
  }

  /** Takes no more keys, begins no more work, and waits for what is running. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#ready.clear();
    for (const key of this.#delayed.keys()) this.#cancelDelay(key);
    if (this.#running.size === 0) return;
    this.#idle ??= Promise.withResolvers<void>();
    await this.#idle.promise;
  }

  #makeReady(key: string): void {
    if (this.#stopped) return;
    this.#cancelDelay(key);
    this.#ready.add(key);
    this.#next();
  }

  #isSlowed(key: string): boolean {
    if (this.failuresOf(key) > 0) return true;
    const runs = this.#runs.get(key);
    return runs !== undefined && runs.count >= burst && performance.now() - runs.sinceMs < burstWindowMs;
  }

  #countRun(key: string): void {
    const runs = this.#runs.get(key);
    if (runs !== undefined && performance.now() - runs.sinceMs < burstWindowMs) runs.count += 1;
    else this.#runs.set(key, { sinceMs: performance.now(), count: 1 });
  }

  #next(): void {
    if (!this.#started) return;
    const concurrency = this.#options.concurrency ?? 4;
    for (const key of this.#ready) {
      if (this.#running.size >= concurrency) return;
      if (this.#running.has(key)) continue;
      this.#ready.delete(key);
      this.#running.add(key);
      this.#countRun(key);
      void this.#run(key);
    }
  }

  async #run(key: string): Promise<void> {
    try {
      const outcome = await this.#work(key);
      this.#failures.delete(key);
      if (outcome?.againAfterMs !== undefined) this.addAfter(key, outcome.againAfterMs);
    } catch (error) {
      const failures = this.failuresOf(key) + 1;
      this.#failures.set(key, failures);
      const pauseMs = backoffMs(failures, this.#options.backoff ?? { baseMs: 100, maxMs: 60_000 });
      this.#options.onFailure?.(key, error, failures, pauseMs);
      this.addAfter(key, pauseMs);
    } finally {
      this.#running.delete(key);
      if (this.#running.size === 0) this.#idle?.resolve();
      this.#next();
    }
  }

  #cancelDelay(key: string): void {
    const delayed = this.#delayed.get(key);
    if (delayed === undefined) return;
    clearTimeout(delayed.timer);
    this.#delayed.delete(key);
  }
}
