/** Which constants become parameters of a prepared statement: what a column is compared with, and nothing that another part looks at. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parametersOf } from '#router/plan/parameters.ts';
import { Parser } from '#router/plan/parser.ts';
import { ShapeScanner } from '#router/plan/shape.ts';

const parser = await Parser.create();
const scanner = new ShapeScanner();

interface Found {
  /** The constants themselves. */
  readonly parameters: string[];
  /** Constant and column. */
  readonly guards: string[];
}

function parameters(sql: string, calls: readonly string[] = []): Found | undefined {
  const bytes = Buffer.from(sql);
  assert.ok(scanner.scan(bytes, 0, bytes.length, 0), sql);
  const [statement] = parser.parse(sql).stmts ?? [];
  assert.ok(statement?.stmt !== undefined, sql);
  const { starts, ends, count } = scanner;
  const found = parametersOf(
    statement.stmt,
    { calls },
    {
      count,
      start: (index) => starts[index] as number,
      key: () => undefined,
    },
  );
  const textOf = (index: number): string => bytes.toString('utf8', starts[index], ends[index]);
  return (
    found && {
      parameters: found.constants.map(textOf),
      guards: found.guards.map(({ after, column }) => `${textOf(after)} ${column}`),
    }
  );
}

describe('parameters are', () => {
  for (const [sql, expected, guards = []] of [
    ["select 1 from t where a = 2 and b <> 'x' or t.c >= 3.5", ['2', "'x'", '3.5'], [`'x' "b"`]],
    ['select 1 from t where a between 2 and 3', ['2', '3']],
    ["select 1 from t where not a between 'x' and 'y'", ["'x'", "'y'"], [`'y' "a"`]],
    ["select 1 from t where a between 'x'::date and 'y'", ["'x'", "'y'"], [`'y' "a"`]],
    ["select 1 from t where a = 'x'::uuid and b = cast('y' as date)", ["'x'", "'y'"]],
    ["select 1 from t where 'x'::timestamp with time zone < a", ["'x'"]],
    ["select 1 from t join u on t.id = u.id and u.kind = 'é' where not (a < 1)", ["'é'", '1'], [`'é' "u"."kind"`]],
    [
      'select 1 from t where "a""B" = \'x\' and (T.Ab = \'y\' or 1 = b)',
      ["'x'", "'y'", '1'],
      [`'x' "a""B"`, `'y' "t"."ab"`],
    ],
    ['select 1 from t where id in (select id from u where n = 5)', ['5']],
    ["select 1 from t where exists (select from u where n = 'x')", ["'x'"], [`'x' "n"`]],
    ['select * from (select 1 from t where a = 2) s', ['2']],
    ['select 1 from t where a = 1 union select 2 from t where a = 3', ['1', '3']],
    ['select 1 from t where case when a = 1 then b = 2 end', ['1', '2']],
    ["select 1 from t where a = 'now' and b like 'x%'", ["'now'"], [`'now' "a"`]],
    ["select '1'::int + 1, interval '1 day' from t where a = 1", ['1']],
    ['select b[1], b::text[], current_timestamp(3), c::numeric(9, 2) from t where a = 1', ['1']],
  ] as const)
    test(sql, () => assert.deepEqual(parameters(sql), { parameters: expected, guards }));
});

describe('no parameters are', () => {
  for (const sql of [
    'select a = 1 from t',
    'select 1 from t where a = -1',
    'select 1 from t where a + 1 = 2',
    'select 1 from t where a in (1, 2)',
    "select 1 from t where a like 'x' and b ilike 'today'",
    'select 1 from t where a between symmetric 1 and 2',
    'select 1 from t where a between 1 and b',
    'select 1 from t where a = 1::int',
    "select 1 from t where a = 'x'::varchar(3)",
    // $1 can't stand behind the name of a type.
    "select 1 from t where a = date '2020-01-01'",
    "select 1 from t where a < b + interval '12 hours' and b > timestamptz '2020-01-01 00:00:01.5+05:30'",
    'select 1 from t limit 3 offset 4',
    'select count(*) from t group by a having a = 1',
    // Equal expressions are one there; $1 and $2 never are.
    'select (select b from u where id = 1) from t group by rollup ((select b from u where id = 1))',
    'select distinct a from t order by (select b from u where id = 1)',
    'select count(*) from t having exists (select from u where id = 1)',
  ])
    test(sql, () => assert.deepEqual(parameters(sql), { parameters: [], guards: [] }));
});

describe("a statement goes as it is where a string that stays may be read otherwise the next time, or a parameter's type stays", () => {
  for (const sql of [
    "select 1 from t where lower(a) = 'x'",
    "select 1 from t where a in ('x', 'y')",
    "select 'x' from t where a = 1",
    "select 1 from t where f('x')",
    "select 1 from t where a = '{1}'::int[]",
    "select 1 from t where a = 'x'::mood",
    "select 1 from t where a = 'x'::app.text",
    "select 1 from t where a = '10:00'::timetz",
    "select 1 from t where a + 1 = 'x'::regproc",
    'select 1 from t where a = \'x\' collate "C"',
    "select 1 from t where a > date 'now'",
    "select 1 from t where a > date '01/02/2003'",
    "select 1 from t where a + b > '2020-01-01 00:00'::timestamptz",
    "select 1 from t where a + b > interval '-1 2:03'",
    "select 1 from t where a + b > '{yesterday,2020-01-01}'::date",
    "select 1 from t where a + b > 'TOMORROW 10:00'::timestamp",
    "select 1 from t where a like 'x' escape 'y'",
    // Names that Postgres looks up once.
    'select 1 from t where a = 1 and (b)::mood is null',
    'select 1 from t where a = 1 and b::app.text is null',
    'select array[b]::mood[] from t where a = 1',
    'select x.m from t, json_to_recordset(t.b) as x(m mood) where a = 1',
    'select max(b collate c) from t where a = 1',
    'select 1 from t where a = 1 order by b collate c',
    'select (p).x from t where a = 1',
    'select (p).* from t where a = 1',
    // It warns when it is made.
    'select current_timestamp(7) from t where a = 1',
    'select b::timestamp(7) from t where a = 1',
    // A guard would stand elsewhere than the comparison does.
    "select 1 from t where 'x' = a",
    "select 1 from t where a = 'x' is not true",
    "select 1 from t where case when a = 'x' then b = 2 end",
    "select 1 from t where f(a = 'x')",
    "select 1 from t where a between 'x' and 'y'::date",
    "select 1 from t where a between 'x' and b",
    "select a = 'x' from t",
  ])
    test(sql, () => assert.equal(parameters(sql), undefined));
});

test('a statement that has parameters of its own, or too many constants, or that tells when it began, is left as it is', () => {
  assert.equal(parameters('select 1 from t where a = $1 and b = 2'), undefined);
  assert.equal(parameters('select 1 from view_with_it where a = 1', ['statement_timestamp']), undefined);
  assert.equal(parameters('select 1 from t, pg_catalog.pg_cursors where a = 1'), undefined);
  const many = (count: number): string => Array.from({ length: count }, (_, index) => `a = ${index}`).join(' or ');
  assert.equal(parameters(`select 1 from t where ${many(32)}`)?.parameters.length, 32);
  assert.equal(parameters(`select 1 from t where ${many(33)}`), undefined);
  assert.equal(parameters(`select 1 from t where ${many(31)} or a = 'x'`), undefined);
});
