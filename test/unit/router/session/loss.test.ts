/** What a lost connection means: the SQLSTATE never promises more than is known. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { StatementPlan } from '#router/plan/types.ts';
import { lossError } from '#router/session/loss.ts';
import { plan } from '../exec/fixture.ts';

const read = plan();
const write = plan({ kind: 'update', access: 'write' });
const begin = plan({ kind: 'transaction', transaction: { verb: 'begin' } });
const commit = plan({ kind: 'transaction', transaction: { verb: 'commit' } });
const rollback = plan({ kind: 'transaction', transaction: { verb: 'rollback' } });
const call = plan({ kind: 'call', access: 'write' });

describe('a lost connection', () => {
  const cases: readonly (readonly [string, boolean, readonly (StatementPlan | undefined)[], string])[] = [
    ['while reading', false, [read], '08006'],
    ['while writing', false, [write], '08007'],
    ['in the middle of several, one of which writes', false, [read, write], '08007'],
    ['while something unknown ran', false, [undefined], '08007'],
    ['in a transaction', true, [write], '40001'],
    ['in a transaction with nothing under way', true, [], '40001'],
    ['at COMMIT', true, [commit], '08007'],
    ['at ROLLBACK', true, [rollback], '40001'],
    ['in a procedure, which may commit', true, [call], '08007'],
    ['while reading after a COMMIT in one pipeline', true, [commit, read], '08007'],
    ['while writing after a ROLLBACK in one pipeline', true, [rollback, write], '08007'],
    ['in a transaction that a pipeline began', false, [begin, write], '40001'],
  ];
  for (const [name, isInTransaction, underWay, sqlstate] of cases)
    test(name, () => {
      assert.equal(lossError('gone', isInTransaction, underWay).sqlstate, sqlstate);
    });

  test('is never called harmless when something may have been committed', () => {
    const statement = fc.constantFrom(read, write, commit, call, undefined);
    fc.assert(
      fc.property(fc.boolean(), fc.array(statement, { maxLength: 4 }), (isInTransaction, underWay) => {
        const { sqlstate } = lossError('gone', isInTransaction, underWay);
        const mayCommit = underWay.some((one) => one === commit || one === call || (!isInTransaction && one !== read));
        assert.equal(sqlstate === '08007', mayCommit);
      }),
    );
  });
});
