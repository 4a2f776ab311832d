/** What a statement is: its kind, whether it reads or writes, what it touches, and the details that the session needs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { StatementPlan } from '#router/plan/index.ts';
import { plan, plans } from './fixture.ts';
import { functionsWith } from './golden/functions.ts';

const classes: readonly (readonly [
  sql: string,
  kind: StatementPlan['kind'],
  access: 'read' | 'write',
  touches: StatementPlan['touches'],
])[] = [
  ['select 1', 'select', 'read', 'nothing'],
  ["select version(), current_setting('server_version'), now()", 'select', 'read', 'nothing'],
  [
    'select c.relname from pg_catalog.pg_class c where pg_catalog.pg_table_is_visible(c.oid)',
    'select',
    'read',
    'nothing',
  ],
  ['select * from pg_class', 'select', 'read', 'nothing'],
  ['select * from information_schema.columns', 'select', 'read', 'nothing'],
  ['values (1, 2)', 'select', 'read', 'nothing'],
  ['select * from currencies', 'select', 'read', 'reference'],
  ['select * from currencies join orders using (code)', 'select', 'read', 'tenant'],
  ['select * from schema_history', 'select', 'read', 'unknown'],
  ['select * from codes', 'select', 'read', 'reference'],
  ['select * from booked', 'select', 'write', 'tenant'],
  ['select * from mystery', 'select', 'read', 'unknown'],
  ['select my_function()', 'select', 'write', 'unknown'],
  ["select order_total(1) from orders where tenant_id = 'acme'", 'select', 'read', 'tenant'],
  ['select round_up(1)', 'select', 'read', 'nothing'],
  ['select round_up(1, 2)', 'select', 'write', 'unknown'],
  ['select round_up(variadic array[1])', 'select', 'write', 'unknown'],
  ['select lower(1, 2, 3)', 'select', 'write', 'unknown'],
  ['select o.total_of from orders o', 'select', 'read', 'tenant'],
  ['select 1 <<< 2', 'select', 'write', 'unknown'],
  ['select 1 operator(public.<<<) 2', 'select', 'write', 'unknown'],
  ['select 1 ~~~ 2', 'select', 'read', 'nothing'],
  ['select 1::money_of_ours', 'select', 'read', 'unknown'],
  ['select percentile_cont(0.5) within group (order by 1)', 'select', 'read', 'nothing'],
  ["select format('%s', 1, 2), concat(1, 2, 3), count(*), rank() over ()", 'select', 'read', 'nothing'],
  ["update currencies set name = 'x'", 'update', 'write', 'reference'],
  ['select * from orders for update', 'select', 'write', 'tenant'],
  ['select * from (select * from orders for share) o', 'select', 'write', 'tenant'],
  ['with x as (delete from orders returning *) select * from x', 'select', 'write', 'tenant'],
  ["select nextval('s')", 'select', 'write', 'nothing'],
  ['select book_order(1) from orders', 'select', 'write', 'tenant'],
  ['select 1 where exists (select random())', 'select', 'write', 'nothing'],
  ['select 1 into x', 'select', 'write', 'unknown'],
  ['insert into orders (tenant_id) values (1)', 'insert', 'write', 'tenant'],
  ['delete from orders', 'delete', 'write', 'tenant'],
  ['merge into orders using currencies c on true when matched then do nothing', 'merge', 'write', 'tenant'],
  ['copy orders to stdout', 'copy', 'read', 'tenant'],
  ['copy orders from stdin', 'copy', 'write', 'tenant'],
  ['copy (select 1) to stdout', 'copy', 'read', 'nothing'],
  ['explain select * from orders', 'explain', 'read', 'tenant'],
  ['explain analyze delete from orders', 'explain', 'write', 'tenant'],
  ['begin', 'transaction', 'read', 'nothing'],
  ['set x.y = 1', 'set', 'read', 'nothing'],
  ['show all', 'show', 'read', 'nothing'],
  ['listen x', 'listen', 'write', 'nothing'],
  ['unlisten *', 'unlisten', 'write', 'nothing'],
  ['notify x', 'notify', 'write', 'nothing'],
  ['declare c cursor for select * from orders', 'declare', 'read', 'tenant'],
  ['declare c cursor for select * from orders for update', 'declare', 'write', 'tenant'],
  ['fetch 10 from c', 'fetch', 'read', 'nothing'],
  ['close c', 'close', 'read', 'nothing'],
  ['prepare p as select * from orders', 'prepare', 'read', 'tenant'],
  ['execute p(1)', 'execute', 'write', 'unknown'],
  ['deallocate p', 'deallocate', 'read', 'nothing'],
  ['discard all', 'discard', 'read', 'nothing'],
  ['call p()', 'call', 'write', 'unknown'],
  ['do $$ begin end $$', 'do', 'write', 'unknown'],
  ['create table t (a int)', 'utility', 'write', 'unknown'],
  ['create temp table t (a int)', 'utility', 'write', 'nothing'],
  ['truncate orders', 'utility', 'write', 'tenant'],
  ['vacuum', 'utility', 'write', 'nothing'],
];

for (const [sql, kind, access, touches] of classes) {
  test(`${sql}: ${kind}, ${access}, touches ${touches}`, () => {
    const made = plan(sql);
    assert.deepEqual([made.kind, made.access, made.touches], [kind, access, touches]);
  });
}

const details: readonly (readonly [sql: string, expected: Partial<StatementPlan>])[] = [
  ['begin', { transaction: { verb: 'begin' } }],
  ['start transaction read only', { transaction: { verb: 'begin', readOnly: true } }],
  ['begin isolation level serializable read write', { transaction: { verb: 'begin', readOnly: false } }],
  ['commit and chain', { transaction: { verb: 'commit', chain: true } }],
  ['abort', { transaction: { verb: 'rollback' } }],
  ['savepoint "A b"', { transaction: { verb: 'savepoint', name: 'A b' } }],
  ['rollback to a', { transaction: { verb: 'rollback-to', name: 'a' } }],
  ['release a', { transaction: { verb: 'release', name: 'a' } }],
  ["set meridian.tenant = 'acme'", { set: { name: 'meridian.tenant', value: 'acme', local: false } }],
  [
    'set local Meridian.Consistency to eventual',
    { set: { name: 'meridian.consistency', value: 'eventual', local: true } },
  ],
  ['set session statement_timeout = 5000', { set: { name: 'statement_timeout', value: '5000', local: false } }],
  ["set time zone 'utc'", { set: { name: 'timezone', value: 'utc', local: false } }],
  ['set search_path to a, b', { set: { name: 'search_path', local: false } }],
  ['set x.y to default', { set: { name: 'x.y', local: false, toDefault: true } }],
  ['show meridian.served_by', { show: { name: 'meridian.served_by' } }],
  ['show transaction isolation level', { show: { name: 'transaction_isolation' } }],
  ['reset all', { reset: { name: 'all' } }],
  ['reset meridian.tenant', { reset: { name: 'meridian.tenant' } }],
  ['discard temp', { discard: { what: 'temp' } }],
  ['prepare p(int) as select $1', { prepared: { name: 'p' } }],
  ['execute "P"', { prepared: { name: 'P' } }],
  ['deallocate all', { prepared: {} }],
  [
    'copy orders from stdin',
    { copy: { direction: 'in', from: { table: 'orders', options: {}, hasCondition: false } } },
  ],
  ['copy orders to stdout', { copy: { direction: 'out' } }],
  ['declare c cursor with hold for select 1', { hold: true }],
  ['create temporary table t (a int)', { temporary: true }],
  ['select 1 as a into temp t', { temporary: true }],
  ['create temp table t as select 1', { temporary: true }],
  ['select upper(lower(Count(*)::text)), pg_catalog.now()', { calls: ['upper', 'lower', 'count', 'now'] }],
  [
    'select * from orders o join sales.orders using (tenant_id) join orders p on true',
    { tables: ['public.orders', 'sales.orders'] },
  ],
];

for (const [sql, expected] of details) {
  test(`details of: ${sql}`, () => {
    const made = plan(sql) as unknown as Record<string, unknown>;
    for (const [key, value] of Object.entries(expected)) assert.deepEqual(made[key], value, key);
  });
}

test('a text of several statements gives a plan for each, with offsets in bytes', () => {
  const sql = "select 'é'; /* tenant='acme' */ select '✓';;\n select 3 -- end";
  const [first, second, third, ...more] = plans(sql);
  assert.ok(first && second && third);
  assert.deepEqual(more, []);
  assert.deepEqual([first.text, first.start, first.end], ["select 'é'", 0, 11]);
  assert.equal(second.text, "/* tenant='acme' */ select '✓'");
  assert.equal(third.text, 'select 3 -- end');
  for (const { text, start, end } of [first, second, third])
    assert.equal(Buffer.from(sql).subarray(start, end).toString(), text);
});

