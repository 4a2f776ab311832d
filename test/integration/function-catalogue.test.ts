/** What routers read of a database's functions, on a real Postgres: volatility, what may read tables, and that a change is noticed. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Client } from 'pg';
import { agentRole } from '#core/roles.ts';
import { fingerprintSql, functionRowsOf, functionsSql } from '#router/map/function-rows.ts';
import { FunctionCatalogue } from '#router/plan/functions.ts';
import { type Catalogue, createPlanner, type Planner, type StatementPlan } from '#router/plan/index.ts';
import { PostgresFixture } from './postgres-fixture.ts';

let postgres: PostgresFixture;
let client: Client;
let planner: Planner;

before(async () => {
  planner = await createPlanner();
  postgres = await PostgresFixture.start();
  client = await postgres.connect(agentRole, 'postgres');
  await client.query(`
    create sequence s;
    create table orders (tenant_id text, n int);
    create function steady(int) returns int language sql stable as 'select $1';
    create function steady(int, int) returns int language sql as 'select nextval(''s'')::int';
    create function with_default(int, int default 1) returns int language sql immutable as 'select $1';
    create function any_number(variadic int[]) returns int language sql stable as 'select 1';
    create function total_of(orders) returns bigint language sql stable as 'select count(*) from orders';
    create function careless(state int, int) returns int language sql volatile as 'select $1 + $2';
    create aggregate careless_sum(int) (sfunc = careless, stype = int, initcond = 0);
    create aggregate careful_sum(int) (sfunc = int4pl, stype = int, initcond = 0);
    create function same(int, text) returns boolean language sql volatile as 'select true';
    create operator === (leftarg = int, rightarg = text, function = same);
    create type pair as (a int, b int);
    create function to_pair(int) returns pair language sql stable as 'select row($1, (select count(*)::int from orders))::pair';
    create cast (int as pair) with function to_pair(int);
    create procedure settle() language sql as 'select 1';
    create function lower(orders) returns text language sql stable as 'select max(tenant_id) from orders';
  `);
});
after(() => postgres?.stop());

async function catalogue(): Promise<Catalogue> {
  const { rows } = await client.query<string[]>({ text: functionsSql, rowMode: 'array' });
  return {
    version: 1,
    tenantColumn: 'tenant_id',
    searchPath: ['public'],
    tables: new Map([['public.orders', 'tenant']]),
    views: new Map(),
    functions: new FunctionCatalogue(functionRowsOf(rows)),
    volatileFunctions: new Set(),
  };
}

test('a statement is a read, and restricted by its text, as far as the functions that it calls allow', async () => {
  const known = await catalogue();
  const planOf = (expression: string): StatementPlan => {
    const [plan] = planner.plan(`select ${expression} from orders o where tenant_id = 'a'`, known);
    assert.ok(plan !== undefined);
    return plan;
  };
  // Expression, whether it is a read, whether nothing it calls may read other tables.
  const expected: readonly (readonly [string, boolean, boolean])[] = [
    ['now(), upper(tenant_id), count(*), sum(n), abs(n), coalesce(n, 1)', true, true],
    ["string_agg(tenant_id, ',' order by n), percentile_disc(0.5) within group (order by n)", true, true],
    ["extract(year from now()), position('a' in tenant_id), substring(tenant_id from 1 for 2)", true, true],
    ["json_build_object('a', n), format('%s', n, n), greatest(n, 1), generate_series(1, 2)", true, true],
    ['random()', false, true],
    ["nextval('s')", false, true],
    ['pg_advisory_xact_lock(1)', false, true],
    ['steady(n)', true, false],
    ['steady(n, n)', false, false],
    ['with_default(n), with_default(n, 2)', true, false],
    ['with_default(n, 2, 3)', false, false],
    ['any_number(1, 2, 3)', true, false],
    ['any_number(variadic array[1])', true, false],
    ['total_of(o)', true, false],
    ['o.total_of', true, false],
    ['(o).total_of', true, false],
    ['careless_sum(n)', false, false],
    ['careful_sum(n)', true, true],
    ["n === 'a'", false, false],
    ["n = any (array[1]) and n::bigint = 1 and tenant_id || 'x' = 'y'", true, true],
    ['n::pair', true, false],
    ['settle()', false, false],
    ['lower(tenant_id)', true, false],
    ['pg_catalog.lower(tenant_id)', true, true],
    ["query_to_xml('select 1', true, true, '')", false, false],
    ["table_to_xml('orders', true, true, '')", true, false],
    ['no_such_function(1)', false, false],
  ];
  for (const [expression, isRead, isRestricted] of expected) {
    const { access, tenant, mayShare } = planOf(expression);
    assert.equal(access, isRead ? 'read' : 'write', expression);
    assert.equal(tenant.from === 'constant', isRestricted, expression);
    // What else a function of somebody else's does isn't known, whatever it says.
    assert.equal(mayShare, isRead && isRestricted, expression);
  }
});

test('what runs functions of an application’s own without naming them shares with nobody', async () => {
  const mayShare = async (): Promise<boolean | undefined> =>
    planner.plan("select n from orders where tenant_id = 'a'", await catalogue())[0]?.mayShare;
  const fingerprint = async () => (await client.query<unknown[]>({ text: fingerprintSql, rowMode: 'array' })).rows[0];
  assert.equal(await mayShare(), true);
  await client.query(`
    create function sly(text) returns boolean language sql stable as 'select set_config(''a.b'', $1, false) is not null';
    create function compared(pair, pair) returns int language sql immutable as 'select 0';
    create function to_pair(text) returns pair language sql stable as 'select row(1, 1)::pair';
  `);
  assert.equal(await mayShare(), true);
  for (const [make, drop] of [
    ['create domain watched as text check (sly(value))', 'drop domain watched'],
    ['create policy watching on orders using (sly(tenant_id))', 'drop policy watching on orders'],
    ['create cast (text as pair) with function to_pair(text) as implicit', 'drop cast (text as pair)'],
    [
      'create operator class pair_order for type pair using btree as function 1 compared(pair, pair)',
      'drop operator family pair_order using btree',
    ],
  ] as const) {
    const before = await fingerprint();
    await client.query(make);
    assert.equal(await mayShare(), false, make);
    assert.notDeepEqual(await fingerprint(), before, make);
    await client.query(drop);
    assert.equal(await mayShare(), true, drop);
  }
  await client.query('drop function sly, compared(pair, pair), to_pair(text)');
});

test('what one session has for itself makes nothing of the others’ suspect', async () => {
  const { rows: before } = await client.query<string[]>({ text: functionsSql, rowMode: 'array' });
  const fingerprint = await client.query({ text: fingerprintSql, rowMode: 'array' });
  const own = await postgres.connect(agentRole, 'postgres');
  await own.query(`
    create function pg_temp.count(anyelement) returns int language plpgsql volatile as 'begin return 1; end';
    create function pg_temp.same(text, text) returns boolean language plpgsql volatile as 'begin return true; end';
    create operator pg_temp.= (leftarg = text, rightarg = text, function = pg_temp.same);
    create type pg_temp.text as (a int);
    create function pg_temp.made(int) returns pg_temp.text language plpgsql volatile as 'begin return row(1); end';
    create cast (int as pg_temp.text) with function pg_temp.made(int);
    create function pg_temp.shown(pg_temp.text) returns varchar language plpgsql volatile as 'begin return 1; end';
    create cast (pg_temp.text as varchar) with function pg_temp.shown(pg_temp.text);
  `);
  const { rows } = await client.query<string[]>({ text: functionsSql, rowMode: 'array' });
  assert.deepEqual(rows, before);
  const [plan] = planner.plan(
    "select count(n), n::text, n::varchar from orders where tenant_id = 'a' group by n",
    await catalogue(),
  );
  assert.deepEqual([plan?.access, plan?.tenant.from], ['read', 'constant']);
  await own.query('drop cast (int as pg_temp.text); drop cast (pg_temp.text as varchar)');
  assert.deepEqual((await client.query({ text: fingerprintSql, rowMode: 'array' })).rows, fingerprint.rows);
  await own.end();
});

test('any change is noticed, and nothing else', async () => {
  const fingerprint = async (): Promise<unknown> =>
    (await client.query<unknown[]>({ text: fingerprintSql, rowMode: 'array' })).rows[0]?.[0];
  const known = [await fingerprint()];
  assert.equal(await fingerprint(), known[0]);
  await client.query('analyze; create table more (a int)');
  // A table's row type is no function; nothing of the four catalogues has changed.
  assert.equal(await fingerprint(), known[0]);
  for (const change of [
    'alter function steady(int) volatile',
    'drop function steady(int)',
    'create operator ==== (leftarg = int, rightarg = text, function = same)',
    'drop cast (int as pair)',
  ]) {
    await client.query(change);
    const now = await fingerprint();
    assert.ok(!known.includes(now), change);
    known.push(now);
  }
});
