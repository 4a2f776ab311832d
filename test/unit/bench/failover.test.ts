import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { kinds } from '#test/bench/failover/kinds.ts';
import { OpenLoop } from '#test/bench/failover/open-loop.ts';
import { longestGapMs } from '#test/bench/failover/round.ts';
import { operationsOf } from '#test/history/entry.ts';
import { Recorder } from '#test/history/recorder.ts';

describe('the client at a constant rate', () => {
  it('leaves no question out while nobody answers, and asks the rest when they do', async () => {
    const gate = Promise.withResolvers<void>();
    let isOpen = true;
    const client = {
      on: () => client,
      query: async () => {
        if (!isOpen) await gate.promise;
        return { rows: [{ wal_file: '000000020000000000000001' }], command: 'INSERT' };
      },
      connection: { stream: { destroy: () => {} } },
    };
    const recorder = new Recorder('open-loop');
    const loop = new OpenLoop({
      door: { name: 'here', open: async () => client as unknown as pg.Client },
      recorder,
      run: 1,
      perSecond: 200,
      sessions: 3,
    });
    await loop.start();
    await sleep(200);
    isOpen = false;
    await sleep(300);
    isOpen = true;
    gate.resolve();
    await sleep(100);
    await loop.stop(1_000);
    const operations = operationsOf<number>(recorder.entries);
    assert.ok(operations.every(({ outcome, timeline }) => outcome === 'ok' && timeline === 2));
    const asked = operations.map(({ invoked }) => invoked).toSorted((a, b) => a - b);
    assert.deepEqual(
      asked,
      asked.map((_, n) => n),
    );
    // 0.6 s at 200 a second, with room for a busy machine.
    assert.ok(asked.length > 80, `only ${asked.length} were asked`);
    const gapMs = longestGapMs(operations.map(({ endedAt }) => endedAt));
    assert.ok(gapMs > 200 && gapMs < 10_000, `${gapMs} ms without an answer`);
  });
});

it('the longest time without an acknowledgement is looked for in order of time', () => {
  assert.equal(longestGapMs([9e6, 1e6, 4e6]), 5);
  assert.equal(longestGapMs([]), 0);
  assert.equal(longestGapMs([7e6]), 0);
});

it('what is lost together with the leading operator may take longer, and only that', () => {
  for (const { name, toReachMs, toReachWithLeaderMs } of kinds) {
    const isPlace = ['node-paused', 'region-cut'].includes(name);
    assert.equal(toReachWithLeaderMs > toReachMs, isPlace, name);
  }
});
