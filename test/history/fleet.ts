/**
 * Runs all workloads side by side: for each door and workload a few sessions, each asking, waiting for the answer, and
 * pausing a little, until told to stop. Sessions live as long as their connections do, through faults too.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Random, seeded } from './random.ts';
import { Recorder } from './recorder.ts';
import { type Door, Session } from './session.ts';
import type { Workload } from './workload.ts';
import { Ledger } from './workloads/ledger.ts';
import { ListAppend } from './workloads/list-append.ts';
import { Register } from './workloads/register.ts';
import { Stock } from './workloads/stock.ts';
import { UniqueSet } from './workloads/unique-set.ts';

export interface FleetOptions {
  readonly doors: readonly Door[];
  /** Tells this run's rows apart from those of earlier ones. */
  readonly run: number;
  readonly seed: number;
  /** Where the histories are written, one file each. */
  readonly folder: string;
  /** Mean pause of a session between two operations. */
  readonly pauseMs?: number;
  readonly deadlineMs?: number;
}

const PAUSE_MS = 80;
const RECONNECT_PAUSE_MS = 200;
const OPEN_ATTEMPTS = 15;
const PREPARE_ATTEMPTS = 15;

export class Fleet {
  readonly workloads: readonly Workload[];
  readonly startedAt: bigint;
  readonly #options: FleetOptions;
  readonly #stop = new AbortController();
  readonly #sessions: Session[] = [];
  #running: Promise<void>[] = [];

  constructor(options: FleetOptions) {
    this.#options = options;
    this.startedAt = process.hrtime.bigint();
    const recorder = (name: string): Recorder =>
      new Recorder(name, { file: join(options.folder, `${name}.jsonl`), startedAt: this.startedAt });
    this.workloads = [
      new UniqueSet(recorder('set'), options.run),
      new Register(recorder('register'), options.run),
      new ListAppend(recorder('lists-serializable'), options.run, 'serializable'),
      new ListAppend(recorder('lists-repeatable-read'), options.run, 'repeatable read'),
      new Ledger(recorder('ledger'), options.run),
      new Stock(recorder('stock'), options.run),
    ];
  }

  /** Nanoseconds since the recording began: the histories' own time. */
  now(): number {
    return Number(process.hrtime.bigint() - this.startedAt);
  }

  /** Every session connected, first rows there, everybody at work. */
  async start(): Promise<void> {
    for (const workload of this.workloads) {
      for (const door of this.#options.doors) {
        for (let n = 0; n < workload.sessionsPerDoor; n += 1) {
          const { deadlineMs } = this.#options;
          const session = new Session({
            door,
            recorder: workload.recorder,
            ...(deadlineMs === undefined ? {} : { deadlineMs }),
          });
          this.#sessions.push(session);
          await opened(session);
          if (n === 0 && door === this.#options.doors[0]) await prepare(workload, session);
          const random = seeded(this.#options.seed * 1000 + this.#sessions.length);
          this.#running.push(this.#work(workload, session, random));
        }
      }
    }
  }

  /** Ends when every session has its last answer. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#running);
    this.#running = [];
    await Promise.all(this.#sessions.map((session) => session.close()));
    for (const { recorder } of this.workloads) recorder.flush();
  }

  /** How many sessions have had to connect anew. */
  reconnected(): number {
    return this.#sessions.filter(({ connections }) => connections > 1).length;
  }

  async #work(workload: Workload, session: Session, random: Random): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        await session.open();
      } catch {
        await sleep(RECONNECT_PAUSE_MS);
        continue;
      }
      await workload.step(session, random);
      await sleep(random() * 2 * (this.#options.pauseMs ?? PAUSE_MS));
    }
  }
}

/** Whoever stands in the way for a moment: a machine that stalls, a router that has just been started. */
async function opened(session: Session): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await session.open();
    } catch (error) {
      if (attempt === OPEN_ATTEMPTS) throw error;
      await sleep(RECONNECT_PAUSE_MS * attempt);
    }
  }
}

async function prepare(workload: Workload, session: Session): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await session.open();
      return await workload.prepare(session);
    } catch (error) {
      if (attempt === PREPARE_ATTEMPTS) throw error;
      await sleep(RECONNECT_PAUSE_MS);
    }
  }
}
