/** Takes the primary away again and again, each time in another way, and waits until everybody is back. */
import { setTimeout as sleep } from 'node:timers/promises';
import { faultNamed } from '../faults/catalogue.ts';
import { fieldOf } from '../faults/field.ts';
import type { Installation } from '../faults/installation.ts';
import type { Disturbance } from './disturbed.ts';

/** Its Postgres stands still, and is there again later; its agent does; its pod is gone. */
const ways = ['postgres-stopped', 'pod-deleted', 'agent-stopped'] as const;
const BEFORE_MS = 4_000;
const NEW_EPOCH_MS = 40_000;
/** The new side is at work, before the old one comes back. */
const DWELL_MS = 3_000;
const SETTLE_MS = 180_000;
const POLL_MS = 500;

export class FailingOver implements Disturbance {
  readonly #installation: Installation;
  readonly #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();
  /** What was done, and which epochs came of it. */
  readonly told: string[] = [];
  failovers = 0;
  #rounds = 0;
  #hasFailed = false;

  constructor(installation: Installation) {
    this.#installation = installation;
  }

  /** Each way was tried, or it has gone wrong. */
  get isDone(): boolean {
    return this.#hasFailed || this.#rounds >= ways.length;
  }

  async start(): Promise<void> {
    this.#running = this.#alternate();
    // It is awaited when this is stopped.
    this.#running.catch(() => {
      this.#hasFailed = true;
    });
  }

  /** Ends what is under way. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #alternate(): Promise<void> {
    for (let round = 0; ; round++) {
      await sleep(BEFORE_MS, undefined, { signal: this.#stop.signal }).catch(() => {});
      if (this.#stop.signal.aborted) return;
      await this.#failOver(ways[round % ways.length] ?? ways[0], round);
      await this.#installation.settled(() => {}, SETTLE_MS);
      this.#rounds += 1;
    }
  }

  async #failOver(way: (typeof ways)[number], round: number): Promise<void> {
    const before = await this.#epoch();
    const field = await fieldOf(
      this.#installation,
      () => [],
      round,
      () => {},
    );
    const heal = await faultNamed(way).inject(field);
    try {
      const giveUpAt = performance.now() + NEW_EPOCH_MS;
      while ((await this.#epoch()) === before && performance.now() < giveUpAt) await sleep(POLL_MS);
      await sleep(DWELL_MS);
    } finally {
      await heal();
    }
    const after = await this.#epoch();
    if (after > before) this.failovers += 1;
    this.told.push(`${way}: epoch ${before} to ${after}`);
  }

  async #epoch(): Promise<number> {
    return (await this.#installation.authority())?.epoch ?? 0;
  }
}
