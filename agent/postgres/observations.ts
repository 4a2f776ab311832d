/**
 * Looks at Postgres, shared by those who ask at about the same time, and bounded in how long they wait. Each look carries
 * the time at which it began: what a look says held at some time since then, so whoever needs to know what held after an
 * event asks for a look that began after it (docs/design-traps.md, A9: the position of a barrier).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { PostgresSeen } from './observe.ts';

export interface Observation {
  /** On the monotonic clock, ms; before the first question was asked. */
  readonly begunAt: number;
  /** Undefined while Postgres can't be asked. */
  readonly seen: PostgresSeen | undefined;
}

export const neverSeen: Observation = { begunAt: -Infinity, seen: undefined };

/** A look that began this recently serves the next one who asks. */
const FRESH_MS = 250;
/** A Postgres that answers no faster must not make its agent look dead. */
const PATIENCE_MS = 1_000;

interface Look {
  readonly begunAt: number;
  readonly result: Promise<Observation>;
}

export class Observations {
  readonly #look: () => Promise<PostgresSeen | undefined>;
  #last: Observation = neverSeen;
  #running: Look | undefined;

  /** @param look Asks Postgres; resolves with undefined, and never rejects, when it can't be asked. */
  constructor(look: () => Promise<PostgresSeen | undefined>) {
    this.#look = look;
  }

  /** One that began no earlier than `since`, if it can be had in time; else the last there is: `begunAt` says which. */
  async latest(since = -Infinity): Promise<Observation> {
    if (this.#last.begunAt >= Math.max(since, performance.now() - FRESH_MS)) return this.#last;
    const patience = new AbortController();
    try {
      return await Promise.race([
        this.#begunSince(since),
        sleep(PATIENCE_MS, undefined, { ref: false, signal: patience.signal }).then(
          () => this.#last,
          () => this.#last,
        ),
      ]);
    } finally {
      patience.abort();
    }
  }

  /** Of a Postgres that has gone nothing is known, nor from a look that is still on its way. */
  forget(): void {
    this.#last = neverSeen;
    this.#running = undefined;
  }

  async #begunSince(since: number): Promise<Observation> {
    if (this.#running !== undefined && this.#running.begunAt < since) await this.#running.result;
    this.#running ??= this.#begin();
    return this.#running.result;
  }

  #begin(): Look {
    const begunAt = performance.now();
    const look: Look = {
      begunAt,
      result: this.#look().then((seen) => {
        const observation = { begunAt, seen };
        if (this.#running === look) {
          this.#running = undefined;
          this.#last = observation;
        }
        return observation;
      }),
    };
    return look;
  }
}
