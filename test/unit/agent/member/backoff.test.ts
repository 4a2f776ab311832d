import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Backoff } from '#agent/member/backoff.ts';

it('waits not at all after the first failure or a success, and longer after each next failure up to a bound', () => {
  let now = 0;
  const backoff = new Backoff(250, 2_000, () => now);
  assert.equal(backoff.remainingMs, 0);
  const waits = Array.from({ length: 5 }, () => {
    backoff.fail();
    const wait = backoff.remainingMs;
    now += wait;
    assert.equal(backoff.remainingMs, 0);
    return wait;
  });
  assert.deepEqual(waits, [0, 250, 500, 1_000, 2_000]);
  assert.equal(backoff.failures, 5);
  backoff.fail();
  backoff.succeed();
  assert.equal(backoff.remainingMs, 0);
  assert.equal(backoff.failures, 0);
});
