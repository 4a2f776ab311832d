/**
 * One client's session through a router, kept as long as the connection lives, through faults too: it connects again
 * only when the connection is gone. What it does is recorded, with the outcome that the answer or the lack of one allows
 * it to know; after an unknown outcome it is another process.
 */
import pg from 'pg';
import type { Level } from './entry.ts';
import { describeError, NoAnswerError, outcomeOf } from './outcome.ts';
import type { Recorder } from './recorder.ts';

/** A way into the database: which router, and how to log in there. */
export interface Door {
  readonly name: string;
  open(): Promise<pg.Client>;
}

export type Isolation = 'read committed' | 'repeatable read' | 'serializable';
export type Query = (text: string, values?: readonly unknown[]) => Promise<pg.QueryResult>;

/** What one operation may do to the database. */
export interface Statements {
  /** A statement that commits by itself. */
  readonly commit: Query;
  /** A statement by itself that surely changes nothing. */
  readonly read: Query;
  /** `work` answers undefined to have it rolled back. */
  readonly transaction: <T>(
    isolation: Isolation,
    work: (query: Query) => Promise<T | undefined>,
  ) => Promise<T | undefined>;
}

export interface Answer {
  /** What goes into the history as the completion's value. */
  readonly value: unknown;
  readonly timeline?: number;
}

export interface SessionOptions {
  readonly door: Door;
  readonly recorder: Recorder;
  readonly level?: Level;
  /** An operation that isn't answered for so long has its connection cut. */
  readonly deadlineMs?: number;
}

const DEADLINE_MS = 20_000;

export class Session {
  readonly door: Door;
  readonly #recorder: Recorder;
  readonly #level: Level | undefined;
  readonly #deadlineMs: number;
  #process: number;
  #client: pg.Client | undefined;
  #isBroken = false;
  /** Above one: the connection was lost at least once. */
  connections = 0;

  constructor(options: SessionOptions) {
    this.door = options.door;
    this.#recorder = options.recorder;
    this.#level = options.level;
    this.#deadlineMs = options.deadlineMs ?? DEADLINE_MS;
    this.#process = options.recorder.newProcess();
  }

  /** Connects where there is no connection; rejects when that fails. */
  async open(): Promise<void> {
    if (this.#client !== undefined && !this.#isBroken) return;
    await this.close();
    const client = await this.door.open();
    this.#isBroken = false;
    client.on('error', () => {
      if (this.#client === client) this.#isBroken = true;
    });
    client.on('end', () => {
      if (this.#client === client) this.#isBroken = true;
    });
    this.#client = client;
    this.connections += 1;
  }

  /** Runs one operation and records it. Never rejects because of the database; true when it was `ok`. */
  async operate(f: string, value: unknown, work: (statements: Statements) => Promise<Answer>): Promise<boolean> {
    const invocation = {
      process: this.#process,
      f,
      value,
      door: this.door.name,
      ...(this.#level === undefined ? {} : { level: this.#level }),
    };
    const progress = { mayHaveCommitted: false };
    this.#recorder.invoke(invocation);
    try {
      const answer = await this.#withDeadline(work(this.#statements(progress)));
      this.#recorder.complete(invocation, { type: 'ok', ...answer });
      return true;
    } catch (error) {
      const outcome = outcomeOf(error, progress.mayHaveCommitted);
      this.#recorder.complete(invocation, { type: outcome, value, error: describeError(error) });
      if (outcome === 'info') this.#process = this.#recorder.newProcess();
      await this.#settle();
      return false;
    }
  }

  async close(): Promise<void> {
    const client = this.#client;
    this.#client = undefined;
    if (client === undefined) return;
    cut(client);
  }

  #statements(progress: { mayHaveCommitted: boolean }): Statements {
    const query: Query = (text, values = []) => this.#query(text, values);
    return {
      read: query,
      commit: async (text, values) => {
        progress.mayHaveCommitted = !this.#isBroken;
        return query(text, values);
      },
      transaction: async (isolation, work) => {
        await query(`begin isolation level ${isolation}`);
        const result = await work(query);
        if (result === undefined) {
          await query('rollback');
          return undefined;
        }
        progress.mayHaveCommitted = !this.#isBroken;
        const ended = await query('commit');
        // Postgres answers the COMMIT of a failed transaction with ROLLBACK, as a success.
        if (ended.command !== 'COMMIT') {
          progress.mayHaveCommitted = false;
          throw new Error(`COMMIT was answered with ${ended.command}`);
        }
        return result;
      },
    };
  }

  #query(text: string, values: readonly unknown[]): Promise<pg.QueryResult> {
    if (this.#client === undefined || this.#isBroken) return Promise.reject(new Error('the connection is gone'));
    return this.#client.query(text, [...values]);
  }

  async #withDeadline<T>(work: Promise<T>): Promise<T> {
    const expiry = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      expiry.reject(new NoAnswerError(`no answer in ${this.#deadlineMs} ms`));
    }, this.#deadlineMs);
    try {
      return await Promise.race([work, expiry.promise]);
    } catch (error) {
      if (error instanceof NoAnswerError) {
        this.#drop();
        // What the cut connection still says concerns nobody.
        work.catch(() => {});
      }
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** After an error: a transaction that is still open is ended, a connection in doubt is given up. */
  async #settle(): Promise<void> {
    if (this.#isBroken || this.#client === undefined) return;
    try {
      await this.#withDeadline(this.#query('rollback', []));
    } catch {
      this.#drop();
    }
  }

  #drop(): void {
    this.#isBroken = true;
    if (this.#client !== undefined) cut(this.#client);
  }
}

/** Without a farewell: nobody may be there to read it. */
function cut(client: pg.Client): void {
  client.on('error', () => {});
  const { stream } = (client as unknown as { connection: { stream: { destroy(): void } } }).connection;
  stream.destroy();
}
