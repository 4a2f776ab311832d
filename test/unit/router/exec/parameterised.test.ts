/** Queries said with parameters: their texts, types and values, and when they go as they are after all. */
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { type BoundQuery, Parameterised, type Template, templateOf } from '#router/exec/parameterised.ts';
import { ShapeScanner } from '#router/plan/shape.ts';
import type { Guard } from '#router/plan/types.ts';
import { parameterTypesOf, SharedStatements } from '#router/session/statements.ts';
import { queryMessage } from '#router/wire/client-messages.ts';

const scanner = new ShapeScanner();

function template(sql: string, constants: readonly number[], guards: readonly Guard[] = []): Template | undefined {
  const bytes = Buffer.from(sql);
  assert.ok(scanner.scan(bytes, 0, bytes.length, 0), sql);
  return templateOf(scanner, bytes, { constants, guards }, 1);
}

function made(...of: Parameters<typeof template>): Template {
  const found = template(...of);
  assert.ok(found !== undefined, of[0]);
  return found;
}

const textOf = ({ body }: Template): string => body.toString('utf8', 0, body.indexOf(0));

/** As they stand in a Bind message. */
function valuesOf({ values }: BoundQuery): (string | null)[] {
  const found: (string | null)[] = [];
  let at = 2;
  while (at < values.length) {
    const length = values.readInt32BE(at);
    const end = at + 4 + Math.max(length, 0);
    found.push(length < 0 ? null : values.toString('utf8', at + 4, end));
    at = end;
  }
  assert.equal(found.length, values.readUInt16BE(0));
  return found;
}

describe('a template', () => {
  test('has the types that Postgres gives constants', () => {
    const { body } = made("select 1 from t where a = 'x' and b = 2 and c = 3000000000 and d = 1.5", [1, 2, 3, 4]);
    assert.deepEqual(parameterTypesOf(body), [0, 23, 20, 1700]);
  });

  test('has parameters apart from what stands beside them, and the other constants as they are', () => {
    const sql = "select 'x' from t where not'y'=a or b between'z'and 3 -- end";
    assert.equal(textOf(made(sql, [1, 2])), "select 'x' from t where not $1 =a or b between $2 and 3");
  });

  test('says behind a comparison that its column has the type it had, and means the same', () => {
    const found = made(
      "select 1 from t where a = 'x' or b > 1 and not c <> 'y'",
      [1, 2, 3],
      [
        { after: 1, column: '"a"' },
        { after: 3, column: '"t"."c"' },
      ],
    );
    assert.equal(
      textOf(found).replaceAll(/ +/g, ' ').trim(),
      'select 1 from t where a = $1 and (true or array["a"] operator(pg_catalog.=) $4) or b > $2 and not c <> $3 and (true or array["t"."c"] operator(pg_catalog.=) $5)',
    );
    assert.deepEqual(parameterTypesOf(found.body), [0, 23, 0]);
  });
});

test('there is no template where a guard would stand in parentheses of its own, or a name would be cut off with a notice', () => {
  const guard = { after: 0, column: '"a"' };
  assert.equal(template("select 1 from t where a = ('x')", [1], [{ ...guard, after: 1 }]), undefined);
  assert.ok(template("select 1 from t where a = (3) and (a = 'x')", [1, 2], [{ ...guard, after: 2 }]) !== undefined);
  const name = 'é'.repeat(31);
  assert.ok(template(`select ${name} from t where a = 1`, [0]) !== undefined);
  assert.equal(template(`select ${name}ab from t where a = 1`, [0]), undefined);
  assert.equal(template(`select "${name} b" from t where a = 1`, [0]), undefined);
});

describe('a query', () => {
  const sql = "select 'x' from t where a = 'y' and b = 3000000000";
  let shared: SharedStatements;
  let parameterised: Parameterised;
  let known: Template;
  const bind = (text: string, meaning = ''): BoundQuery | undefined =>
    parameterised.bind(queryMessage(text), known, meaning);
  const bound = (text = sql, meaning = ''): BoundQuery => {
    const found = bind(text, meaning);
    assert.ok(found !== undefined, text);
    return found;
  };

  beforeEach(() => {
    shared = new SharedStatements();
    parameterised = new Parameterised(new ShapeScanner(), shared);
    known = made(sql, [1, 2]);
  });

  test('has its own values, strings without their quotes', () => {
    assert.deepEqual(valuesOf(bound("select 'x' from t where a = 'é''''s' and b = 999999999999999999")), [
      "é''s",
      '999999999999999999',
    ]);
    assert.deepEqual(valuesOf(bound("select 'x' from t where a = '' and b = 4000000000")), ['', '4000000000']);
  });

  test('has nulls for what guards its columns', () => {
    known = made(sql, [1, 2], [{ after: 1, column: '"a"' }]);
    assert.deepEqual(valuesOf(bound()), ['y', '3000000000', null]);
  });

  for (const [why, text] of [
    ['a constant that stays is another', "select 'z' from t where a = 'y' and b = 3000000000"],
    ['an integer may be too long for 64 bits', "select 'x' from t where a = 'y' and b = 1000000000000000000"],
    ["a hint is meant for the member's planner", `/*+ SeqScan(t) */ ${sql}`],
  ] as const)
    test(`goes as it is where ${why}`, () => assert.equal(bind(text), undefined));

  test('goes as it is once most of its kind have failed', () => {
    for (let count = 0; count < 4; count++) parameterised.failed(bound());
    assert.equal(bind(sql), undefined);
  });

  test('goes on where few of many fail', () => {
    for (let count = 0; count < 2_000; count++) {
      const query = bound();
      if (count % 40 === 39) parameterised.failed(query);
    }
  });

  test('shares its statement with those of the same settings, and with no statement of a client', () => {
    assert.equal(bound().name, bound("select 'x' from t where a = 'z' and b = 5000000000").name);
    assert.notEqual(bound().name, bound(sql, 'set timezone to utc').name);
    assert.notEqual(bound().name, shared.of(known.body, '').name);
  });

  test("doesn't share it with those of other tables", () => {
    const { name } = bound();
    known = { ...known, catalogue: 2 };
    assert.notEqual(bound().name, name);
  });

  test('has its statement made anew once where it fails, however many were sent by its old name', () => {
    const [first, second] = [bound(), bound()];
    parameterised.failed(first);
    const { name } = bound();
    assert.notEqual(name, first.name);
    parameterised.failed(second);
    assert.equal(bound().name, name);
  });
});
