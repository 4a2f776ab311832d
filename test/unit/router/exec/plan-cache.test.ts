/**
 * Plans found by shape: whatever was planned before, a statement's plan from the cache says of it what a plan of its own would.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { PlanCache, type PlannedStatement } from '#router/exec/plan-cache.ts';
import { type Catalogue, createPlanner, PlanError, type StatementPlan } from '#router/plan/index.ts';
import { randomOf, StatementGenerator } from '#test/integration/plan-soundness/statements.ts';
import { catalogue as commerce } from '../plan/fixture.ts';

const planner = await createPlanner();
const catalogue: Catalogue = {
  ...commerce,
  tables: new Map([
    ['public.orders', 'tenant'],
    ['public.lines', 'tenant'],
    ['public.stock', 'tenant'],
    ['public.rates', 'reference'],
  ]),
};

/**
 * What of a plan counts, with the statement's own constants in their places. Reasons apart; and which tenants are named by a statement
 * that is restricted to none of them: the session's tenant decides there, and row-level security holds it.
 */
function meaning(plan: StatementPlan, keys: readonly string[]): object {
  const { tenant: source, text: _, start: __, end: ___, ...rest } = plan;
  if (source.from === 'none') return { ...rest, tenant: 'none' };
  const all = [
    ...new Set([...(source.from === 'unrestricted' ? (source.names ?? []) : source.values), ...keys]),
  ].toSorted();
  const isOpen = source.from === 'unrestricted' || (source.mustAgree === true && all.length > 1);
  const indexes = source.from === 'parameters' && !isOpen ? source.indexes : [];
  return { ...rest, tenant: { isOpen, indexes, all: isOpen ? [] : all } };
}

const planned = (cache: PlanCache, sql: string, other = catalogue): PlannedStatement => {
  const [only, ...more] = cache.plan(sql, other);
  assert.ok(only !== undefined && more.length === 0, sql);
  return only;
};

function sameAsItsOwn(cache: PlanCache, sql: string): void {
  let own: StatementPlan | undefined;
  try {
    [own] = planner.plan(sql, catalogue);
  } catch (error) {
    if (error instanceof PlanError) return;
    throw error;
  }
  if (own === undefined) return;
  const { plan, keys } = planned(cache, sql);
  const [cached, alone] = [meaning(plan, keys), meaning(own, [])];
  // Restricted by a constant and by a parameter at once: either is enough, and only the statement's own constants say that they are the same.
  if (plan.tenant.from === 'parameters' && own.tenant.from === 'constant')
    assert.deepEqual({ ...cached, tenant: '' }, { ...alone, tenant: '' }, sql);
  else assert.deepEqual(cached, alone, sql);
}

