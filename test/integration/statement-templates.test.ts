/**
 * Statements said with parameters, held against Postgres itself: what a client hears of them is what it hears of the same texts as simple
 * queries. Templates are run often enough that Postgres uses generic plans as well. Thousands of random statements;
 * `MERIDIAN_TEMPLATE_STATEMENTS` sets how many, `MERIDIAN_TEMPLATE_SEED` which.
 */
import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import type { Client } from 'pg';
import { agentRole } from '#core/roles.ts';
import { createPlanner } from '#router/plan/index.ts';
import { ShapeScanner } from '#router/plan/shape.ts';
import { randomOf, StatementGenerator } from './plan-soundness/statements.ts';
import { PostgresFixture } from './postgres-fixture.ts';
import { Laboratory } from './statement-templates/laboratory.ts';
import {
  bigIntegers,
  catalogue,
  columns,
  decimals,
  integers,
  schemaSql,
  strings,
  types,
} from './statement-templates/schema.ts';
import { comparisons, handwritten } from './statement-templates/statements.ts';

const count = Number(process.env['MERIDIAN_TEMPLATE_STATEMENTS'] ?? 4000);
const seed = Number(process.env['MERIDIAN_TEMPLATE_SEED'] ?? Date.now() % 1_000_000);
/** Postgres may choose a generic plan after five. */
const rounds = 8;

