/** Prepared statements: who shares one, and how much of them is kept. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RouterError } from '#router/errors.ts';
import { KeptNames } from '#router/session/kept-names.ts';
import { ClientStatement, type SharedStatement, SharedStatements } from '#router/session/statements.ts';
import { catalogue } from '../plan/fixture.ts';

const body = (sql: string): Buffer => Buffer.concat([Buffer.from(sql), Buffer.alloc(3)]);
const planner = { catalogue, planOne: () => undefined };
const statement = (name: string, sql: string, scope = { shared: new SharedStatements(), settings: { meaning: '' } }) =>
  new ClientStatement({ name, sql, body: body(sql) }, { ...scope, planner });

describe('statements at backends', () => {
  test('are shared by text and settings, and a session’s follows its settings', () => {
    const shared = new SharedStatements();
    const one = { shared, settings: { meaning: 'SET timezone = 1' } };
    const other = { shared, settings: { meaning: 'SET timezone = 2' } };
    const first = statement('a', 'select 1', one);
    assert.equal(first.shared, statement('b', 'select 1', { ...one }).shared);
    assert.notEqual(first.shared?.name, statement('a', 'select 1', other).shared?.name);
    assert.notEqual(first.shared?.name, statement('a', 'select 2', one).shared?.name);
    const under1 = first.shared;
    one.settings.meaning = 'SET timezone = 2';
    assert.equal(first.shared, statement('c', 'select 1', other).shared);
    one.settings.meaning = 'SET timezone = 1';
    assert.equal(first.shared, under1);
  });

  test('that take other types where they are made anew are no longer those of clients who have values of the former ones', () => {
    const scope = { shared: new SharedStatements(), settings: { meaning: '' } };
    const [one, other] = [statement('a', 'select $1', scope), statement('b', 'select $1', scope)];
    const shared = one.shared as SharedStatement;
    const { name } = shared;
    one.learn(shared, '1082', '', true, true);
    other.takeTypes();
    assert.deepEqual([one.isTypedOtherwise, other.isTypedOtherwise, shared.name === name], [false, false, true]);
    other.learn(shared, '1114', '', true, true);
    assert.deepEqual([one.isTypedOtherwise, other.isTypedOtherwise, shared.name === name], [true, false, false]);
    one.learn(shared, '1114', '', true, false);
    assert.ok(one.isTypedOtherwise);
    one.takeTypes();
    assert.ok(!one.isTypedOtherwise);
  });

  test('are others once columns have other types, but for those who have made theirs before', () => {
    const shared = new SharedStatements();
    const scope = { shared, settings: { meaning: '' } };
    const before = { ...planner, catalogue: { ...catalogue, columnTypes: 'a' } };
    const parsed = { name: 'a', sql: 'select 1', body: body('select 1') };
    const old = new ClientStatement(parsed, { ...scope, planner: before });
    assert.equal(new ClientStatement(parsed, { ...scope, planner: before }).shared, old.shared);
    before.catalogue = { ...catalogue, columnTypes: 'b' };
    const since = new ClientStatement(parsed, { ...scope, planner: before });
    assert.notEqual(since.shared, old.shared);
    assert.equal(old.planned, undefined);
    scope.settings.meaning = 'SET timezone = 1';
    assert.notEqual(since.shared, old.shared);
  });

  test('are forgotten, the least recently used first, when they are too many bytes together', () => {
    const shared = new SharedStatements(10_000);
    const [a, b, c] = ['a', 'b', 'c'].map((letter) => body(letter.repeat(3_000))) as [Buffer, Buffer, Buffer];
    const first = shared.of(a, '');
    const second = shared.of(b, '');
    assert.equal(shared.of(a, ''), first);
    shared.of(c, '');
    assert.equal(shared.of(a, ''), first);
    assert.notEqual(shared.of(b, ''), second);
  });
});

describe('what a session keeps by name', () => {
  const tooMuch = (error: unknown): boolean => error instanceof RouterError && error.sqlstate === '54000';

  test('is bounded in bytes, and there is room again for what is closed', () => {
    const kept = new KeptNames<ClientStatement>('prepared statements', ({ bytes }) => bytes, 100_000);
    const long = 'x'.repeat(10_000);
    let count = 0;
    assert.throws(() => {
      for (; ; count++) kept.set(`s${count}`, statement(`s${count}`, long));
    }, tooMuch);
    assert.equal(count, 3);
    assert.equal(kept.size, 3);
    // The same name again takes no more.
    for (let round = 0; round < 10; round++) kept.set('s1', statement('s1', long));
    kept.delete('s0');
    kept.set('again', statement('again', long));
    assert.throws(() => kept.set('more', statement('more', long)), tooMuch);
    kept.clear();
    for (const name of ['a', 'b', 'c']) kept.set(name, statement(name, long));
  });

  test('counts names and entries as well', () => {
    const kept = new KeptNames<undefined>('portals', () => 0, 100_000);
    assert.throws(() => kept.set('n'.repeat(60_000), undefined), tooMuch);
    assert.throws(() => {
      for (let count = 0; count < 1_000; count++) kept.set(`p${count}`, undefined);
    }, tooMuch);
  });
});