test('a text without a statement gives no plan', () => {
  for (const sql of ['', ' ', ';', ' ; ;', '-- nothing', '/* nothing */']) assert.deepEqual(plans(sql), [], sql);
});

test('each statement of any text is planned as if it stood alone', () => {
  const statement = fc.constantFrom(
    "select 'é' from orders where tenant_id = 'acme'",
    "insert into stock (tenant_id, sku) values ('ü', '😀')",
    "select $$ ; $$, 'it''s; /* no */', \"x;\" from currencies",
    '/* ö */ begin -- ;\n',
    'select 1 -- ✓ ;\n',
  );
  fc.assert(
    fc.property(fc.array(statement, { minLength: 1, maxLength: 6 }), (statements) => {
      const together = plans(statements.join(' ; '));
      assert.equal(together.length, statements.length);
      for (const [index, made] of together.entries()) {
        const alone = plan(statements[index] ?? '');
        assert.equal(made.text.trim(), statements[index]?.trim());
        assert.deepEqual([made.kind, made.tenant, made.touches], [alone.kind, alone.tenant, alone.touches]);
      }
    }),
    { numRuns: 50 },
  );
});

test('nothing may share where functions of an application’s own run unseen', () => {
  const functions = functionsWith(['unseen', '', '', '0,0,i,f,t,f,f']);
  const known = plan("select * from orders where tenant_id = 'acme'", { functions });
  assert.deepEqual([known.mayShare, known.access, known.tenant.from], [false, 'read', 'constant']);
});