/** Other constants in the same places. */
const varied = (sql: string, pick: (choices: readonly string[]) => string): string =>
  sql
    .replaceAll(/'(?:[^'{]|'')*'/g, () => pick(["'a'", "'b'", "'c'", "'it''s'"]))
    .replaceAll(/(?<=[ (=,])[0-9]+\b/g, () => pick(['1', '2', '3', '77']));

describe('a plan from the cache', () => {
  test('says of a statement what its own would, whatever statements of its shape came before', () => {
    const cache = new PlanCache(planner);
    fc.assert(
      fc.property(fc.nat(), fc.boolean(), fc.array(fc.nat(), { minLength: 1, maxLength: 4 }), (seed, writes, more) => {
        const generator = new StatementGenerator(randomOf(seed));
        const sql = writes ? generator.write() : generator.query();
        sameAsItsOwn(cache, sql);
        for (const other of more) {
          const random = randomOf(other);
          sameAsItsOwn(
            cache,
            varied(sql, (choices) => choices[Math.floor(random() * choices.length)] as string),
          );
        }
      }),
      { numRuns: 500 },
    );
  });

  test('is one for all statements that differ in constants and comments, each with its own tenant', () => {
    const cache = new PlanCache(planner);
    const first = planned(cache, "select * from orders where tenant_id = 'acme' and id = 5");
    for (const [sql, ...keys] of [
      ["select * from orders where tenant_id = 'brook' and id = 6", 'brook'],
      ["select * from orders -- c\n where tenant_id = 'it''s'   and id = 7;", "it's"],
      ["/* traceparent='00-1' */ select * from orders where tenant_id = 'é ✓' and id = 8", 'é ✓'],
      ["select * from orders where tenant_id = '' and id = 8", ''],
    ] as const) {
      const again = planned(cache, sql);
      assert.equal(again.plan, first.plan, sql);
      assert.deepEqual(again.keys, keys, sql);
    }
    assert.notEqual(planned(cache, "select * from orders where tenant_id = 'acme' and id = '5'").plan, first.plan);
  });

  test('reads numbers as keys, negative ones too', () => {
    const cache = new PlanCache(planner);
    for (const [text, key] of [
      ['42', '42'],
      ['-42', '-42'],
      ['- 7', '-7'],
      ['99999999999', '99999999999'],
      ['-99999999999', '-99999999999'],
    ])
      for (const _ of [1, 2])
        assert.deepEqual(planned(cache, `select * from orders where tenant_id = ${text}`).keys, [key], text);
    sameAsItsOwn(cache, 'select * from orders where tenant_id = 5.0');
    sameAsItsOwn(cache, 'select * from orders where tenant_id = - -5');
  });

  test('takes nothing from a constant that means something else where it stands', () => {
    const cache = new PlanCache(planner);
    const differ: readonly (readonly [string, string])[] = [
      [
        "select id, n from orders where tenant_id = 'a' order by 1",
        "select id, n from orders where tenant_id = 'a' order by 2",
      ],
      ['select id, count(*) from orders group by 1', 'select id, count(*) from orders group by 2'],
      ['select id, count(*) from orders group by (1, 2)', 'select id, count(*) from orders group by (1, 3)'],
      ['select id from orders group by rollup (1)', 'select id from orders group by rollup (2)'],
      ['select distinct on (1) id, n from orders', 'select distinct on (2) id, n from orders'],
      ["select 'x'::varchar(5) from orders", "select 'x'::varchar(6) from orders"],
      ["select interval '1 day' from orders", "select interval '2 days' from orders"],
      ["select '1 day'::interval from orders", "select '2 days'::interval from orders"],
      ["select interval '1' second(3) from orders", "select interval '1' second(4) from orders"],
      ["set application_name = 'a'", "set application_name = 'b'"],
      ["select set_config('app.a', 'x', false)", "select set_config('app.a', 'y', false)"],
      ["select * from orders where tenant_id = any ('{a}')", "select * from orders where tenant_id = any ('{b}')"],
    ];
    for (const [one, other] of differ) {
      assert.notEqual(planned(cache, one).plan, planned(cache, other).plan, one);
      assert.equal(planned(cache, one).plan, planned(cache, one).plan, one);
    }
    const same: readonly (readonly [string, string])[] = [
      ["select id from orders where tenant_id = 'a' limit 5", "select id from orders where tenant_id = 'b' limit 6 "],
      ['select 1 as x from orders order by n + 1', 'select 2 as x from orders order by n + 2'],
      ["select date '2024-01-01' + 1 from orders", "select date '2025-01-01' + 2 from orders"],
    ];
    for (const [one, other] of same) assert.equal(planned(cache, one).plan, planned(cache, other.trim()).plan, one);
  });

  test('depends on the order of what came before in nothing', () => {
    const equal =
      "with recursive c as (select tenant_id, n from orders where tenant_id = 'a' union all select 'a', c.n from c) select * from c";
    const different = equal.replace("select 'a', c.n", "select 'b', c.n");
    for (const order of [
      [equal, different],
      [different, equal],
    ]) {
      const cache = new PlanCache(planner);
      for (const sql of order) sameAsItsOwn(cache, sql);
    }
  });

  test('is refused where a constant makes it, and only there', () => {
    const cache = new PlanCache(planner);
    assert.equal(planned(cache, "select set_config('app.a', 'x', false)").plan.refuse, undefined);
    assert.equal(planned(cache, "select set_config('role', 'x', false)").plan.refuse?.sqlstate, '42501');
    assert.equal(planned(cache, "select set_config('app.b', 'x', false)").plan.refuse, undefined);
  });

  test('is another for another catalogue or search path', () => {
    const cache = new PlanCache(planner);
    const sql = "select * from orders where tenant_id = 'acme'";
    const other: Catalogue = { ...catalogue, tables: new Map() };
    assert.equal(planned(cache, sql).plan.touches, 'tenant');
    assert.equal(planned(cache, sql, other).plan.touches, 'unknown');
    assert.equal(planned(cache, sql).plan.touches, 'tenant');
  });

  test('has the hints of its own text', () => {
    const cache = new PlanCache(planner);
    assert.equal(planned(cache, "/* tenant='a' */ select 1").hints.tenant, 'a');
    assert.equal(planned(cache, "/* tenant='b' */ select 1").hints.tenant, 'b');
    assert.equal(planned(cache, "select 1 /* tenant='b' */").hints.tenant, undefined);
    assert.equal(planned(cache, "-- x\n/* tenant='b' */ select 1").hints.tenant, undefined);
    const texts = cache.plan("/* tenant='a' */ select 1; /* tenant='b' */ select 2", catalogue);
    assert.deepEqual(
      texts.map(({ hints }) => hints.tenant),
      ['a', 'b'],
    );
  });

  test('is found in the bytes of a message as in the text', () => {
    const cache = new PlanCache(planner);
    const sql = "select * from orders where tenant_id = 'é'";
    const frame = Buffer.from(`xxxxx${sql}\0yy`);
    const [fromBytes] = cache.planBytes(frame, 5, frame.length - 3, catalogue);
    assert.equal(fromBytes?.plan, planned(cache, sql).plan);
    assert.deepEqual(fromBytes?.keys, ['é']);
    const long = `select * from orders where tenant_id = 'a' or note = '${'x'.repeat(100_000)}'`;
    assert.equal(cache.planBytes(Buffer.from(long), 0, long.length, catalogue)[0]?.plan.touches, 'tenant');
    assert.equal(planned(cache, long).plan.touches, 'tenant');
  });

  test('takes no more memory than it may', () => {
    const cache = new PlanCache(planner, 256 * 1024);
    for (let index = 0; index < 2_000; index++)
      cache.plan(`select a${index} from orders where tenant_id = 'a'`, catalogue);
    for (let index = 0; index < 2_000; index++) cache.plan(`select 1 order by ${index}`, catalogue);
    for (let index = 0; index < 2_000; index++) cache.plan(`select 1; select a${index}`, catalogue);
    assert.ok(cache.bytes <= 256 * 1024 && cache.bytes > 100 * 1024, `${cache.bytes} bytes`);
  });
});

test('what set_config() names decides, wherever it stands: another name is another plan', () => {
  const cache = new PlanCache(planner);
  for (const sql of [
    (name: string) => `select set_config('${name}', 'x', false)`,
    (name: string) => `select set_config(name, 'x', false) from pg_settings where name = '${name}'`,
  ]) {
    for (const name of ['work_mem', 'app.a', 'work_mem']) {
      const { plan } = planned(cache, sql(name));
      assert.equal(plan.refuse, undefined, sql(name));
      assert.deepEqual(plan.configures, [name]);
    }
    assert.equal(planned(cache, sql('row_security')).plan.refuse?.sqlstate, '42501');
    assert.equal(planned(cache, sql('role')).plan.refuse?.sqlstate, '42501');
  }
});

test('a long text is planned once, whatever could be made of its shape', () => {
  const asked: string[] = [];
  const cache = new PlanCache({
    ...planner,
    plan: (...of) => (asked.push('text'), planner.plan(...of)),
    planShape: (...of) => (asked.push('shape'), planner.planShape(...of)),
  });
  const reading = (length: number): Buffer =>
    Buffer.from(`select * from orders where tenant_id = 'acme' and note = '${'x'.repeat(length)}'`);
  for (const bytes of [reading(1_000), reading(70_000)]) {
    const [only] = cache.planBytes(bytes, 0, bytes.length, catalogue);
    assert.deepEqual(only === undefined ? [] : meaning(only.plan, only.keys), meaning(...ownOf(bytes.toString())));
  }
  assert.deepEqual(asked, ['shape', 'text']);
});

function ownOf(sql: string): [StatementPlan, readonly string[]] {
  const [own] = planner.plan(sql, catalogue);
  assert.ok(own !== undefined);
  return [own, []];
}
