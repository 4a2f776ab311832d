/**
 * Records one history: entries get their index and time here, in the order in which this one process saw things happen.
 * The clock is the host's monotonic one (CLOCK_MONOTONIC behind process.hrtime), the same for all sessions of a run.
 * Process numbers are given out here as well, so that no two sessions ever share one.
 */
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Entry, Level, Outcome } from './entry.ts';

const FLUSH_EVERY = 200;

export interface Invocation {
  readonly process: number;
  readonly f: string;
  readonly value: unknown;
  readonly level?: Level;
  readonly door?: string;
}

export interface Completion {
  readonly type: Outcome;
  readonly value: unknown;
  readonly error?: string;
  readonly timeline?: number;
}

export class Recorder {
  readonly name: string;
  readonly entries: Entry[] = [];
  readonly #clock: () => bigint;
  readonly #startedAt: bigint;
  readonly #file: string | undefined;
  #written = 0;
  #nextProcess = 0;

  /** `file` gets the history as JSON lines; `startedAt` is shared by histories that are to be compared in time. */
  constructor(
    name: string,
    options: { readonly file?: string; readonly clock?: () => bigint; readonly startedAt?: bigint } = {},
  ) {
    this.name = name;
    this.#clock = options.clock ?? (() => process.hrtime.bigint());
    this.#startedAt = options.startedAt ?? this.#clock();
    this.#file = options.file;
    if (this.#file !== undefined) {
      mkdirSync(dirname(this.#file), { recursive: true });
      writeFileSync(this.#file, '');
    }
  }

  newProcess(): number {
    const given = this.#nextProcess;
    this.#nextProcess += 1;
    return given;
  }

  invoke(invocation: Invocation): void {
    this.#push({ ...invocation, type: 'invoke' });
  }

  complete(invocation: Invocation, completion: Completion): void {
    this.#push({ ...invocation, ...completion });
  }

  /** Entries so far go to the file. */
  flush(): void {
    if (this.#file === undefined || this.#written === this.entries.length) return;
    const lines = this.entries.slice(this.#written).map((entry) => `${JSON.stringify(entry)}\n`);
    appendFileSync(this.#file, lines.join(''));
    this.#written = this.entries.length;
  }

  #push(entry: Omit<Entry, 'index' | 'time'>): void {
    const time = Number(this.#clock() - this.#startedAt);
    this.entries.push({ index: this.entries.length, time, ...entry });
    if (this.entries.length - this.#written >= FLUSH_EVERY) this.flush();
  }
}
