/**
 * What follows a decision: the orders that it means, to the chosen member first (the others' follow without its answer, since
 * its lease needs them), and a look whether it came to serve.
 * Level-triggered and needed by nobody: the leader's shard controller gives the same orders, and a chosen one that dies is
 * failed over like any other primary.
 */
import type { AuthorityRecord } from '#core/authority/record.ts';
import type { Ping } from '#core/authority/suspicion.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { OrdersAnswer } from '../agents/client.ts';
import type { WishedOrders } from '../controllers/shard/orders.ts';

export interface PromotionMeans {
  readonly nowMs: () => number;
  readonly signal: AbortSignal;
  /** The orders that the record means, for everybody who answers; the chosen one's first. */
  readonly wished: () => Promise<readonly WishedOrders[]>;
  readonly send: (wished: WishedOrders, orders: Orders) => Promise<OrdersAnswer>;
  /** What the chosen one says now. */
  readonly chosen: () => Promise<Ping | undefined>;
  /** Whether the record is still this one, as far as is known. */
  readonly isCurrent: () => boolean;
  readonly pause: (ms: number) => Promise<void>;
  readonly tell: (step: PromotionStep) => void;
}

export type PromotionStep =
  | { readonly kind: 'Ordered'; readonly member: string; readonly role: Orders['role'] }
  | { readonly kind: 'OrdersRefused'; readonly member: string; readonly why: string }
  | { readonly kind: 'Promoted' | 'Opened' }
  | { readonly kind: 'NotOpened'; readonly afterMs: number };

const againMs = 200;
const patienceMs = 30_000;

/** @returns Whether it was seen to serve at the record's epoch. */
export async function promote(record: AuthorityRecord, means: PromotionMeans): Promise<boolean> {
  const { authority } = record;
  const { nowMs, signal, tell } = means;
  const beganMs = nowMs();
  const done = new Set<string>();
  const told = new Set<string>();
  const tellOnce = (what: string, step: PromotionStep): void => {
    if (told.has(what)) return;
    told.add(what);
    tell(step);
  };
  for (;;) {
    if (signal.aborted || !means.isCurrent()) return false;
    if (nowMs() - beganMs > patienceMs) {
      tell({ kind: 'NotOpened', afterMs: nowMs() - beganMs });
      return false;
    }
    await orderAll(means, done, tellOnce);
    const said = await means.chosen();
    const primary = said?.kind === 'Answered' ? said.answer.primary : undefined;
    if (said?.kind === 'Answered' && primary?.epoch === authority.epoch) {
      if (said.answer.state === 'opening' || said.answer.state === 'open') tellOnce('Promoted', { kind: 'Promoted' });
      if (said.answer.state === 'open') {
        tellOnce('Opened', { kind: 'Opened' });
        return true;
      }
    }
    await means.pause(againMs);
  }
}

async function orderAll(
  means: PromotionMeans,
  done: Set<string>,
  tellOnce: (what: string, step: PromotionStep) => void,
): Promise<void> {
  const due = (await means.wished()).filter(({ view }) => !done.has(view.name));
  const order = async (wished: WishedOrders): Promise<void> => {
    const { name } = wished.view;
    const answer = await means.send(wished, { ...wished.orders, leaderTerm: 0, sequence: 0 });
    const { role } = wished.orders;
    if (answer.kind === 'taken') {
      done.add(name);
      tellOnce(name, { kind: 'Ordered', member: name, role });
    } else if (answer.kind === 'refused') {
      // It has orders of this epoch already: the leader's, or those of another replica.
      if (answer.refusal.code === 'StaleEpoch') done.add(name);
      else tellOnce(`${name} refused`, { kind: 'OrdersRefused', member: name, why: answer.refusal.message });
    }
  };
  await Promise.all(due.map(order));
}
