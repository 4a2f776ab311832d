/**
 * The orders on the volume, so that a restarted agent goes on without asking anybody. A file that says nothing, or that
 * is another incarnation's, is no orders: the operator gives them again. Those that the promise has outdated are read, too:
 * a fenced member runs by what it was (`isWithinPromise` tells them apart).
 */
import { readFile } from 'node:fs/promises';
import { writeDurably } from '#agent/durable-file.ts';
import type { MemberIdentity } from '#core/identity.ts';
import { type Orders, ordersSchema } from '#core/protocol/orders.ts';

export async function readOrders(path: string, member: MemberIdentity): Promise<Orders | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const parsed = ordersSchema.safeParse(parseJson(text));
  if (!parsed.success) return undefined;
  const { name, incarnation } = parsed.data.member;
  return name === member.name && incarnation === member.incarnation ? parsed.data : undefined;
}

export const writeOrders = (path: string, orders: Orders): Promise<void> =>
  writeDurably(path, `${JSON.stringify(orders, null, 2)}\n`);

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
