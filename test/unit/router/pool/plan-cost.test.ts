/** Which plans may share a connection, by how long they took. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PlanCost } from '#router/pool/plan-cost.ts';

function ran(times: number, micros: number, cost = new PlanCost(), othersWentOn = false): PlanCost {
  for (let run = 0; run < times; run++) cost.noteShared(micros, 100, othersWentOn, 0);
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
    for (let run = 0; run < 20; run++) cost.noteShared(50_000, 100, false, 0);
    assert.ok(cost.mayShare(0));
  });

  /** Of each thousand runs so many are slow, while others go on. */
  const slowAtTimes = (perThousand: number): PlanCost => {
    const cost = ran(100, 50);
    for (let run = 0; run < 5_000 && cost.mayShare(0); run++)
      cost.noteShared(run % (1_000 / perThousand) === 0 ? 100_000 : 50, 100, true, 0);
    return cost;
  };

  test('though one in fifty is slow while others go on, no longer with one in ten', () => {
    assert.ok(slowAtTimes(20).mayShare(0));
    assert.ok(!slowAtTimes(100).mayShare(0));
  });

  test('however slow others make it on connections of their own, of which one is enough that was quick', () => {
    const cost = slowAtTimes(100);
    cost.noteAlone(800, 100, 1);
    for (let run = 0; run < 200; run++) cost.noteAlone(9_000, 100, 1);
    assert.ok(cost.mayShare(1_000));
  });

  test('no longer when its answer is big', () => {
    const cost = ran(100, 50);
    cost.noteShared(50, 1_000_000, false, 0);
    assert.ok(!cost.mayShare(0));
  });
});

test('whoever was barred proves itself anew after a time that doubles, and no sooner', () => {
  const cost = ran(10, 50);
  const barredFor = (fromMs: number): number => {
    cost.noteShared(50, 1_000_000, false, fromMs);
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
  for (let n = 0; n < 10; n++) cost.noteShared(50, 1_000_000, false, 1_000);
  ran(3, 50, cost);
  assert.ok(cost.mayShare(1_000 + 250));
});
