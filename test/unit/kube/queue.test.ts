/** The promises of the work queue. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { backoffMs } from '#kube/backoff.ts';
import { WorkQueue } from '#kube/queue.ts';
import { until } from './conformance.ts';

describe('work queue', () => {
  it('works a key once for many additions', async () => {
    const worked: string[] = [];
    const queue = new WorkQueue(async (key) => void worked.push(key));
    for (const key of ['a', 'b', 'a', 'a']) queue.add(key);
    queue.start();
    await until(() => worked.length >= 2);
    await sleep(50);
    assert.deepEqual(worked, ['a', 'b']);
    await queue.stop();
  });

  it('never works one key twice at the same time, and works it again when it was added meanwhile', async () => {
    let running = 0;
    let runs = 0;
    const queue = new WorkQueue(async () => {
      running += 1;
      assert.equal(running, 1);
      runs += 1;
      await sleep(20);
      running -= 1;
    });
    queue.start();
    queue.add('a');
    await until(() => running === 1);
    for (let n = 0; n < 5; n += 1) queue.add('a');
    await until(() => runs === 2);
    await sleep(60);
    assert.equal(runs, 2);
    await queue.stop();
  });

  it('works as many keys at once as it is told', async () => {
    let running = 0;
    let most = 0;
    const queue = new WorkQueue(
      async () => {
        running += 1;
        most = Math.max(most, running);
        await sleep(10);
        running -= 1;
      },
      { concurrency: 3 },
    );
    for (let n = 0; n < 10; n += 1) queue.add(`k${n}`);
    queue.start();
    await until(() => most > 0 && running === 0 && queue.length === 0);
    assert.equal(most, 3);
    await queue.stop();
  });

  it('comes back to a key that failed after growing pauses, and forgets them when it works', async () => {
    const pauses: number[] = [];
    const queue = new WorkQueue(
      async () => {
        if (pauses.length < 4) throw new Error('not yet');
      },
      { backoff: { baseMs: 4, maxMs: 1000 }, onFailure: (_key, _error, _failures, pauseMs) => pauses.push(pauseMs) },
    );
    queue.start();
    queue.add('a');
    await until(() => pauses.length === 4 && queue.failuresOf('a') === 0);
    pauses.forEach((pause, n) => assert.ok(pause >= 2 * 2 ** n && pause <= 4 * 2 ** n, `${pause} is pause ${n}`));
    await queue.stop();
  });

  it('a failing key does not hold another back', async () => {
    let done = 0;
    const queue = new WorkQueue(
      async (key) => {
        if (key === 'bad') throw new Error('always');
        done += 1;
      },
      { concurrency: 1, backoff: { baseMs: 1, maxMs: 1 } },
    );
    queue.start();
    queue.add('bad');
    for (let n = 0; n < 20; n += 1) {
      queue.add(`good-${n}`);
      await sleep(1);
    }
    await until(() => done === 20);
    await queue.stop();
  });

  it('a later addition does not put an earlier appointment off', async () => {
    const at: number[] = [];
    const queue = new WorkQueue(async () => void at.push(performance.now()));
    queue.start();
    const startedAtMs = performance.now();
    queue.addAfter('a', 30);
    queue.addAfter('a', 10_000);
    await until(() => at.length === 1);
    assert.ok((at[0] ?? 0) - startedAtMs < 8_000);
    await queue.stop();
  });

  it('slows a key down that keeps waking itself', async () => {
    let runs = 0;
    const queue: WorkQueue = new WorkQueue(async (key) => {
      runs += 1;
      queue.add(key);
    });
    queue.start();
    const startedAtMs = performance.now();
    queue.add('a');
    await sleep(300);
    await until(() => runs >= 10);
    const spentMs = performance.now() - startedAtMs;
    assert.ok(runs <= spentMs / 10 + 2, `${runs} runs in ${spentMs} ms`);
    await queue.stop();
  });

  it('stop waits for what is running and begins nothing more', async () => {
    let begun = 0;
    let ended = 0;
    const queue = new WorkQueue(
      async () => {
        begun += 1;
        await sleep(30);
        ended += 1;
      },
      { concurrency: 1 },
    );
    queue.start();
    queue.add('a');
    queue.add('b');
    await until(() => begun === 1);
    await queue.stop();
    assert.equal(ended, 1);
    queue.add('c');
    await sleep(50);
    assert.equal(ended, 1);
  });
});

describe('back-off', () => {
  it('stays between half and all of the doubled base, and below its limit', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 10_000 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (failures, random) => {
          const pause = backoffMs(failures, { baseMs: 10, maxMs: 5_000 }, () => random);
          const full = Math.min(5_000, 10 * 2 ** Math.min(failures - 1, 30));
          assert.ok(pause >= full / 2 && pause <= full);
        },
      ),
    );
  });
});
