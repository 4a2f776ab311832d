/** However many clients send long messages: together they hold no more than they may, and a small one finds room. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MessageBudget, usualMessageBytes } from '#router/wire/message-budget.ts';

const mib = 1024 * 1024;

test('what is short counts nothing, and what was given back is there again', () => {
  const budget = new MessageBudget(10 * mib);
  assert.equal(budget.recharge(0, 64 * 1024), 0);
  const charged = budget.recharge(0, 4 * mib);
  assert.equal(charged, 4 * mib - 64 * 1024);
  assert.equal(budget.held, charged);
  assert.equal(budget.recharge(0, 4 * mib), undefined);
  assert.equal(budget.held, charged);
  assert.equal(budget.recharge(charged ?? 0, 0), 0);
  assert.equal(budget.held, 0);
});

test('those who take all they can get leave room for a message that is small beside theirs', () => {
  const budget = new MessageBudget(1024 * mib);
  for (let client = 0; client < 5; client++) {
    let charged = 0;
    for (let bytes = mib; bytes <= 256 * mib; bytes += mib) charged = budget.recharge(charged, bytes) ?? charged;
  }
  assert.notEqual(budget.recharge(0, 2 * mib), undefined);
  assert.equal(budget.recharge(0, 256 * mib), undefined);
});

test('the sum is right and below the limit whatever clients do', () => {
  const steps = fc.array(fc.tuple(fc.nat({ max: 5 }), fc.nat({ max: 4 * mib })));
  fc.assert(
    fc.property(steps, (done) => {
      const budget = new MessageBudget(6 * mib);
      const charged = Array.from({ length: 6 }, () => 0);
      for (const [client, bytes] of done) {
        const before = charged[client] ?? 0;
        const after = budget.recharge(before, bytes);
        if (bytes - 64 * 1024 <= before) assert.notEqual(after, undefined);
        charged[client] = after ?? before;
        assert.equal(
          budget.held,
          charged.reduce((sum, one) => sum + one, 0),
        );
        assert.ok(budget.held <= 6 * mib);
      }
    }),
  );
});

test('a quarter of the memory is for messages, over all workers, and no more than 1 GiB each', () => {
  assert.equal(usualMessageBytes(1024 * mib, 2), 128 * mib);
  assert.equal(usualMessageBytes(64 * 1024 * mib, 2), 1024 * mib);
  // Nobody says how much there is: 0, or all that a number can say.
  assert.equal(usualMessageBytes(0, 1), 1024 * mib);
  assert.equal(usualMessageBytes(2 ** 64, 1), 1024 * mib);
});
