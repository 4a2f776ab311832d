/** What no application may do through the router, however it is written. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { guardSetting } from '#router/plan/index.ts';
import { plan } from './fixture.ts';

const refused: readonly (readonly [sql: string, sqlstate: string])[] = [
  ["alter system set work_mem = '1GB'", '42501'],
  ["copy orders to program 'cat'", '42501'],
  ["copy orders from '/etc/passwd'", '42501'],
  ["copy (select 1) to '/tmp/x'", '42501'],
  ['lock table orders', '42501'],
  ['lock orders in share mode nowait', '42501'],
  ['set role meridian_owner', '42501'],
  ['set local role meridian_owner', '42501'],
  ["set session authorization 'meridian_agent'", '42501'],
  ['set session_replication_role = replica', '42501'],
  ['set row_security = off', '42501'],
  ['set synchronous_commit = off', '42501'],
  ['set local synchronous_commit to local', '42501'],
  ['set synchronous_commit = remote_write', '42501'],
  ["select set_config('synchronous_commit', 'off', true)", '42501'],
  ['do $$ begin set local synchronous_commit = off; end $$', '42501'],
  ["do $$ begin perform set_config('Synchronous_Commit', 'off', true); end $$", '42501'],
  ["create function f() returns int language sql set synchronous_commit = 'off' as 'select 1'", '42501'],
  ['alter function f() set synchronous_commit to local', '42501'],
  ['alter role current_user set synchronous_commit = off', '42501'],
  ['alter database shop set synchronous_commit = off', '42501'],
  ["set meridian.pinned = 'acme'", '42501'],
  ['SET "Meridian.Pinned" = \'acme\'', '42501'],
  ['set standard_conforming_strings = off', '42501'],
  ["set client_encoding = 'latin1'", '0A000'],
  ["set names 'sql_ascii'", '0A000'],
  ["select set_config('role', 'meridian_owner', false)", '42501'],
  ["select set_config('RoLe', 'x', true) from orders", '42501'],
  ["select pg_catalog.set_config('row_security', 'off', true)", '42501'],
  ["select set_config('meridian.tenant', 'brook', true)", '42501'],
  ["select set_config(lower('ROLE'), 'x', true)", '42501'],
  ["select set_config(name, 'x', false) from pg_settings", '42501'],
  ["select set_config(name, 'x', false) from pg_settings where name = 'role'", '42501'],
  ["select set_config(name, 'x', false) from pg_settings where name = 'work_mem' or true", '42501'],
  ["select set_config(name, 'x', false) from pg_settings where name <> 'work_mem'", '42501'],
  ["select (select set_config(name, 'x', false) from notes) from pg_settings where name = 'work_mem'", '42501'],
  ['select set_config($1, $2, false)', '42501'],
  ["select 1 where (select set_config('role', 'x', false)) is null", '42501'],
  ["prepare p as select set_config('role', 'x', false)", '42501'],
  ["explain analyze select set_config('role', 'x', false)", '42501'],
  ["insert into orders (tenant_id) values (set_config('role', 'x', false))", '42501'],
  ["prepare transaction 'x'", '0A000'],
  ["commit prepared 'x'", '0A000'],
  ["rollback prepared 'x'", '0A000'],
  ['select pg_terminate_backend(1)', '42501'],
  ['select pg_cancel_backend(pid) from pg_stat_activity', '42501'],
  ["select pg_read_file('/etc/passwd')", '42501'],
  ["create subscription s connection 'host=x' publication p", '42501'],
  ['drop subscription s', '42501'],
  ['create server s foreign data wrapper f', '42501'],
  ['create user mapping for x server s', '42501'],
  ['create extension dblink', '42501'],
  ['drop extension x', '42501'],
  ['create role x superuser', '42501'],
  ['alter role x bypassrls', '42501'],
  ['alter role x set row_security = off', '42501'],
  ['grant meridian_owner to x', '42501'],
  ['create database x', '42501'],
  ["load 'x'", '42501'],
  ["update pg_settings set setting = 'off' where name = 'synchronous_commit'", '42501'],
  ["update PG_CATALOG.pg_settings set setting = 'x' where name = 'search_path'", '42501'],
  ["with w as (update pg_settings set setting = 'off' returning 1) select * from w", '42501'],
  ["explain analyze update pg_settings set setting = 'off'", '42501'],
  ['delete from pg_class', '42501'],
  ['insert into information_schema.tables select 1', '42501'],
  ['merge into pg_settings using orders on true when matched then update set setting = 1', '42501'],
  [
    "merge into orders t using currencies c on c.code = 'EUR' when not matched then insert (tenant_id) values ('acme')",
    '0A000',
  ],
  ['merge into orders using currencies c on true when not matched then do nothing', '0A000'],
  [
    'merge into orders t using currencies c on (select t.id from lines t limit 1) = 1 when matched then delete',
    '0A000',
  ],
  ['with w as (merge into orders using currencies c on true when matched then delete returning 1) select 1', '0A000'],
  [
    "merge into orders as currencies using (public.currencies cross join (select 1) x) on public.currencies.code = 'EUR' when matched then delete",
    '0A000',
  ],
  [
    'merge into orders using (other.orders cross join currencies) on other.orders.id = 1 when matched then delete',
    '0A000',
  ],
  ['merge into orders as o using currencies c on orders.id = 1 when matched then delete', '0A000'],
  ['explain analyze merge into orders using currencies c on true when matched then delete', '0A000'],
];

for (const [sql, sqlstate] of refused) {
  test(`refused: ${sql}`, () => {
    const { refuse } = plan(sql);
    assert.equal(refuse?.sqlstate, sqlstate);
    assert.ok(refuse?.hint, 'a refusal says what to do instead');
  });
}

const allowed = [
  'merge into orders t using currencies c on t.id = 1 when matched then delete',
  'merge into orders using currencies c on c.code is not null and (orders.id = 1 or true) when matched then delete',
  'merge into public.orders using currencies c on public.orders.id = 1 when matched then delete',
  "merge into currencies using orders o on true when not matched then insert (code) values ('x')",
  'select 1',
  "set meridian.tenant = 'acme'",
  "set local meridian.consistency = 'eventual'",
  'set meridian.tenant to default',
  'reset meridian.tenant',
  'set role none',
  'reset role',
  'set session authorization default',
  'set synchronous_commit = on',
  'set synchronous_commit = remote_apply',
  'set synchronous_commit to default',
  'set row_security = on',
  "set client_encoding = 'UTF-8'",
  "set names 'utf8'",
  'set standard_conforming_strings = on',
  "set search_path = public, 'x'",
  "select set_config('search_path', 'public', false)",
  "SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'",
  "update orders set total = 1 from pg_settings where tenant_id = 'acme' and name = 'x'",
  "select set_config('statement_timeout', $1, true)",
  'reset all',
  'discard all',
  'copy orders to stdout',
  'copy orders from stdin',
  'grant select on orders to x',
  'create table x (a int)',
  'drop table x',
  "select 'alter system', pg_backend_pid()",
  // Names that every object has.
  'select constructor(1), "toString"()',
  'lock table orders in access share mode',
  'lock orders in row exclusive mode',
];

for (const sql of allowed) test(`not refused: ${sql}`, () => assert.equal(plan(sql).refuse, undefined));

test('start-up options are held against the same list', () => {
  assert.equal(guardSetting('Row_Security', 'off')?.sqlstate, '42501');
  assert.equal(guardSetting('meridian.anything', '1')?.sqlstate, '42501');
  assert.equal(guardSetting('work_mem', '64MB'), undefined);
  assert.equal(guardSetting('synchronous_commit', undefined)?.sqlstate, '42501');
});
