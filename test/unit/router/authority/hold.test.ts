import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { type Held, Hold } from '#router/authority/hold.ts';
import type { RouterError } from '#router/errors.ts';

let nowMs = 0;
let isOpen = false;
let log: string[] = [];
let hold: Hold;

const tick = (ms: number): void => {
  for (let left = ms; left > 0; left -= 10) {
    nowMs += Math.min(10, left);
    mock.timers.tick(Math.min(10, left));
  }
};
function held(name: string, bytes = 10, go: () => unknown = () => undefined): Held {
  return {
    bytes,
    why: 'the primary is away',
    go: () => {
      log.push(name);
      go();
    },
    fail: (error: RouterError) => log.push(`${name}: ${error.code}`),
  };
}

beforeEach(() => {
  mock.timers.enable({ apis: ['setTimeout', 'setImmediate'] });
  nowMs = 1_000;
  isOpen = false;
  log = [];
  hold = new Hold({
    limits: { transactions: 50, bytes: 1_000, ms: 5_000 },
    isOpen: () => isOpen,
    now: () => nowMs,
    onHeld: () => undefined,
    onRefused: () => undefined,
  });
});
afterEach(() => mock.timers.reset());

describe('transactions that wait for their primary', () => {
  test('go in the order in which they came, a portion at a time', () => {
    const names = Array.from({ length: 45 }, (_, index) => `t${index}`);
    // What the first of a portion brings about comes before the next portion.
    for (const name of names)
      hold.wait(
        'one',
        held(name, 10, () => name === 't0' && setImmediate(() => log.push('others'))),
      );
    tick(100);
    assert.deepEqual(log, []);
    isOpen = true;
    hold.wake('one');
    tick(100);
    assert.deepEqual(log, [...names.slice(0, 20), 'others', ...names.slice(20)]);
    assert.deepEqual([hold.transactions, hold.bytes], [0, 0]);
  });

  test('keep their place and their time when they have to wait again', () => {
    isOpen = true;
    let rounds = 0;
    const first = held('first', 10, () => {
      rounds += 1;
      isOpen = false;
      if (rounds < 3) hold.wait('one', first);
    });
    hold.wait('one', first);
    hold.wait('one', held('second'));
    tick(10);
    // Both were let go in one portion; the first has come back, and a third has come meanwhile.
    assert.deepEqual(log, ['first', 'second']);
    hold.wait('one', held('third'));
    isOpen = true;
    hold.wake('one');
    tick(20);
    assert.deepEqual(log.slice(2, 4), ['first', 'third']);
    tick(5_000);
    assert.equal(log.at(-1), 'first: HeldTooLong');
  });

  test('fail at their bound in time, each by itself', () => {
    hold.wait('one', held('early'));
    tick(3_000);
    hold.wait('one', held('late'));
    tick(2_000);
    assert.deepEqual(log, ['early: HeldTooLong']);
    tick(3_000);
    assert.deepEqual(log, ['early: HeldTooLong', 'late: HeldTooLong']);
    assert.equal(hold.transactions, 0);
  });

  test('are no more than the bounds say, over all shards together', () => {
    for (let index = 0; index < 50; index++) hold.wait(index % 2 === 0 ? 'one' : 'two', held('x', 1));
    hold.wait('three', held('too many', 1));
    tick(10);
    assert.deepEqual(log, ['too many: TooMuchHeld']);
    assert.equal(hold.transactions, 50);
  });

  test('are no longer than the bounds say', () => {
    hold.wait('one', held('long', 900));
    hold.wait('one', held('longer', 101));
    hold.wait('one', held('fits', 100));
    tick(10);
    assert.deepEqual(log, ['longer: TooMuchHeld']);
    assert.equal(hold.bytes, 1_000);
  });

  test('can leave', () => {
    const stop = hold.wait('one', held('leaves'));
    hold.wait('one', held('stays'));
    stop();
    isOpen = true;
    hold.wake('one');
    tick(10);
    assert.deepEqual(log, ['stays']);
  });

  test('try one by one where the primary could not be reached, and go on once somebody has reached it', () => {
    isOpen = true;
    hold.troubled('one');
    assert.ok(hold.isHolding('one'));
    for (let index = 0; index < 5; index++) hold.wait('one', held(`t${index}`));
    tick(140);
    assert.deepEqual(log, []);
    tick(20);
    assert.deepEqual(log, ['t0']);
    tick(150);
    assert.deepEqual(log, ['t0', 't1']);
    hold.calm('one');
    // The next was due by then, too.
    tick(150);
    assert.deepEqual(log, ['t0', 't1', 't2', 't3', 't4']);
    assert.ok(!hold.isHolding('one'));
  });
});
