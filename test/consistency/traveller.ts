/**
 * One client that goes from service to service: it appends to lists and reads them at one level, each time through some router, and takes
 * its token along. To the judges it is one process, whichever routers it uses. What it does is recorded as `history/` does.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { Entry, Level } from '../history/entry.ts';
import { describeError, outcomeOf } from '../history/outcome.ts';
import { below, type Random } from '../history/random.ts';
import type { Recorder } from '../history/recorder.ts';
import type { Door } from '../history/session.ts';
import type { MicroOperation } from '../history/workloads/list-append.ts';

export interface Lists {
  readonly recorder: Recorder;
  readonly family: string;
  readonly tenant: string;
  readonly run: number;
  appends: number;
}

export interface TravellerOptions {
  readonly doors: readonly Door[];
  readonly level: Level;
  /** Of bounded reads. */
  readonly maxStalenessMs: number;
  readonly random: Random;
}

export interface Counts {
  reads: number;
  /** Of these it was asked who served them. */
  asked: number;
  byFollowers: number;
}

const LISTS_AT_ONCE = 6;
const APPENDS_PER_LIST = 30;
/** How often it is asked who served a read. */
const ASK_EVERY = 5;
/** Before the next try, where no router lets it in. */
const AFTER_NOTHING_MS = 100;
const READ = 'select elements from lists where tenant_id = $1 and run = $2 and family = $3 and name = $4';
const APPEND = `insert into lists as l (tenant_id, run, family, name, elements) values ($1, $2, $3, $4, array[$5::integer])
  on conflict (tenant_id, run, family, name) do update set elements = l.elements || excluded.elements`;

export class Traveller {
  readonly #options: TravellerOptions;
  readonly #clients = new Map<Door, pg.Client>();
  #at: Door | undefined;
  #process: number | undefined;
  #lists: Lists | undefined;

  constructor(options: TravellerOptions) {
    this.#options = options;
  }

  get level(): Level {
    return this.#options.level;
  }

  /** One operation. Returns how many lists it has read; never rejects because of the database. */
  async step(lists: Lists, counts: Counts): Promise<void> {
    if (this.#lists !== lists) this.#process = undefined;
    this.#lists = lists;
    const { random, level } = this.#options;
    let client: pg.Client;
    try {
      client = await this.#travel(random);
    } catch {
      // It arrived nowhere: what it has seen is in a token that it may have lost, so it begins anew.
      this.#forget();
      await sleep(AFTER_NOTHING_MS);
      return;
    }
    // Only now: on the way it may have lost what it had seen, and so have become another.
    this.#process ??= lists.recorder.newProcess();
    const planned = this.#plan(lists);
    const invocation = { process: this.#process, f: 'txn', value: planned, level };
    let mayHaveCommitted = false;
    lists.recorder.invoke({ ...invocation, ...(this.#at === undefined ? {} : { door: this.#at.name }) });
    const complete = (completion: Pick<Entry, 'value'> & { type: 'ok' | 'fail' | 'info'; error?: string }): void =>
      lists.recorder.complete(invocation, completion);
    try {
      const isWrite = planned.some(([kind]) => kind === 'append');
      const done: MicroOperation[] = [];
      const isAlone = planned.length === 1;
      mayHaveCommitted = isAlone && isWrite;
      if (!isAlone) await client.query(isWrite ? 'begin' : 'begin isolation level repeatable read read only');
      for (const operation of planned) done.push(await perform(client, lists, operation));
      mayHaveCommitted ||= isWrite;
      if (!isAlone) await client.query('commit');
      complete({ type: 'ok', value: done });
      // Whoever can't say it isn't counted.
      if (!isWrite) await this.#count(client, counts, planned.length).catch(() => {});
    } catch (error) {
      const outcome = outcomeOf(error, mayHaveCommitted);
      complete({ type: outcome, value: planned, error: describeError(error) });
      if (outcome === 'info') this.#process = undefined;
      await client.query('rollback').catch(() => this.#forget());
    }
  }

  async close(): Promise<void> {
    const clients = [...this.#clients.values()];
    this.#clients.clear();
    await Promise.all(clients.map((client) => client.end().catch(() => {})));
  }

  /** Mostly reads, of one list by itself, or of several in one snapshot. */
  #plan(lists: Lists): MicroOperation[] {
    const { random } = this.#options;
    const generation = Math.floor(lists.appends / (LISTS_AT_ONCE * APPENDS_PER_LIST));
    const list = (): number => generation * LISTS_AT_ONCE + below(random, LISTS_AT_ONCE);
    const append = (): MicroOperation => {
      lists.appends += 1;
      return ['append', list(), lists.appends];
    };
    const dice = random();
    if (dice < 0.2) return [append()];
    if (dice < 0.25) return [append(), append()];
    if (dice < 0.35)
      return [
        ['r', list(), null],
        ['r', list(), null],
      ];
    return [['r', list(), null]];
  }

  /** To the next router, with what it has seen so far. */
  async #travel(random: Random): Promise<pg.Client> {
    const { doors } = this.#options;
    const before = this.#at;
    const next = random() < 0.2 || before === undefined ? doors[below(random, doors.length)] : before;
    if (next === undefined) throw new Error('there is no door');
    if (before === undefined) {
      const client = await this.#clientOf(next);
      this.#at = next;
      return client;
    }
    const from = this.#clients.get(before);
    if (from === undefined) throw new Error('the session that remembers is gone');
    if (next === before) return from;
    const client = await this.#clientOf(next);
    const { rows } = await from.query<Record<string, string>>('show meridian.token');
    await client.query(`set meridian.token = '${rows[0]?.['meridian.token'] ?? ''}'`);
    if (this.#at !== before) throw new Error('the session that remembers is gone');
    this.#at = next;
    return client;
  }

  async #clientOf(door: Door): Promise<pg.Client> {
    const known = this.#clients.get(door);
    if (known !== undefined) return known;
    const client = await door.open();
    const lost = (): void => {
      // Its session remembered what it had seen.
      if (this.#clients.get(door) !== client) return;
      this.#clients.delete(door);
      if (this.#at === door) this.#forget();
    };
    client.on('error', lost);
    client.on('end', lost);
    const { level, maxStalenessMs } = this.#options;
    await client.query(`set meridian.consistency = '${level}'`);
    await client.query(`set meridian.max_staleness = '${maxStalenessMs}ms'`);
    this.#clients.set(door, client);
    return client;
  }

  /** Another process, that has seen nothing. */
  #forget(): void {
    this.#process = undefined;
    this.#at = undefined;
    void this.close();
  }

  async #count(client: pg.Client, counts: Counts, reads: number): Promise<void> {
    const before = counts.reads;
    counts.reads += reads;
    if (Math.floor(before / ASK_EVERY) === Math.floor(counts.reads / ASK_EVERY)) return;
    const { rows } = await client.query<Record<string, string>>('show meridian.served_by');
    counts.asked += 1;
    if (rows[0]?.['meridian.served_by']?.includes('role=follower') === true) counts.byFollowers += 1;
  }
}

async function perform(client: pg.Client, lists: Lists, operation: MicroOperation): Promise<MicroOperation> {
  const [kind, list] = operation;
  const key = [lists.tenant, lists.run, lists.family, list];
  if (kind === 'append') {
    await client.query(APPEND, [...key, operation[2]]);
    return operation;
  }
  const { rows } = await client.query<{ elements: number[] }>(READ, key);
  return ['r', list, rows[0]?.elements ?? []];
}
