/** The client's transaction, as the client is told. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RouterError } from '#router/errors.ts';
import type { TransactionVerb } from '#router/plan/types.ts';
import { SessionSettings } from '#router/session/settings.ts';
import { ClientTransaction, endsFailure, mayCommit } from '#router/session/transaction.ts';
import { transactionStatus as tx } from '#router/wire/codes.ts';
import { plan } from '../exec/fixture.ts';

const made = (): ClientTransaction => new ClientTransaction(new SessionSettings(new Map(), {}));
const statement = (verb: TransactionVerb, text: string = verb, more: object = {}) =>
  plan({ kind: 'transaction', text, transaction: { verb, ...more } });

describe('a transaction that no backend has', () => {
  test('begins for the client and is told to the backend with what was said since', () => {
    const transaction = made();
    assert.equal(transaction.answer(statement('begin', 'begin read only', { readOnly: true })).tag, 'BEGIN');
    assert.ok(transaction.isLazy && transaction.isOpen && transaction.isReadOnly);
    transaction.answer(statement('savepoint', 'savepoint s', { name: 's' }));
    transaction.defer('set local x = 1');
    assert.deepEqual(transaction.takeLazy(), ['begin read only', 'savepoint s', 'set local x = 1']);
    assert.ok(!transaction.isLazy && transaction.isOpen);
  });

  test('keeps no more than so much of what was said since', () => {
    const transaction = made();
    transaction.answer(statement('begin'));
    assert.throws(
      () => {
        for (let count = 0; count < 1_000; count++) transaction.defer(`set local a.b = '${'x'.repeat(10_000)}'`);
      },
      { sqlstate: '54000' },
    );
  });

  test('ends without anybody hearing of it, and AND CHAIN begins another', () => {
    const transaction = made();
    transaction.answer(statement('begin', 'begin isolation level serializable'));
    assert.equal(transaction.answer(statement('commit', 'commit and chain', { chain: true })).tag, 'COMMIT');
    assert.deepEqual(transaction.takeLazy(), ['begin isolation level serializable']);
    transaction.answer(statement('rollback'));
    assert.equal(transaction.status, tx.idle);
  });

  test('is warned of or refused where Postgres would', () => {
    const transaction = made();
    assert.equal(transaction.answer(statement('commit')).warning?.sqlstate, '25P01');
    assert.throws(
      () => transaction.answer(statement('savepoint')),
      (error: RouterError) => error instanceof RouterError && error.sqlstate === '25P01',
    );
    transaction.answer(statement('begin'));
    assert.equal(transaction.answer(statement('begin')).warning?.sqlstate, '25001');
  });
});

describe('a transaction that is lost with its backend', () => {
  test('has failed, and is over where its end had been sent', () => {
    const [lost, ended] = [made(), made()];
    for (const transaction of [lost, ended]) transaction.status = tx.open;
    lost.lose(false);
    ended.lose(true);
    assert.deepEqual([lost.status, ended.status], [tx.failed, tx.idle]);
    const outside = made();
    outside.lose(false);
    assert.equal(outside.status, tx.idle);
  });

  test('says so with the next statement, once', () => {
    const transaction = made();
    const reason = new RouterError('SerializationFailure', 'lost');
    transaction.status = tx.open;
    transaction.lose(false);
    transaction.loseSilently(reason);
    assert.equal(transaction.aborted(), reason);
    assert.equal(transaction.aborted().sqlstate, '25P02');
    assert.equal(transaction.endFailed(statement('commit')), 'ROLLBACK');
    assert.ok(transaction.isIdle);
  });

  test('says so with the COMMIT that is the next statement: as ROLLBACK it would pass for success', () => {
    const reason = new RouterError('SerializationFailure', 'lost');
    for (const verb of ['commit', 'rollback'] as const) {
      const transaction = made();
      transaction.status = tx.open;
      transaction.lose(false);
      transaction.loseSilently(reason);
      if (verb === 'commit') assert.throws(() => transaction.endFailed(statement(verb)), reason);
      else assert.equal(transaction.endFailed(statement(verb)), 'ROLLBACK');
      assert.ok(transaction.isIdle);
    }
  });
});

test('what ends a failed transaction, and what may commit', () => {
  assert.deepEqual(
    (['commit', 'rollback', 'rollback-to', 'begin', 'savepoint'] as const).map((verb) => endsFailure(statement(verb))),
    ['transaction', 'transaction', 'savepoint', undefined, undefined],
  );
  assert.deepEqual(
    (['commit', 'prepare', 'rollback', 'begin', 'savepoint'] as const).map((verb) => mayCommit(statement(verb))),
    [true, true, false, false, false],
  );
  assert.ok(mayCommit(plan({ kind: 'call' })) && !mayCommit(plan({ kind: 'update', access: 'write' })));
});
