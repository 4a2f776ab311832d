/** Samples what is counted once a minute, for the averages of SHOW STATS: as PgBouncer's stats_period. */
import type { Stats, WorkerView } from './view.ts';

const periodMs = 60_000;

export class Periods {
  readonly #read: () => Stats;
  #from: Stats | undefined;
  #timer: NodeJS.Timeout | undefined;
  last: WorkerView['period'];

  constructor(read: () => Stats) {
    this.#read = read;
  }

  start(): void {
    this.#from = this.#read();
    let sinceMs = performance.now();
    this.#timer = setInterval(() => {
      const to = this.#read();
      const nowMs = performance.now();
      if (this.#from !== undefined) this.last = { from: this.#from, to, seconds: (nowMs - sinceMs) / 1_000 };
      this.#from = to;
      sinceMs = nowMs;
    }, periodMs);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
