/** Which plans may share a connection, by how long they took. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PlanCost } from '#router/pool/plan-cost.ts';

function ran(times: number, micros: number, cost = new PlanCost(), othersWentOn = false): PlanCost {
  for (let run = 0; run < times; run++) cost.note(micros, 100, othersWentOn, 0);
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
    for (let run = 0; run < 20; run++) cost.note(20_000, 100, false, 0);
    assert.ok(cost.mayShare(0));
  });

  test('no longer when it is slow while others go on: one in a few hundred', () => {
    const cost = ran(100, 50);
    for (let run = 0; run < 1_000 && cost.mayShare(0); run++) cost.note(run % 200 === 0 ? 100_000 : 50, 100, true, 0);
    assert.ok(!cost.mayShare(0));
  });

  test('no longer when its answer is big', () => {
    const cost = ran(100, 50);
    cost.note(50, 1_000_000, false, 0);
    assert.ok(!cost.mayShare(0));
  });
});

test('whoever was barred proves itself anew after a time that doubles, and no sooner', () => {
  const cost = ran(10, 50);
  const barredFor = (fromMs: number): number => {
    cost.note(50, 1_000_000, false, fromMs);
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
  for (let n = 0; n < 10; n++) cost.note(50, 1_000_000, false, 1_000);
  ran(3, 50, cost);
  assert.ok(cost.mayShare(1_000 + 250));
});
