/** Who is promoted when many shards fail at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Turn, Turns } from '#operator/takeover/turns.ts';

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('so many at once and no more; of those who wait the most important, and of equals who came first', async () => {
  const turns = new Turns(2);
  const order: string[] = [];
  const held = new Map<string, Turn>();
  const take = (name: string, priority: number): void => {
    void turns.take(priority).then((turn) => {
      order.push(name);
      held.set(name, turn);
    });
  };
  for (const [name, priority] of [
    ['a', 0],
    ['b', 0],
    ['c', 0],
    ['d', 10],
    ['e', 0],
    ['f', 10],
  ] as const)
    take(name, priority);
  await settled();
  assert.deepEqual(order, ['a', 'b']);
  for (const next of ['a', 'b', 'd', 'f']) {
    held.get(next)?.end();
    // Again is the same as once.
    held.get(next)?.end();
    await settled();
  }
  assert.deepEqual(order, ['a', 'b', 'd', 'f', 'c', 'e']);
});
