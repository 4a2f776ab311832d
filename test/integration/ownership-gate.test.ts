/**
 * What the router's gate refuses by the statement, Postgres refuses by privilege, since a function or DO gets around any
 * gate. Each one as it stands, and as dynamic SQL inside DO, which no parser sees.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Client, DatabaseError } from 'pg';
import { anyVerifier, KeyspaceDatabase, PostgresFixture } from './postgres-fixture.ts';

const denied = '42501';
/** PreventInTransactionBlock() of Postgres looks before privileges do: in DO these can't run, whoever asks. */
const notInFunctions = '25001';
/** They act where they may, and those below own what they may act on: nobody's objects are there but the operator's. */
const notFound = '42704';

interface Refused {
  readonly sql: string;
  readonly direct?: string;
  readonly inside?: string;
}

const ofTheServer: readonly Refused[] = [
  { sql: `alter system set work_mem = '1GB'`, inside: notInFunctions },
  { sql: 'checkpoint' },
  { sql: `load 'auto_explain'` },
  { sql: `copy notes to program 'cat'` },
  { sql: `copy (select 1) to program 'cat'` },
  { sql: `copy notes from program 'true'` },
  { sql: `copy (select 1) to '/tmp/written-by-a-tenant'` },
  { sql: `copy notes from '/etc/passwd'` },
  { sql: `create tablespace t location '/tmp'`, inside: notInFunctions },
  { sql: 'alter tablespace pg_default set (random_page_cost = 9)' },
  { sql: 'select pg_reload_conf()' },
  { sql: 'select pg_rotate_logfile()' },
  { sql: 'select pg_promote()' },
  { sql: 'select pg_switch_wal()' },
  { sql: `select pg_create_restore_point('here')` },
  { sql: `select pg_backup_start('here')` },
  { sql: 'select pg_wal_replay_pause()' },
  { sql: `select pg_create_physical_replication_slot('s')` },
  { sql: `select pg_create_logical_replication_slot('s', 'pgoutput')` },
  { sql: `select pg_drop_replication_slot('s')` },
  { sql: `select pg_replication_origin_create('o')` },
  { sql: `select pg_logical_emit_message(false, 'p', 'text')` },
  { sql: `select pg_read_file('postgresql.conf')` },
  { sql: `select pg_read_binary_file('global/pg_control')` },
  { sql: `select pg_ls_dir('.')` },
  { sql: `select pg_stat_file('postgresql.conf')` },
  { sql: `select lo_import('/etc/passwd')` },
  { sql: `select lo_export(1, '/tmp/written-by-a-tenant')` },
  { sql: `select pg_notify('channel', 'text')` },
  { sql: 'select pg_terminate_backend(0)' },
  { sql: 'select pg_cancel_backend(0)' },
];

const ofTheKeyspace: readonly Refused[] = [
  { sql: `create subscription s connection 'host=nowhere' publication p with (connect = false)` },
  { sql: 'create publication p' },
  { sql: 'create publication p for all tables' },
  { sql: 'alter publication kept set (publish = insert)' },
  { sql: 'drop publication kept' },
  { sql: 'create foreign data wrapper mine' },
  { sql: 'alter foreign data wrapper elsewhere options (add a $$b$$)' },
  { sql: 'drop foreign data wrapper elsewhere' },
  { sql: 'create server mine foreign data wrapper elsewhere' },
  { sql: 'alter server there options (add a $$b$$)' },
  { sql: 'drop server there' },
  { sql: 'create user mapping for current_user server there' },
  { sql: 'create foreign table mine (a int) server there' },
  { sql: 'import foreign schema s from server there into public' },
  { sql: 'create event trigger e on ddl_command_start execute function event_of_all()' },
  { sql: 'drop event trigger kept' },
  { sql: 'create extension dblink' },
  // A trusted one, which the owner of a database may make.
  { sql: 'create extension pg_trgm' },
  { sql: 'drop extension plpgsql' },
  { sql: 'create trusted language mine handler plpgsql_call_handler' },
  { sql: 'create database mine', inside: notInFunctions },
  { sql: 'alter database shop set work_mem = 1024' },
  { sql: 'alter database shop connection limit 1' },
  { sql: 'drop database shop', inside: notInFunctions },
  { sql: 'create role mine' },
  { sql: 'create role mine superuser' },
  { sql: 'alter role acme_app superuser' },
  { sql: 'alter role acme_app bypassrls' },
  { sql: 'alter role globex_app set work_mem = 1024' },
  { sql: 'drop role globex_app' },
  { sql: 'grant meridian_owner to acme_app' },
  { sql: 'grant pg_read_server_files to acme_app' },
  { sql: 'reassign owned by meridian_owner to acme_app' },
  { sql: 'drop owned by meridian_owner' },
  { sql: 'alter table notes no force row level security' },
  { sql: 'set role meridian_owner' },
  { sql: 'set session_replication_role = replica' },
  { sql: `select set_config('role', 'meridian_owner', false)` },
  { sql: `select set_config('session_replication_role', 'replica', false)` },
  { sql: `select set_config('log_statement', 'none', false)` },
  { sql: `update pg_settings set setting = 'off' where name = 'row_security'` },
  { sql: 'drop table notes' },
  { sql: 'create table mine (tenant_id text)' },
  { sql: 'create schema mine' },
  { sql: `create function mine() returns int language sql as 'select 1'` },
  { sql: 'alter function event_of_all() set search_path = mine' },
  { sql: 'drop subscription nobodys', direct: notFound, inside: notFound },
];

let postgres: PostgresFixture;
let shop: KeyspaceDatabase;
let tenant: Client;

before(async () => {
  postgres = await PostgresFixture.start();
  shop = await KeyspaceDatabase.make(postgres, {
    database: 'shop',
    migrations: [
      {
        name: '1',
        sql: `create table notes (tenant_id text not null, id bigint, primary key (tenant_id, id));
          create function event_of_all() returns event_trigger language plpgsql as 'begin end';`,
      },
    ],
    roles: { acme_app: { tenants: ['acme'] }, globex_app: { tenants: ['globex'] } },
    tenants: ['acme', 'globex'],
  });
  await shop.operator.query(`
    create foreign data wrapper elsewhere; create server there foreign data wrapper elsewhere; create publication kept;
    create event trigger kept on ddl_command_end execute function event_of_all()`);
  tenant = await shop.connect('acme_app');
});

after(() => postgres.stop());

async function codeOf(sql: string): Promise<string> {
  try {
    await tenant.query(sql);
    return '00000';
  } catch (error) {
    return (error as DatabaseError).code ?? String(error);
  }
}

for (const { sql, direct = denied, inside = direct } of [...ofTheServer, ...ofTheKeyspace])
  test(`Postgres itself refuses: ${sql}`, async () => {
    assert.equal(await codeOf(sql), direct, 'as it stands');
    // In two parts, so that not even a search of the text finds it.
    const middle = Math.floor(sql.length / 2);
    const parts = [sql.slice(0, middle), sql.slice(middle)].map((part) => `$part$${part}$part$`).join(' || ');
    assert.equal(await codeOf(`do $do$ begin execute ${parts}; end $do$`), inside, 'inside DO');
  });

test('what a role may change is its own sessions’ only, and is put back: its password and settings decide nothing', async () => {
  await tenant.query(`alter role acme_app password 'mine'`);
  const { rows } = await shop.operator.query('select * from meridian.router_logins()');
  assert.deepEqual(
    rows.map((row) => [row.role, row.verifiers]),
    [
      ['acme_app', [anyVerifier]],
      ['globex_app', [anyVerifier]],
    ],
  );
});