test('only a plain read that calls nothing volatile may share a connection with others', () => {
  for (const sql of ["select * from orders where tenant_id = 'acme'", 'select 1', 'values (1)', 'select now()'])
    assert.equal(plan(sql).mayShare, true, sql);
  for (const sql of [
    'select * from orders for update',
    'select pg_sleep(1)',
    'select book_order(1) from orders',
    'select my_function()',
    'select 1 into x',
    'with x as (delete from orders returning *) select * from x',
    "update orders set total = 1 where tenant_id = 'acme'",
    'explain select * from orders',
    'begin',
    'set x.y = 1',
    'show all',
    'declare c cursor for select * from orders',
    "select pg_advisory_xact_lock(1) from orders where tenant_id = 'acme'",
    // Declared stable, and not Postgres' own: whatever it is, it might set something (the pin) for the next client.
    "select order_total(1), * from orders where tenant_id = 'acme'",
    "select o.total_of from orders o where tenant_id = 'acme'",
    // Immutable, in C, and still not Postgres' own.
    "select round_up(1) from orders where tenant_id = 'acme'",
    "select my_aggregate(1) from orders where tenant_id = 'acme'",
    "select 1 from orders where tenant_id = 'acme' and total ~~~ 1",
    "select '1'::money_of_ours from orders where tenant_id = 'acme'",
  ])
    assert.equal(plan(sql).mayShare, false, sql);
});
