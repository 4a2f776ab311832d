/**
 * Several workers, each an event loop in a thread of its own (thread.ts) listening on the one port: the kernel spreads connections. They
 * share counters and nothing else; each asks the agents for itself, and to them is a router of its own.
 * A thread that ends by itself ends the process: whoever started it starts it anew.
 */
import { Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import { Metrics } from './metrics.ts';

/** What a thread is given. */
export interface ThreadStart {
  readonly worker: number;
  readonly counters: readonly SharedArrayBuffer[];
}

/** What it says, a few times a second. */
export interface ThreadWord {
  readonly isReady: boolean;
  readonly gauges: Readonly<Record<string, number>>;
}

export class Threads {
  readonly counters: readonly Metrics[];
  readonly #words: ThreadWord[] = [];
  readonly #threads: readonly Worker[];
  readonly #ended: readonly Promise<void>[];
  #isStopping = false;

  constructor(workers: number, log: Logger) {
    this.counters = Array.from({ length: workers }, () => new Metrics());
    const counters = this.counters.map(({ memory }) => memory);
    this.#threads = this.counters.map((_, worker) => {
      const workerData: ThreadStart = { worker, counters };
      const thread = new Worker(threadFile(), { workerData, name: `worker-${worker}` });
      thread.on('message', (word: ThreadWord) => {
        this.#words[worker] = word;
      });
      thread.on('error', (error) => log.fatal({ err: error, worker }, 'a worker failed'));
      return thread;
    });
    this.#ended = this.#threads.map(
      (thread) =>
        new Promise((resolve) => {
          thread.once('exit', () => {
            if (!this.#isStopping) process.exit(1);
            resolve();
          });
        }),
    );
  }

  /** All of them are. */
  get isReady(): boolean {
    return !this.#isStopping && this.#threads.every((_, worker) => this.#words[worker]?.isReady === true);
  }

  /** Sums; of what is the same for all, the greatest. */
  get gauges(): Record<string, number> {
    const gauges: Record<string, number> = {};
    for (const word of this.#words)
      for (const [name, value] of Object.entries(word?.gauges ?? {}))
        gauges[name] = isShared(name) ? Math.max(gauges[name] ?? 0, value) : (gauges[name] ?? 0) + value;
    return gauges;
  }

  /** Resolves when all have drained and ended. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const thread of this.#threads) thread.postMessage('stop');
    await Promise.all(this.#ended);
  }
}

const isShared = (name: string): boolean =>
  name === 'tenants' ||
  name === 'silent_agents' ||
  name.startsWith('shard_epoch') ||
  /^(?:members_reachable|pools_pool_size|pools_maxwait)/.test(name);

/** The source in a checkout; in an image, the bundle beside our own. */
const threadFile = (): URL =>
  new URL(import.meta.url.endsWith('.ts') ? './thread.ts' : './router-thread.mjs', import.meta.url);
