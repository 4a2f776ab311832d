/**
 * The short part of `npm run fuzz:routing`: random statements through a router and on one plain Postgres give the same rows, or a
 * refusal. `MERIDIAN_FUZZ_SEED` says which.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createPlanner, type Planner, type StatementPlan } from '#router/plan/index.ts';
import { KeptWrites } from '#test/fuzz/routing/kept.ts';
import { Laboratory } from '#test/fuzz/routing/laboratory.ts';
import { minimumAnswered, runFuzz } from '#test/fuzz/routing/run.ts';
import type { FuzzStatement } from '#test/fuzz/routing/statements.ts';

const seed = Number(process.env['MERIDIAN_FUZZ_SEED'] ?? Date.now() % 100_000);

let laboratory: Laboratory;

before(async () => {
  laboratory = await Laboratory.start();
});
after(() => laboratory?.stop());

test(`no statement is answered wrongly (seed ${seed})`, { timeout: 600_000 }, async (context) => {
  const result = await runFuzz(laboratory, { seed, count: 3_000, untilMs: 12_000, atLeast: 200, lanes: 4 });
  for (const line of result.lines) context.diagnostic(line);
  assert.deepEqual(result.failures, []);
  const decided = result.answered + result.refused;
  assert.ok(result.answered > decided * minimumAnswered, `only ${result.answered} of ${decided} were answered`);
  assert.ok(result.answered > 50, `only ${result.answered} were compared: nothing is shown by that`);
  assert.ok(result.kept > 3, `only ${result.kept} writes were kept and compared`);
  assert.ok(result.undecided < result.ran / 50, `${result.undecided} of ${result.ran} can't be compared`);
});

/** Takes any key that a statement compares something with for its tenant. */
async function gullible(): Promise<Planner> {
  const planner = await createPlanner();
  const believed = (plan: StatementPlan): StatementPlan => {
    const { tenant } = plan;
    if (tenant.from !== 'unrestricted') return plan;
    const { names = [], literals = [] } = tenant;
    return names.length + literals.length === 1
      ? { ...plan, tenant: { from: 'constant', values: names, literals } }
      : plan;
  };
  return {
    ...planner,
    plan: (sql, catalogue) => planner.plan(sql, catalogue).map(believed),
    planShape(sql, constants, catalogue) {
      const { plans, shaped } = planner.planShape(sql, constants, catalogue);
      return {
        plans: plans.map(believed),
        ...(shaped !== undefined && { shaped: { ...shaped, plan: believed(shaped.plan) } }),
      };
    },
  };
}

test('a planner that believes too much is found out', { timeout: 600_000 }, async () => {
  const wrong = await laboratory.withPlanner(await gullible());
  const { failures } = await runFuzz(wrong, { seed: 7, count: 400, lanes: 4 });
  assert.ok(failures.length > 0);
  assert.match(failures[0] ?? '', /WRONG: other rows[^]*shortened: /);
});

test('a row that is elsewhere, missing or changed is found behind writes that are kept', async () => {
  const kept = new KeptWrites(laboratory);
  await kept.reset();
  assert.equal(await kept.compare(), undefined);
  const damages = {
    'rows of bolt at the other shard': "insert into orders (tenant_id, sku) values ('bolt', 'astray')",
    'rows of cord': "delete from lines where tenant_id = 'cord' and n = 1",
    'rows of acme': "update stock set n = 77 where tenant_id = 'acme' and sku = 's1'",
  };
  // Past the triggers that forbid just that.
  const damage = (sql: string) =>
    laboratory.atHome('acme', (operator) => operator.query(`set session_replication_role = replica; ${sql}`));
  for (const [what, sql] of Object.entries(damages)) {
    await damage(sql);
    assert.ok((await kept.compare())?.startsWith(what), sql);
    await damage("delete from orders where tenant_id = 'bolt'");
    await kept.reset();
    assert.equal(await kept.compare(), undefined);
  }
});

type Expected = 'same' | 'refused';

