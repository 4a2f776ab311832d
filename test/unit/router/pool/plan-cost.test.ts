/** Which plans may share a connection, by how long they took. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PlanCost } from '#router/pool/plan-cost.ts';

function ran(times: number, micros: number, cost = new PlanCost(), othersWentOn = false): PlanCost {
  for (let run = 0; run < times; run++) cost.noteShared(micros, 0, 100, othersWentOn, 0);
  return cost;
}

describe('a plan may share', () => {
  test('after it has been quick a few times, not before', () => {
    assert.ok(!new PlanCost().mayShare(0));
    assert.ok(!ran(2, 50).mayShare(0));
    assert.ok(ran(3, 50).mayShare(0));
  });

  test('never where it always takes long', () => {
    assert.ok(!ran(500, 100_000).mayShare(0));
    assert.ok(!ran(500, 3_000).mayShare(0));
  });

  test('though the machine was slow at times, as long as nothing else went on meanwhile', () => {
    const cost = ran(100, 50);
    for (let run = 0; run < 20; run++) cost.noteShared(50_000, 0, 100, false, 0);
    assert.ok(cost.mayShare(0));
  });

  test('no longer when it is slow while others go on: one in a few hundred', () => {
    const cost = ran(100, 50);
    for (let run = 0; run < 1_000 && cost.mayShare(0); run++)
      cost.noteShared(run % 200 === 0 ? 100_000 : 50, 0, 100, true, 0);
    assert.ok(!cost.mayShare(0));
  });

  test('no longer when its answer is big', () => {
    const cost = ran(100, 50);
    cost.noteShared(50, 0, 1_000_000, false, 0);
    assert.ok(!cost.mayShare(0));
  });
});

test('whoever was barred proves itself anew after a time that doubles, and no sooner', () => {
  const cost = ran(10, 50);
  const barredFor = (fromMs: number): number => {
    cost.noteShared(50, 0, 1_000_000, false, fromMs);
    ran(3, 50, cost);
    let ms = 0;
    while (!cost.mayShare(fromMs + ms)) ms += 10;
    return ms;
  };
  const first = barredFor(1_000_000);
  const second = barredFor(1_000_000 + first);
  assert.ok(first > 0);
  assert.equal(second, first * 2);
});

test('while it is barred, more of the same does not make it longer', () => {
  const cost = ran(10, 50);
  for (let n = 0; n < 10; n++) cost.noteShared(50, 0, 1_000_000, false, 1_000);
  ran(3, 50, cost);
  assert.ok(cost.mayShare(1_000 + 250));
});

describe('one that is slow at times', () => {
  /** Barred as slow at 1 s: in line its statements waited `inLineMs`, and since then, alone, `aloneMs`. */
  function barred(inLineMs: number, aloneMs: number): PlanCost {
    const cost = new PlanCost();
    for (let run = 0; run < 1_000; run++) cost.noteShared(50, inLineMs * 1_000, 100, true, 1_000);
    for (let run = 0; run < 3; run++) cost.noteShared(100_000, inLineMs * 1_000, 100, true, 1_000);
    assert.ok(!cost.mayShare(1_000));
    for (let run = 0; run < 100; run++) cost.noteAlone(50, aloneMs * 1_000, 100, 1_100);
    assert.ok(!cost.mayShare(1_100));
    assert.ok(cost.mayShare(1_250));
    return cost;
  }
  const slowAgain = (cost: PlanCost, perThousand: number, nowMs: number): boolean => {
    for (let run = 0; run < 5_000; run++)
      cost.noteShared(run % (1_000 / perThousand) === 0 ? 100_000 : 50, 0, 100, true, nowMs);
    return cost.mayShare(nowMs);
  };

  test('is barred again where its statements waited less on connections of their own', () => {
    assert.ok(!slowAgain(barred(20, 0), 5, 1_300));
  });

  test('goes on sharing where they waited longer for these', () => {
    assert.ok(slowAgain(barred(20, 30), 5, 1_300));
  });

  test('but not where many are slow, nor for long without being tried again', () => {
    assert.ok(!slowAgain(barred(20, 30), 50, 1_300));
    assert.ok(!slowAgain(barred(20, 30), 5, 12_000));
  });

  test('counts as such only while it shares: alone it holds nobody up', () => {
    const cost = ran(100, 50);
    for (let run = 0; run < 1_000; run++) cost.noteAlone(run % 100 === 0 ? 100_000 : 50, 0, 100, 0);
    assert.ok(cost.mayShare(0));
  });
});
