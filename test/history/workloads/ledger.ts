/**
 * Payments between accounts, each under an idempotency key, tried again under the same key until its outcome is known,
 * as a shop does. The journal (transfers) and the balances must agree at every moment, and no money comes or goes.
 */
import { below, type Random } from '../random.ts';
import type { Recorder } from '../recorder.ts';
import type { Session } from '../session.ts';
import { historyTenant, type Workload } from '../workload.ts';

export interface Transfer {
  readonly key: string;
  readonly debit: number;
  readonly credit: number;
  readonly amount: number;
  /** Returned: false when the key was there already. */
  readonly applied?: boolean;
}

/** The balances of one read, by account. */
export interface Audit {
  readonly balances: readonly (readonly [account: number, balance: number])[];
}

export const ACCOUNTS = 6;
export const INITIAL_BALANCE = 1000;
const AUDIT_SHARE = 0.2;
const MOST_ATTEMPTS = 20;

export class Ledger implements Workload {
  readonly name = 'ledger';
  readonly sessionsPerDoor = 2;
  readonly recorder: Recorder;
  readonly #run: number;
  #next = 0;
  /** Whose outcome a session has still to find out. */
  readonly #pending = new WeakMap<Session, { transfer: Transfer; attempts: number }>();

  constructor(recorder: Recorder, run: number) {
    this.recorder = recorder;
    this.#run = run;
  }

  async prepare(session: Session): Promise<void> {
    const made = await session.operate('open', ACCOUNTS, async ({ commit }) => {
      await commit(
        'insert into accounts (tenant_id, run, account, balance) select $1::text, $2::integer, n, $3::integer from generate_series(0, $4::integer - 1) as n',
        [historyTenant, this.#run, INITIAL_BALANCE, ACCOUNTS],
      );
      return { value: ACCOUNTS };
    });
    if (!made) throw new Error('the accounts could not be opened');
  }

  async step(session: Session, random: Random): Promise<void> {
    if (random() < AUDIT_SHARE) return this.#audit(session);
    const pending = this.#pending.get(session) ?? { transfer: this.#newTransfer(random), attempts: 0 };
    const isDone = await this.#pay(session, pending.transfer);
    const attempts = pending.attempts + 1;
    if (isDone || attempts >= MOST_ATTEMPTS) this.#pending.delete(session);
    else this.#pending.set(session, { transfer: pending.transfer, attempts });
  }

  #newTransfer(random: Random): Transfer {
    const key = `payment-${this.#next}`;
    this.#next += 1;
    const debit = below(random, ACCOUNTS);
    const credit = (debit + 1 + below(random, ACCOUNTS - 1)) % ACCOUNTS;
    return { key, debit, credit, amount: 1 + below(random, 50) };
  }

  #pay(session: Session, transfer: Transfer): Promise<boolean> {
    const { key, debit, credit, amount } = transfer;
    return session.operate('transfer', transfer, async ({ transaction }) => {
      const applied = await transaction('read committed', async (query) => {
        const entered = await query(
          `insert into transfers (tenant_id, run, idempotency_key, debit, credit, amount) values ($1, $2, $3, $4, $5, $6)
           on conflict (tenant_id, run, idempotency_key) do nothing`,
          [historyTenant, this.#run, key, debit, credit, amount],
        );
        if (entered.rowCount !== 1) return false;
        // Always in the same order, so that two payments don't wait for each other.
        const changes = [
          { account: debit, by: -amount },
          { account: credit, by: amount },
        ].toSorted((a, b) => a.account - b.account);
        for (const { account, by } of changes) {
          await query('update accounts set balance = balance + $4 where tenant_id = $1 and run = $2 and account = $3', [
            historyTenant,
            this.#run,
            account,
            by,
          ]);
        }
        return true;
      });
      return { value: { ...transfer, applied: applied === true } satisfies Transfer };
    });
  }

  async #audit(session: Session): Promise<void> {
    await session.operate('audit', { balances: [] } satisfies Audit, async ({ read }) => {
      const { rows } = await read('select account, balance from accounts where tenant_id = $1 and run = $2', [
        historyTenant,
        this.#run,
      ]);
      const balances = rows.map((row: { account: number; balance: number }) => [row.account, row.balance] as const);
      return { value: { balances } satisfies Audit };
    });
  }
}
