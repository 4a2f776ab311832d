/**
 * The way down of a primary whose epoch was ended for a handover: routers stop sending and finish what is under way, then
 * Postgres is shut down in order, so that its followers have all of its log to the end of the shutdown checkpoint. The
 * lease is kept and the tunnels stay meanwhile. Every wait is bounded: a router that doesn't finish is cut, a follower
 * that doesn't take the log is left behind (docs/design-traps.md, A26), and a shutdown that takes too long is made a crash.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Routers } from './routers.ts';

export interface HandOverOptions {
  readonly routers: Pick<Routers, 'areDrained'>;
  /** Ends the agent's own commits. */
  readonly endCommits: () => void;
  /** Ends what followers have from this member. */
  readonly closeTunnels: () => void;
  /** `onShutdown`: whoever could see too much is kept still by now, and Postgres sends its followers the end of its log. */
  readonly stopPostgres: (fastMs: number, onShutdown: () => void) => Promise<void>;
  readonly log: { info(details: object, message: string): void };
}

const DRAIN_MS = 1_500;
const LAGGARDS_MS = 2_000;
const FAST_MS = 4_000;
const POLL_MS = 10;

export class HandOver {
  readonly #options: HandOverOptions;
  #epoch: number | undefined;

  constructor(options: HandOverOptions) {
    this.#options = options;
  }

  get isRunning(): boolean {
    return this.#epoch !== undefined;
  }

  /** Once; again while it runs does nothing. @param epoch At which the primary served. */
  begin(epoch: number): void {
    if (this.#epoch !== undefined) return;
    this.#epoch = epoch;
    void this.#run(epoch);
  }

  /** Postgres has gone. */
  end(): void {
    this.#epoch = undefined;
  }

  async #run(epoch: number): Promise<void> {
    const { routers, endCommits, closeTunnels, stopPostgres, log } = this.#options;
    const begunAt = performance.now();
    while (!routers.areDrained(epoch) && performance.now() - begunAt < DRAIN_MS) await sleep(POLL_MS);
    const isDrained = routers.areDrained(epoch);
    const drainedMs = Math.round(performance.now() - begunAt);
    endCommits();
    let laggards: NodeJS.Timeout | undefined;
    try {
      await stopPostgres(FAST_MS, () => {
        laggards = setTimeout(closeTunnels, LAGGARDS_MS);
      });
    } finally {
      clearTimeout(laggards);
      this.end();
    }
    log.info(
      { isDrained, drainedMs, tookMs: Math.round(performance.now() - begunAt) },
      'handed over: Postgres is down',
    );
  }
}