describe(`statements said with parameters (seed ${seed})`, { timeout: 1_200_000 }, () => {
  let postgres: PostgresFixture;
  let laboratory: Laboratory;
  let client: Client;
  const typeOf = new Map<string, string>();
  const valuesOf = new Map<string, readonly string[]>();
  const random = randomOf(seed);
  const one = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)] as T;

  before(async () => {
    postgres = await PostgresFixture.start();
    client = await postgres.connect(agentRole, 'postgres');
    await client.query(schemaSql);
    for (const column of columns) {
      const { rows } = await client.query<{ value: string; type: string }>(
        `select distinct quote_literal(${column}::text) as value, pg_typeof(${column}) as type from kinds where ${column} is not null`,
      );
      typeOf.set(column, rows[0]?.type ?? '');
      valuesOf.set(
        column,
        rows.map(({ value }) => value).filter((value) => !value.startsWith(' E')),
      );
    }
    const { container } = postgres;
    const to = { host: container.getHost(), port: container.getMappedPort(5432), user: 'reader' };
    laboratory = await Laboratory.open(to, await createPlanner(), catalogue);
  });
  after(async () => {
    laboratory?.end();
    await postgres?.stop();
  });

  const constants: Readonly<Record<string, readonly string[]>> = {
    i: integers,
    b: bigIntegers,
    d: decimals,
    s: strings,
    k: ["'a'", "'b'", "'abc'", "'ok'"],
  };
  /** `own`: what stands in the column itself, to be found as well. */
  const filled = (text: string, own: readonly string[] = strings): string =>
    text.replaceAll(/\{(\w)\}/g, (_, kind: string) => one(kind === 'o' ? own : (constants[kind] ?? [])));

  /** All at once, so that one run shows all. */
  async function expectSame(context: TestContext, texts: Iterable<string>): Promise<void> {
    let total = 0;
    const before = { ...laboratory.counts };
    const found: string[] = [];
    for (const sql of texts) {
      total += 1;
      const different = await laboratory.difference(sql);
      if (different !== undefined) found.push(different);
    }
    const { counts } = laboratory;
    const did = Object.entries(counts).map(([name, value]) => `${name} ${value - before[name as keyof typeof before]}`);
    assert.equal(found.length, 0, `${found.length} differ, seed ${seed}\n${found.slice(0, 5).join('\n')}`);
    assert.ok(counts.same - before.same > total / 10, `nothing is shown by that: ${did.join(', ')}`);
    context.diagnostic(did.join(', '));
  }

  test('whatever a constant is compared with', async (context) => {
    function* texts(): Generator<string> {
      for (let index = 0; index < count / 2; index += rounds) {
        const column = one(columns);
        const text = one(comparisons(column, one(['i', 'b', 'd', 's', 'o', 'o', 'o', 'o', 'o'])));
        const type = random() < 0.2 ? one(types) : (typeOf.get(column) ?? 'text');
        for (let round = 0; round < rounds; round++)
          yield filled(text.replaceAll('{type}', type), random() < 0.8 ? valuesOf.get(column) : undefined);
      }
    }
    await expectSame(context, texts());
  });

  test('wherever a constant stands', async (context) => {
    function* texts(): Generator<string> {
      for (let index = 0; index < count / 4; index += rounds) {
        const text = one(handwritten);
        for (let round = 0; round < rounds; round++) yield filled(text);
      }
    }
    await expectSame(context, texts());
  });

  test('random statements', async (context) => {
    const scanner = new ShapeScanner();
    /** The same with other constants of the same kinds here and there. */
    const varied = (text: string): string => {
      const bytes = Buffer.from(text);
      if (!scanner.scan(bytes, 0, bytes.length, 0)) return text;
      let result = '';
      let from = 0;
      for (let index = 0; index < scanner.count; index++) {
        const [start, end] = [scanner.starts[index] as number, scanner.ends[index] as number];
        const own = text.slice(start, end);
        const other = own.startsWith("'") ? one(["'a'", "'b'", "'s1'", "''"]) : one(['0', '1', '2', '3']);
        result += text.slice(from, start) + (random() < 0.4 ? other : own);
        from = end;
      }
      return result + text.slice(from);
    };
    function* texts(): Generator<string> {
      for (let index = 0; index < count / 4; index += rounds) {
        const text = new StatementGenerator(randomOf(seed * 1000 + index)).query();
        for (let round = 0; round < rounds; round++) yield round === 0 ? text : varied(text);
      }
    }
    await expectSame(context, texts());
  });

  describe('when a column gets another type, its constants are read by that', () => {
    const changes: readonly (readonly [from: string, to: string, value: string, constants: readonly string[]])[] = [
      ['text', 'char(6)', "'abc'", ["'abc '", "'abc'"]],
      ['char(6)', 'text', "'abc'", ["'abc '", "'abc'"]],
      ['varchar(6)', 'char(6)', "'abc'", ["'abc '", "'abc'"]],
      ['date', 'timestamp', "'2020-01-02'", ["'2020-01-02'", "'2020-01-02 12:00'"]],
      ['text', 'text collate blind', "'abc'", ["'ABC'"]],
      ['int', 'bigint', '1', ["'1'", "'2147483648'", '1']],
      ['int', 'numeric', '1', ["'1'", "'1.0'", '1']],
      ['int', 'positive', '1', ["'1'", "'-1'", '1']],
      ['timestamptz', 'timestamp', "'2020-01-02 00:00+00'", ["'2020-01-02 00:00+05'"]],
      ['text', 'name', "'abc'", ["'abc'", `'${'long'.repeat(20)}'`]],
      ['timestamp', 'date', "'2020-01-02'", ["'2020-01-02 12:00'", "'2020-01-02'"]],
      ['timestamp', 'timestamptz', "'2020-01-02'", ["'2020-01-02 00:00+05'", "'2020-01-02'"]],
      ['interval', 'interval second(0)', "'1 s'", ["'1.2 s'", "'1 s'"]],
      ['text', 'uuid using null', "'abc'", ["'{00000000-0000-0000-0000-000000000000}'"]],
      ['text[]', 'char(3)[]', "'{abc}'", ['\'{"abc "}\'', "'{abc}'"]],
    ];
    for (const [from, to, value, given] of changes) {
      test(`${from} becomes ${to}`, async () => {
        await client.query(`drop table if exists changing; create table changing (id int, a ${from}, "b B" text);
          insert into changing values (1, ${value}, 'x'); grant select on changing to reader`);
        const texts = [...given, ...given].flatMap((text) => [
          `select id from changing where a = ${text}`,
          `select id from changing c where (a >= ${text} or not c.a < ${text}) and "b B" = 'x'`,
          `select id from changing where a between ${text} and ${text}`,
          `select id from (select id, a as x from changing) s where x = ${text}`,
          `select o.id from owned o where o.tenant_id = 'a' and exists (select from changing where a = ${text} and o.id > 0)`,
        ]);
        for (const change of ['', `alter table changing alter a type ${to}`]) {
          await client.query(change);
          for (const sql of texts) assert.equal(await laboratory.difference(sql), undefined);
          const { same, refused } = laboratory.counts;
          for (const sql of texts) assert.equal(await laboratory.difference(sql), undefined);
          const ran = laboratory.counts.same + laboratory.counts.refused - same - refused;
          assert.ok(ran > 0, `none of them as a template ${change}`);
        }
      });
    }
  });

  test('when the labels of an enum change places, constants are read by the new ones', async () => {
    await client.query(`create type place as enum ('here', 'there', 'between');
      create table changing_labels (id int, a place, b place); grant select on changing_labels to reader;
      insert into changing_labels values (1, 'here', 'here'), (2, 'there', 'there')`);
    const texts = ['here', 'there', 'gone'].flatMap((label) => [
      `select id from changing_labels where a = '${label}'`,
      `select id from changing_labels where id > 0 and a in ('${label}', 'between')`,
      `select id from changing_labels where id > 0 and '${label}' = a`,
    ]);
    for (let round = 0; round < rounds; round++)
      for (const sql of texts) assert.equal(await laboratory.difference(sql), undefined);
    await client.query(
      `alter type place rename value 'here' to 'gone'; alter type place rename value 'there' to 'here'`,
    );
    for (const sql of texts) assert.equal(await laboratory.difference(sql), undefined);
  });

  test('when a type is made anew under its name, what names it or has it is read by the new one', async () => {
    await client.query(`create type level as enum ('low', 'high'); create collation sorted (provider = libc, locale = 'C');
      create type couple as (x int, y int); create type size as enum ('a', 'b');
      create table changing_types (id int, a level, t text, p couple); grant select on changing_types to reader;
      insert into changing_types values (1, 'low', 'a', row(1, 2)), (2, 'high', 'B', row(3, 4))`);
    const texts = [
      `select id from changing_types where a = 'low' and id = 1`,
      `select id from changing_types where a >= 'high'`,
      'select max(lower(t)::size) from changing_types where id > 0',
      'select max(t collate sorted) from changing_types where id > 0',
      'select (p).x from changing_types where id = 1',
    ];
    for (let round = 0; round < rounds; round++)
      for (const sql of texts) assert.equal(await laboratory.difference(sql), undefined);
    // Nothing of that concerns the table, whose plans Postgres keeps.
    await client.query(`alter collation sorted rename to sorted_before;
      create collation sorted (provider = icu, locale = 'und');
      alter type size rename to size_before; create type size as enum ('b', 'a')`);
    for (const rename of ['x to z', 'y to x', 'z to y'])
      await client.query(`alter type couple rename attribute ${rename}`);
    for (const sql of texts) assert.equal(await laboratory.difference(sql), undefined);
    await client.query(`alter type level rename to level_before; create type level as enum ('high', 'low');
      alter table changing_types alter a type level using a::text::level; drop type level_before`);
    for (const sql of texts) assert.equal(await laboratory.difference(sql), undefined);
  });

  test('when columns change names, constants are compared with those that have them now', async () => {
    await client.query(`create table changing_names (id int, a text, b char(6)); grant select on changing_names to reader;
      insert into changing_names values (1, 'x', 'x ')`);
    const texts = ["'x'", "'x '"].flatMap((text) => [
      `select id from changing_names where a = ${text}`,
      `select id from changing_names where b = ${text}`,
    ]);
    for (const change of [
      '',
      'alter table changing_names rename a to c; alter table changing_names rename b to a',
      'alter table changing_names rename c to b',
    ]) {
      await client.query(change);
      for (let round = 0; round < rounds; round++)
        for (const sql of texts) assert.equal(await laboratory.difference(sql), undefined);
    }
  });
});
