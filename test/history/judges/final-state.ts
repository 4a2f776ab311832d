/**
 * What the tables hold when all is over: the rows of one run as one member (or one router) sees them, and the SQL that
 * reads them as one JSON value, so that any client will do.
 */
import { historyTenant } from '../workload.ts';

export interface FinalState {
  /** Who was asked. */
  readonly from: string;
  readonly elements: readonly number[];
  readonly balances: readonly (readonly [account: number, balance: number])[];
  readonly transfers: readonly FinalTransfer[];
  readonly onHand: readonly (readonly [item: number, onHand: number])[];
  readonly moves: readonly FinalMove[];
}

export interface FinalTransfer {
  readonly key: string;
  readonly debit: number;
  readonly credit: number;
  readonly amount: number;
}

export interface FinalMove {
  readonly move: number;
  readonly item: number;
  readonly quantity: number;
}

/** One row with one column, `state`. */
export function finalStateSql(run: number): string {
  if (!Number.isSafeInteger(run)) throw new Error(`not a run: ${run}`);
  const rows = (columns: string, table: string): string =>
    `coalesce((select json_agg(${columns}) from ${table} where tenant_id = '${historyTenant}' and run = ${run}), '[]')`;
  return `select json_build_object(
    'elements', ${rows('element', 'public.set_elements')},
    'balances', ${rows('json_build_array(account, balance)', 'public.accounts')},
    'transfers', ${rows("json_build_object('key', idempotency_key, 'debit', debit, 'credit', credit, 'amount', amount)", 'public.transfers')},
    'onHand', ${rows('json_build_array(item, on_hand)', 'public.stock')},
    'moves', ${rows("json_build_object('move', move, 'item', item, 'quantity', quantity)", 'public.stock_moves')}
  ) as state`;
}

export function parseFinalState(from: string, state: string | object): FinalState {
  return { from, ...((typeof state === 'string' ? JSON.parse(state) : state) as Omit<FinalState, 'from'>) };
}
