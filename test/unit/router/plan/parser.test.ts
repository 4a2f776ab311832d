/** The parser: errors as Postgres says them, and nothing that a client sends breaks it for the others. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PlanError } from '#router/plan/index.ts';
import { plan, plans } from './fixture.ts';

const errorOf = (sql: string): PlanError => {
  try {
    plans(sql);
  } catch (error) {
    if (error instanceof PlanError) return error;
    throw error;
  }
  throw new Error(`no error: ${sql.slice(0, 80)}`);
};

test('a syntax error has its SQLSTATE, message and position in characters', () => {
  const cases: readonly [sql: string, message: RegExp, position: number][] = [
    ['selec 1', /syntax error at or near "selec"/, 1],
    ["select 'é' , x y z", /syntax error at or near "z"/, 18],
    ["select 'abc", /unterminated quoted string/, 8],
    ['select 1 +', /syntax error at end of input/, 11],
  ];
  for (const [sql, message, position] of cases) {
    const error = errorOf(sql);
    assert.equal(error.sqlstate, '42601');
    assert.match(error.message, message);
    assert.equal(error.position, position);
  }
});

test('a statement that is nested too deeply is refused, however often, and others are planned on', async () => {
  const deep = `select ${Array.from({ length: 10_000 }, () => '1').join('+')}`;
  for (let round = 0; round < 60; round += 1) {
    assert.equal(errorOf(deep).sqlstate, '54001');
    assert.deepEqual(plan("select * from orders where tenant_id = 'acme'").tenant, {
      from: 'constant',
      values: ['acme'],
    });
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
});

test('what is too large to be planned is refused with 54000', () => {
  assert.equal(errorOf(`select '${'x'.repeat(17 * 1024 * 1024)}'`).sqlstate, '54000');
  assert.equal(errorOf(`values ${Array.from({ length: 400_000 }, () => '(1,2)').join()}`).sqlstate, '54000');
  assert.equal(plan('select 1').kind, 'select');
});

test('a large INSERT is planned', () => {
  const rows = Array.from({ length: 10_000 }, (_, index) => `('acme', 'sku-${index}', ${index})`).join();
  assert.deepEqual(plan(`insert into stock (tenant_id, sku, on_hand) values ${rows}`).tenant, {
    from: 'constant',
    values: ['acme'],
  });
});

test('a zero byte is no text', () => assert.equal(errorOf("select 'a\0b'").sqlstate, '22021'));

test('any text at all is planned or refused with a SQLSTATE', () => {
  const words =
    'select from where with as ( ) , ; * tenant_id = orders stock join left on using lateral union all in any null ' +
    "'acme' $1 values insert into returning update set merge exists group by not or and -- /* */ \" ' $$ \\ é 😀 . 1";
  const word = fc.constantFrom(...words.split(' '), '\n');
  const text = fc.oneof(
    fc.array(word, { maxLength: 25 }).map((words) => words.join(' ')),
    fc.string({ unit: 'binary', maxLength: 60 }),
  );
  fc.assert(
    fc.property(text, (sql) => {
      try {
        plans(sql);
      } catch (error) {
        assert.ok(error instanceof PlanError, String(error));
        assert.match(error.sqlstate, /^[0-9A-Z]{5}$/);
      }
    }),
    { numRuns: 2_000 },
  );
});

test('a text of very many statements is refused, and one of many is planned', () => {
  assert.equal(plans('select 1;'.repeat(1_000)).length, 1_000);
  const { sqlstate, hint } = errorOf('select 1;'.repeat(1_001));
  assert.equal(sqlstate, '54000');
  assert.match(hint ?? '', /fewer at a time/);
});
