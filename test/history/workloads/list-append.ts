/**
 * Transactions of appends to lists and reads of whole lists: every read shows the order of all appends before it, which
 * is what lets adya see the order of all transactions. A list is given up for a new one after a while.
 */
import { below, type Random } from '../random.ts';
import type { Recorder } from '../recorder.ts';
import type { Isolation, Query, Session } from '../session.ts';
import { historyTenant, type Workload } from '../workload.ts';

/** As adya reads them: `["append", list, element]` and `["r", list, elements]`. */
export type MicroOperation = ['append', number, number] | ['r', number, readonly number[] | null];

const AT_ONCE = 5;
const APPENDS_PER_LIST = 40;
const LONGEST = 4;

export class ListAppend implements Workload {
  readonly name: string;
  readonly sessionsPerDoor = 2;
  readonly recorder: Recorder;
  readonly #run: number;
  readonly #isolation: Isolation;
  #appends = 0;

  constructor(recorder: Recorder, run: number, isolation: Isolation) {
    this.name = `lists-${isolation.replaceAll(' ', '-')}`;
    this.recorder = recorder;
    this.#run = run;
    this.#isolation = isolation;
  }

  async prepare(): Promise<void> {}

  async step(session: Session, random: Random): Promise<void> {
    const planned = this.#plan(random);
    await session.operate('txn', planned, async ({ transaction }) => {
      const value = await transaction(this.#isolation, async (query) => {
        const done: MicroOperation[] = [];
        for (const operation of planned) done.push(await this.#perform(query, operation));
        return done;
      });
      return { value };
    });
  }

  #plan(random: Random): MicroOperation[] {
    const generation = Math.floor(this.#appends / (AT_ONCE * APPENDS_PER_LIST));
    const length = 1 + below(random, LONGEST);
    return Array.from({ length }, () => {
      const list = generation * AT_ONCE + below(random, AT_ONCE);
      if (random() < 0.5) return ['r', list, null];
      this.#appends += 1;
      return ['append', list, this.#appends];
    });
  }

  async #perform(query: Query, operation: MicroOperation): Promise<MicroOperation> {
    const [kind, list] = operation;
    const key = [historyTenant, this.#run, this.name, list];
    if (kind === 'r') {
      const { rows } = await query(
        'select elements from lists where tenant_id = $1 and run = $2 and family = $3 and name = $4',
        key,
      );
      return ['r', list, (rows[0] as { elements: number[] } | undefined)?.elements ?? []];
    }
    await query(
      `insert into lists as l (tenant_id, run, family, name, elements) values ($1, $2, $3, $4, array[$5::integer])
       on conflict (tenant_id, run, family, name) do update set elements = l.elements || excluded.elements`,
      [...key, operation[2]],
    );
    return operation;
  }
}
