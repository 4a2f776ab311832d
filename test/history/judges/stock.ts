/**
 * Our own judge of the stock: never below zero, in no read and in the end; what is on hand is what all moves add up to;
 * a sale or delivery that was acknowledged is there once, one that surely failed (or found too little) isn't.
 */
import { type Entry, operationsOf } from '../entry.ts';
import { INITIAL_STOCK, ITEMS, type StockMove, type StockRead } from '../workloads/stock.ts';
import type { FinalState } from './final-state.ts';
import { type Verdict, verdictOf } from './verdict.ts';

export function judgeStock(entries: readonly Entry[], finals: readonly FinalState[]): Verdict {
  const operations = operationsOf<unknown>(entries);
  const findings: string[] = [];
  for (const { f, outcome, returned, process } of operations) {
    if (f !== 'look' || outcome !== 'ok') continue;
    const { onHand } = returned as StockRead;
    if (onHand.length !== ITEMS) findings.push(`process ${process} read ${onHand.length} items instead of ${ITEMS}`);
    findings.push(...negative(onHand).map((finding) => `process ${process} read ${finding}`));
  }
  const moves = operations.filter(({ f }) => f === 'sell' || f === 'deliver');
  const known = new Set(moves.map(({ invoked }) => (invoked as StockMove).move));
  if (finals.length === 0) findings.push('nobody was asked what is there in the end');
  for (const final of finals) {
    const { from, onHand } = final;
    findings.push(...negative(onHand).map((finding) => `${from}: ${finding}`));
    const counts = new Map<number, number>();
    const sums = new Map<number, number>();
    for (const { move, item, quantity } of final.moves) {
      counts.set(move, (counts.get(move) ?? 0) + 1);
      sums.set(item, (sums.get(item) ?? INITIAL_STOCK) + quantity);
      if (!known.has(move)) findings.push(`${from}: move ${move} is there and nobody asked for it`);
    }
    for (const [item, stock] of onHand) {
      const expected = sums.get(item) ?? INITIAL_STOCK;
      if (stock !== expected)
        findings.push(`${from}: ${stock} of item ${item} on hand, its moves add up to ${expected}`);
    }
    for (const { invoked, returned, outcome } of moves) {
      const { move } = invoked as StockMove;
      const count = counts.get(move) ?? 0;
      const isDone = outcome === 'ok' && (returned as StockMove).done === true;
      if (count > 1) findings.push(`${from}: move ${move} is there ${count} times`);
      if (isDone && count === 0) findings.push(`${from}: move ${move} was acknowledged and is lost`);
      if (outcome !== 'info' && !isDone && count > 0) {
        findings.push(`${from}: move ${move} was not done, and it is there`);
      }
    }
  }
  return verdictOf('stock: never below zero, every move once', moves.length, findings);
}

function negative(onHand: StockRead['onHand']): string[] {
  return onHand.filter(([, stock]) => stock < 0).map(([item, stock]) => `${stock} of item ${item} on hand`);
}
