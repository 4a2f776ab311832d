/** What may have come of a segment: completed isn't committed, and only a surely harmless one is cancelled. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { StatementPlan } from '#router/plan/types.ts';
import { lossError } from '#router/session/loss.ts';
import { Segment } from '#router/session/segment.ts';
import { plan } from '../exec/fixture.ts';

const read = plan({ text: 'select 1' });
const write = plan({ kind: 'update', access: 'write' });
const commit = plan({ kind: 'transaction', transaction: { verb: 'commit' } });
const rollback = plan({ kind: 'transaction', transaction: { verb: 'rollback' } });
const savepoint = plan({ kind: 'transaction', transaction: { verb: 'savepoint', name: 's' } });

/** Sent all, of which so many are completed. */
function segmentOf(plans: readonly (StatementPlan | undefined)[], completed: number): Segment {
  const segment = new Segment();
  segment.send(plans);
  for (let index = 0; index < completed; index++) assert.equal(segment.complete(), plans[index]);
  return segment;
}

describe('a loss', () => {
  const sqlstate = (segment: Segment, isInTransaction: boolean): string =>
    lossError('gone', isInTransaction, segment.plans).sqlstate;

  test('after a write was completed and before its end was answered leaves the outcome unknown', () => {
    assert.equal(sqlstate(segmentOf([write], 1), false), '08007');
    assert.equal(sqlstate(segmentOf([write, read], 1), false), '08007');
    assert.equal(sqlstate(segmentOf([write], 1), true), '40001');
  });

  test('after a completed COMMIT leaves the outcome unknown, whatever was under way', () => {
    assert.equal(sqlstate(segmentOf([commit, read], 1), true), '08007');
  });

  test('after an error is harmless, unless a COMMIT came before', () => {
    const failed = segmentOf([write, read], 1);
    failed.fail();
    assert.notEqual(sqlstate(failed, false), '08007');
    const committed = segmentOf([write, commit, write], 2);
    committed.fail();
    assert.equal(sqlstate(committed, true), '08007');
  });

  test('of the segment after counts for itself', () => {
    const segment = segmentOf([write], 1);
    segment.end();
    segment.send([read]);
    assert.equal(sqlstate(segment, false), '08006');
  });
});

test('a cancel is passed on only where no commit can be under way', () => {
  const cases: readonly (readonly [readonly (StatementPlan | undefined)[], number, boolean, boolean])[] = [
    [[], 0, false, false],
    [[read], 0, false, true],
    [[write], 0, false, false],
    [[write, read], 1, false, false],
    [[write], 0, true, true],
    [[savepoint, write], 1, true, true],
    [[commit], 0, true, false],
    [[commit, read], 1, true, false],
    [[rollback, write], 1, true, false],
    [[undefined], 0, true, false],
  ];
  for (const [plans, completed, isInTransaction, expected] of cases)
    assert.equal(
      segmentOf(plans, completed).mayBeCancelled(isInTransaction, new Set()),
      expected,
      JSON.stringify([plans.map((one) => one?.kind), completed, isInTransaction]),
    );
});