const cases: Readonly<Record<string, readonly (readonly [Expected, text: string, values?: readonly unknown[]])[]>> = {
  'a UNION of two tenants': [
    ['refused', "select n from orders where tenant_id = 'acme' union select n from orders where tenant_id = 'bolt'"],
    ['same', "select n from orders where tenant_id = 'acme' union select n from lines where tenant_id = 'acme'"],
  ],
  'two CTEs with different keys': [
    [
      'refused',
      "with a as (select n from orders where tenant_id = 'acme'), b as (select n from orders where tenant_id = 'bolt') select * from a, b",
    ],
  ],
  'an equality in the target list, FILTER, HAVING or an outer join’s ON': [
    ['refused', "select tenant_id = 'acme' from orders"],
    ['refused', "select count(*) filter (where tenant_id = 'acme') from orders"],
    ['refused', "select tenant_id from orders group by tenant_id having tenant_id = 'acme'"],
    ['refused', "select o.n from orders o left join stock s on o.tenant_id = 'acme' and s.tenant_id = 'acme'"],
    ['same', "select o.n, s.n from orders o left join stock s on s.tenant_id = o.tenant_id where o.tenant_id = 'acme'"],
  ],
  'something else than the key compared': [
    ['refused', "select n from orders where tenant_id || '' = 'acme'"],
    ['refused', "select n from orders where (tenant_id = 'acme') is false"],
    ['refused', "select n from orders where tenant_id = 'acme' or n = 1"],
    ['refused', "select n from orders where tenant_id in ('acme', lower('BOLT'))"],
  ],
  'an array': [
    ['refused', 'select n from orders where tenant_id = any ($1)', [['acme']]],
    ['same', "select n from orders where tenant_id = any (array['acme'])"],
  ],
  'INSERT of several rows': [
    ['refused', "insert into orders (tenant_id, n) values ('acme', 1), ('bolt', 2)"],
    ['same', "insert into orders (tenant_id, n) values ('acme', 1), ('acme', 2) returning n"],
    ['refused', 'insert into orders (tenant_id, n) select tenant_id, n from lines'],
    ['same', "insert into orders (tenant_id, n) select tenant_id, n from lines where tenant_id = 'bolt' returning n"],
  ],
  'a NULL key': [
    ['refused', 'select n from orders where tenant_id = null'],
    ['refused', 'select n from orders where tenant_id = $1', [null]],
    ['refused', 'insert into orders (tenant_id, n) values ($1, 1)', [null]],
  ],
  'UPDATE of the key': [
    ['refused', "update orders set tenant_id = 'bolt' where tenant_id = 'acme'"],
    ['same', "update orders set tenant_id = 'acme', n = 5 where tenant_id = 'acme' returning n"],
  ],
  'an undeclared table': [
    ['refused', 'select * from journal'],
    ['refused', "select * from largest where tenant_id = 'acme'"],
  ],
  'several statements in one text': [
    ['refused', "select n from orders where tenant_id = 'acme'; select n from orders where tenant_id = 'bolt'"],
    ['same', "select n from orders where tenant_id = 'acme'; select n from lines where tenant_id = 'acme'"],
  ],
  MERGE: [
    [
      'refused',
      "merge into stock t using lines l on t.tenant_id = l.tenant_id and l.tenant_id = 'acme' when not matched then insert (tenant_id, n) values ('acme', 1)",
    ],
    [
      'same',
      "merge into stock t using (values ('acme', 's1')) v(k, sku) on t.tenant_id = v.k and t.sku = v.sku when matched then delete",
    ],
    // Postgres itself would match it with other tenants' rows, whatever row-level security says.
    [
      'refused',
      "merge into stock t using (values ('acme')) v(k) on v.k = 'acme' when not matched then insert (tenant_id, sku, n) values ('acme', 's9', 1)",
    ],
  ],
  'a parameter that decides': [
    ['same', 'select tenant_id, n from orders where tenant_id = $1', ['bolt']],
    ['same', 'select tenant_id, n from orders where tenant_id = $1', ['acme']],
    ['refused', 'select o.n from orders o, stock s where o.tenant_id = $1 and s.tenant_id = $2', ['acme', 'bolt']],
    ['same', 'select o.n from orders o, stock s where o.tenant_id = $1 and s.tenant_id = $2', ['acme', 'acme']],
  ],
};

describe('what routers go wrong on', () => {
  for (const [what, statements] of Object.entries(cases))
    test(what, async () => {
      for (const [expected, text, values = []] of statements) {
        const statement: FuzzStatement = {
          text,
          values,
          session: 'open',
          tenant: 'acme',
          isWrite: /^(?:insert|update|merge)/.test(text),
          // Prepared once, run for another tenant before.
          ...(values.some((value) => typeof value === 'string') && { before: values.map(() => 'cord') }),
        };
        const verdict = await laboratory.check(statement, 0);
        assert.equal(verdict.kind, expected, `${text}: ${JSON.stringify(verdict)}`);
      }
    });
});
