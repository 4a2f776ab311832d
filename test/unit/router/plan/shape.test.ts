/**
 * The scanner of shapes against Postgres' own: where it vouches for a text, it has found exactly the constants that Postgres finds, and
 * texts of one shape have one parse tree but for the values of those constants.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import fc from 'fast-check';
import { loadModule, parseSync, scanSync } from 'libpg-query';
import { marks, ShapeScanner } from '#router/plan/shape.ts';
import { randomOf, StatementGenerator } from '#test/integration/plan-soundness/statements.ts';

const scanner = new ShapeScanner();

interface Scanned {
  readonly shape: string;
  readonly hash: number;
  readonly constants: readonly { readonly start: number; readonly end: number; readonly kind: number }[];
}

function scan(sql: string): Scanned | undefined {
  const bytes = Buffer.from(sql);
  if (!scanner.scan(bytes, 0, bytes.length, 7)) return undefined;
  return {
    shape: Buffer.from(scanner.shape.subarray(0, scanner.length)).toString('latin1'),
    hash: scanner.hash,
    constants: Array.from({ length: scanner.count }, (_, index) => ({
      start: scanner.starts[index] ?? -1,
      end: scanner.ends[index] ?? -1,
      kind: scanner.kinds[index] ?? -1,
    })),
  };
}

/** The same as Postgres has it; undefined where it refuses the text. */
function constantsOf(sql: string): readonly (readonly [number, number, string])[] | undefined {
  try {
    return scanSync(sql)
      .tokens.filter(({ tokenName }) => ['SCONST', 'ICONST', 'FCONST'].includes(tokenName))
      .map(({ start, end, tokenName }) => [start, end, tokenName] as const);
  } catch {
    return undefined;
  }
}

const tokenOf: Readonly<Record<number, string>> = {
  [marks.string]: 'SCONST',
  [marks.integer]: 'ICONST',
  [marks.bigInteger]: 'FCONST',
  [marks.decimal]: 'FCONST',
};

/** Whether the scanner vouched for it and Postgres knows it. */
function agrees(sql: string): boolean {
  const scanned = scan(sql);
  const expected = constantsOf(sql);
  if (scanned === undefined || expected === undefined) return false;
  const found = scanned.constants.map(({ start, end, kind }) => [start, end, tokenOf[kind]]);
  assert.deepEqual(found, expected, sql);
  return true;
}

/** The tree without places and without the values of constants. */
function outline(sql: string): string | undefined {
  try {
    const strip = (node: unknown): unknown => {
      if (Array.isArray(node)) return node.map(strip);
      if (typeof node !== 'object' || node === null) return node;
      if ('A_Const' in node) {
        const { ival, sval, fval, boolval, bsval, isnull } = node.A_Const as Record<string, unknown>;
        return { constant: [ival, sval, fval].map((one) => one !== undefined), boolval, bsval, isnull };
      }
      return Object.fromEntries(
        Object.entries(node).flatMap(([key, value]) =>
          key === 'location' || /^stmt_|_(location|start|end)$/.test(key) ? [] : [[key, strip(value)]],
        ),
      );
    };
    return JSON.stringify(strip(parseSync(sql)));
  } catch {
    return undefined;
  }
}

const other: Readonly<Record<number, fc.Arbitrary<string>>> = {
  [marks.string]: fc.string().map((text) => `'${text.replaceAll("'", "''").replaceAll('\0', '')}'`),
  [marks.integer]: fc.nat().map(String),
  [marks.bigInteger]: fc.bigInt({ min: 2n ** 31n, max: 2n ** 70n }).map(String),
  [marks.decimal]: fc.tuple(fc.nat(), fc.nat()).map(([whole, part]) => `${whole}.${part}`),
};

/** Other values in the place of the constants. */
function changed(sql: string, scanned: Scanned, seed: number): string {
  const bytes = Buffer.from(sql);
  const parts: string[] = [];
  let at = 0;
  for (const { start, end, kind } of scanned.constants) {
    const arbitrary = other[kind];
    assert.ok(arbitrary !== undefined);
    parts.push(bytes.toString('utf8', at, start), ...fc.sample(arbitrary, { seed: seed + start, numRuns: 1 }));
    at = end;
  }
  return parts.join('') + bytes.toString('utf8', at);
}

function staysTheSame(sql: string, seed: number): void {
  const scanned = scan(sql);
  if (scanned === undefined) return;
  const sibling = changed(sql, scanned, seed);
  const again = scan(sibling);
  assert.equal(again?.shape, scanned.shape, sibling);
  assert.equal(again?.hash, scanned.hash, sibling);
  assert.ok(outline(sibling) === outline(sql), `${sql}\nand\n${sibling}\nare parsed differently`);
}

const corpus = readFileSync(join(import.meta.dirname, 'golden', 'psql.sql'), 'utf8')
  .split(/;\s*\n/)
  .filter((text) => text.trim() !== '');

