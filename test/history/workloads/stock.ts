/**
 * A shop's stock: sales take from what is on hand if enough is there, deliveries add to it, and every change leaves a
 * row behind. Never below zero, in no read and in the end; what is on hand is what the rows add up to.
 */
import { below, type Random } from '../random.ts';
import type { Recorder } from '../recorder.ts';
import type { Session } from '../session.ts';
import { historyTenant, type Workload } from '../workload.ts';

export interface StockMove {
  readonly move: number;
  readonly item: number;
  /** Below zero: sold. */
  readonly quantity: number;
  /** Returned: false when not enough was on hand. */
  readonly done?: boolean;
}

export interface StockRead {
  readonly onHand: readonly (readonly [item: number, onHand: number])[];
}

export const ITEMS = 4;
export const INITIAL_STOCK = 20;

export class Stock implements Workload {
  readonly name = 'stock';
  readonly sessionsPerDoor = 2;
  readonly recorder: Recorder;
  readonly #run: number;
  #next = 0;

  constructor(recorder: Recorder, run: number) {
    this.recorder = recorder;
    this.#run = run;
  }

  async prepare(session: Session): Promise<void> {
    const made = await session.operate('open', ITEMS, async ({ commit }) => {
      await commit(
        'insert into stock (tenant_id, run, item, on_hand) select $1::text, $2::integer, n, $3::integer from generate_series(0, $4::integer - 1) as n',
        [historyTenant, this.#run, INITIAL_STOCK, ITEMS],
      );
      return { value: ITEMS };
    });
    if (!made) throw new Error('the stock could not be laid in');
  }

  async step(session: Session, random: Random): Promise<void> {
    const dice = random();
    if (dice < 0.2) return this.#look(session);
    // Sales ask for more than is delivered, so that most of the time there is little or nothing.
    const quantity = dice < 0.4 ? 1 + below(random, 8) : -(1 + below(random, 6));
    this.#next += 1;
    await this.#move(session, { move: this.#next, item: below(random, ITEMS), quantity });
  }

  async #move(session: Session, move: StockMove): Promise<void> {
    await session.operate(move.quantity < 0 ? 'sell' : 'deliver', move, async ({ transaction }) => {
      const done = await transaction('read committed', async (query) => {
        const changed = await query(
          'update stock set on_hand = on_hand + $4 where tenant_id = $1 and run = $2 and item = $3 and on_hand + $4 >= 0',
          [historyTenant, this.#run, move.item, move.quantity],
        );
        if (changed.rowCount !== 1) return undefined;
        await query('insert into stock_moves (tenant_id, run, move, item, quantity) values ($1, $2, $3, $4, $5)', [
          historyTenant,
          this.#run,
          move.move,
          move.item,
          move.quantity,
        ]);
        return true;
      });
      return { value: { ...move, done: done === true } satisfies StockMove };
    });
  }

  async #look(session: Session): Promise<void> {
    await session.operate('look', { onHand: [] } satisfies StockRead, async ({ read }) => {
      const { rows } = await read('select item, on_hand from stock where tenant_id = $1 and run = $2', [
        historyTenant,
        this.#run,
      ]);
      const onHand = rows.map((row: { item: number; on_hand: number }) => [row.item, row.on_hand] as const);
      return { value: { onHand } satisfies StockRead };
    });
  }
}
