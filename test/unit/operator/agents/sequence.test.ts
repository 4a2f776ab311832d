/** Numbers of orders within a term: they grow whatever the clock, a restart or the member's report says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { OrderSequence } from '#operator/agents/sequence.ts';

test('numbers grow within a process, also when the clock is put back', () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 1_000 }), { minLength: 2, maxLength: 20 }), (clock) => {
      const sequence = new OrderSequence();
      const numbers = clock.map((nowMs) => sequence.next('a-eu-0', 1, undefined, nowMs));
      assert.ok(numbers.every((number, index) => index === 0 || number > (numbers[index - 1] ?? 0)));
    }),
  );
});

test('a restarted process goes on above what the member took in this term, even with a clock that went back', () => {
  const reported = { leaderTerm: 4, sequence: 900 };
  assert.equal(new OrderSequence().next('a-eu-0', 4, reported, 100), 901);
  assert.equal(new OrderSequence().next('a-eu-0', 5, reported, 100), 100, 'a new term begins anew');
});

test('an order that is still on its way, and so not reported yet, is outnumbered by the next', () => {
  const sequence = new OrderSequence();
  const reported = { leaderTerm: 1, sequence: 7 };
  assert.ok(sequence.next('a-eu-0', 1, reported, 0) < sequence.next('a-eu-0', 1, reported, 0));
});
