/** Whether what an agent is in the middle of (a copy, a start) still serves when other orders come. Pure. */
import type { Orders } from '#core/protocol/orders.ts';

export function isAnotherWork(before: Orders | undefined, after: Orders): boolean {
  return essenceOf(before) !== essenceOf(after);
}

/** Initialise becomes Primary when the first start is on record: the same work. */
function essenceOf(orders: Orders | undefined): string {
  const role = orders?.role === 'Initialise' ? 'Primary' : orders?.role;
  return JSON.stringify([role, orders?.epoch, orders?.timeline, orders?.source]);
}