/** What misleads lexers, to be put together in any order. */
const fragments = [
  "'a'",
  "''",
  "'it''s'",
  "'a\\'",
  "'é'",
  "'--'",
  "'/*'",
  "'a' 'b'",
  "'a'\n'b'",
  "'a' -- c\n 'b'",
  "E'a\\'b'",
  "e'x'",
  "B'01'",
  "x'1F'",
  "N'a'",
  "U&'\\0041'",
  'U&"a"',
  '"a""b"',
  '"a\'b"',
  '"',
  "'",
  '$$a$$',
  "$x$ ' $x$",

  '$1',
  '$12',
  '$1a',
  'a$1',
  'a$b$',
  '$',
  '0',
  '007',
  '1',
  '2147483647',
  '2147483648',
  '0002147483647',
  '1.5',
  '1.',

  '.5',
  '1..2',
  '1e5',
  '1e',
  '1.5e-3',
  '0x1F',
  '1_000',
  '1a',
  'a1',
  '1é',
  'é1',
  '-5',
  '- 5',
  '--5',
  '- -5',
  '5--3\n',

  '/* c */',
  '/* /* n */ */',
  '/* open',
  '-- line\n',
  '-- end',
  '/',
  '*',
  '*/',
  '+/*x*/-',
  ';',
  ';;',
  ',',
  '(',
  ')',

  'select',
  'from',
  't',
  'tenant_id',
  '=',
  '<=',
  '::text',
  '@-',
  '->>',
  '||',
  '?',
  ':',
  '\\',
  '`',
  '\u0001',
  ' ',
  '\n',

  'order by 1',
  "interval '1 day'",
  'numeric(10,2)',
  'limit 5',
  'e',
  'u&',
  'E',
  'n',
  '.',
  '[1:2]',
  ':=',
  '=>',
  '!',
  '~*',
];

before(loadModule);

describe('a shape', () => {
  test('is made of the constants that Postgres finds, in whatever is put together', () => {
    let agreed = 0;
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom(...fragments), fc.constantFrom('', '', ' ')), { maxLength: 12 }),
        (parts) => {
          if (agrees(parts.flat().join(''))) agreed += 1;
        },
      ),
      { numRuns: 4000 },
    );
    assert.ok(agreed > 400, `vouched for ${agreed} texts only`);
  });

  test('is made of the constants that Postgres finds, in arbitrary text', () => {
    const character = fc.constantFrom(...'abeEuU&xX019.-/*\'"$ \n;,()=é'.split(''));
    fc.assert(
      fc.property(fc.string({ unit: character, maxLength: 24 }), (sql) => {
        agrees(sql);
      }),
      { numRuns: 20_000 },
    );
  });

  test('has one parse tree but for its constants: queries of psql, and random statements', () => {
    let count = 0;
    for (const [seed, sql] of [
      ...corpus,
      ...Array.from({ length: 150 }, (_, index) => new StatementGenerator(randomOf(index)).query()),
      ...Array.from({ length: 150 }, (_, index) => new StatementGenerator(randomOf(index)).write()),
      "select interval '1' second(3), numeric(10, 2) '1', 'a'::varchar(5), x from t order by 1 limit 5 offset 3",
      "update t set a = -5, b = - 5, c = a - 5, d = 'x' || -1.5 where tenant_id in ('a', 'b') and n between 1 and -1",
      "select case when a > 99999999999 then 'x' end, array[1, 2], '{1,2}'::int[], a[1], a[1:2] from t",
    ].entries()) {
      if (agrees(sql)) count += 1;
      staysTheSame(sql, seed);
    }
    assert.ok(count > 280, `vouched for ${count} statements only`);
  });

  test('is the same whatever stands between the tokens, and not where a token differs', () => {
    const one = scan("select  a,'x'\n from t -- c\n where b = 5 ;");
    assert.equal(scan("/* tenant='a' */ select a,'y' /* c */ from t where b = 77")?.shape, one?.shape);
    assert.equal(one?.shape, `select a,\u0001 from t where b = \u0002`);
    for (const sql of [
      "select a,'x' from t where b = '5'",
      "select a,'x' from t where b = 99999999999",
      "select a,'x' from t where b = 5.0",
      'select a,\'x\' from "t" where b = 5',
      "select a,'x' from t where b =5",
    ])
      assert.notEqual(scan(sql)?.shape, one?.shape, sql);
  });

  test('is not made of what the scanner does not know', () => {
    for (const sql of [
      "select E'a'",
      'select $$a$$',
      'select 1e5',
      'select 1; select 2',
      "select 'a'\n'b'",
      "select 'a",
      '',
      ';',
    ])
      assert.equal(scan(sql), undefined, sql);
    assert.equal(scan(`select ${'a'.repeat(70_000)}`), undefined);
    assert.equal(scan(`select ${'1,'.repeat(5_000)}1`), undefined);
  });

  test('tells where a leading comment stands', () => {
    const sql = " /* tenant='acme' */ select 1 /* tenant='b' */";
    scan(sql);
    assert.equal(sql.slice(scanner.hintStart, scanner.hintEnd), "/* tenant='acme' */");
    for (const without of ['select 1', "select /* tenant='b' */ 1", "-- x\n/* tenant='b' */ select 1"]) {
      scan(without);
      assert.equal(scanner.hintEnd, 0, without);
    }
  });
});
