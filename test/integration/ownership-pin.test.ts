/**
 * Tenants can't reach each other inside Postgres, whatever a session says (design, section 5, "Pin").
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Client, DatabaseError } from 'pg';
import { applyRole } from '#operator/postgres/roles.ts';
import { attemptRows, attemptSchema, attempts } from './ownership-attempts.ts';
import { anyVerifier, KeyspaceDatabase, PostgresFixture } from './postgres-fixture.ts';

let postgres: PostgresFixture;
let shop: KeyspaceDatabase;

before(async () => {
  postgres = await PostgresFixture.start();
  shop = await KeyspaceDatabase.make(postgres, {
    database: 'shop',
    migrations: [{ name: '001', sql: attemptSchema }],
    roles: {
      acme_app: { tenants: ['acme'] },
      globex_app: { tenants: ['globex'] },
      pair_app: { tenants: ['acme', 'bolt'] },
      any_app: { anyTenant: true },
      nobody_app: { tenants: [] },
    },
    tenants: ['acme', 'globex', 'bolt'],
  });
  for (const [tenant, text] of [
    ['acme', 'ours'],
    ['bolt', 'theirs'],
    ['globex', 'theirs'],
  ] as const) {
    await shop.operator.query(`set role meridian_owner; ${attemptRows(tenant, text)}; reset role`);
  }
  await shop.operator.query('analyze');
});

after(() => postgres.stop());

/** Everything that a session is told: rows, notices, errors. */
async function listen(client: Client, sql: readonly string[]): Promise<{ heard: string; code: string }> {
  const heard: string[] = [];
  client.on('notice', (notice) =>
    heard.push(JSON.stringify([notice.message, notice.detail, notice.hint, notice.where])),
  );
  let code = '00000';
  for (const text of sql) {
    code = '00000';
    try {
      heard.push(JSON.stringify((await client.query(text)).rows));
    } catch (error) {
      const { message, detail, hint, where, code: sqlstate } = error as DatabaseError;
      heard.push(JSON.stringify({ message, detail, hint, where }));
      code = sqlstate ?? 'none';
    }
  }
  return { heard: heard.join('\n'), code };
}

const rowsOfOthers = async (): Promise<unknown> =>
  (
    await shop.operator.query(`
      select 'notes', tenant_id, id, body from notes where tenant_id <> 'acme'
      union all select 'lines', tenant_id, note_id, body from lines where tenant_id <> 'acme'
      union all select 'events', tenant_id, id, body from events where tenant_id <> 'acme'
      union all select 'log', tenant_id, id, body from log where tenant_id <> 'acme'
      order by 1, 2, 3, 4`)
  ).rows;

test('a session sees and changes nothing of another tenant by', async (t) => {
  const before = await rowsOfOthers();
  for (const { name, sql, ends } of attempts) {
    await t.test(name, async () => {
      const client = await shop.connect('acme_app');
      // Every attempt is undone, so that each finds the same rows.
      const { heard, code } = await listen(client, sql[0] === 'begin' ? sql : ['begin', ...sql]);
      await client.query('rollback');
      assert.equal(code, ends, heard);
      assert.doesNotMatch(heard, /theirs/);
      assert.deepEqual(await rowsOfOthers(), before);
      await client.end();
    });
  }
});

test('what a role sees is the rows of its tenant, all of them', async () => {
  const client = await shop.connect('acme_app');
  const { rows } = await client.query('select tenant_id, id from notes order by id');
  assert.deepEqual(rows, [
    { tenant_id: 'acme', id: '1' },
    { tenant_id: 'acme', id: '2' },
  ]);
});

test('COPY out shows the own rows only, COPY in is refused by Postgres', async () => {
  const psql = (sql: string) =>
    postgres.container.exec(['psql', '-h', '/tmp', '-U', 'acme_app', '-d', 'shop', '-Atc', sql]);
  const out = await psql('copy notes to stdout');
  assert.match(out.output, /ours 1/);
  assert.doesNotMatch(out.output, /theirs/);
  const query = await psql('copy (table notes_view) to stdout');
  assert.doesNotMatch(query.output, /theirs/);
  const into = await psql('copy notes from stdin');
  assert.match(into.output, /COPY FROM not supported with row-level security/);
});

test('settings in the start-up packet do not change the pin', async () => {
  const pretending = await shop.connect('acme_app', '-c meridian.tenant=globex -c search_path=meridian');
  assert.doesNotMatch((await listen(pretending, ['select * from public.notes'])).heard, /theirs/);
  const unprotected = await shop.connect('acme_app', '-c row_security=off');
  assert.equal((await listen(unprotected, ['select * from notes'])).code, '42501');
});

test('objects that shadow those of Meridian and Postgres change nothing, even if a role could make them', async () => {
  // Nobody may: a superuser makes them here, as if a migration had granted too much.
  await shop.operator.query(`
    grant temporary on database shop to acme_app;
    create schema hostile;
    grant usage on schema hostile to acme_app;
    create table hostile.login (name name, fixed_tenant text, fixed_serial int, any_tenant bool, tenants text[], allowed text[]);
    insert into hostile.login values ('acme_app', 'globex', 2, true, '{}', null);
    grant select on hostile.login to public;
    create function hostile.liar(name, name) returns boolean language sql as 'select true';
    create operator hostile.= (function = hostile.liar, leftarg = name, rightarg = name);
    create function hostile.liar(int, int) returns boolean language sql as 'select true';
    create operator hostile.= (function = hostile.liar, leftarg = int, rightarg = int);
    create function hostile.liar(text, text) returns boolean language sql as 'select true';
    create operator hostile.= (function = hostile.liar, leftarg = text, rightarg = text);
    create function hostile.current_setting(text) returns text language sql as 'select ''globex''';
    create function hostile.current_setting(text, boolean) returns text language sql as 'select ''globex''';
  `);
  try {
    const client = await shop.connect('acme_app');
    const { heard, code } = await listen(client, [
      'create temp table login as select * from hostile.login',
      'create temp table ownership (serial int, key text, epoch bigint, state text, attempt int, until timestamptz)',
      'set search_path = hostile, pg_temp, meridian, pg_catalog, public',
      'select tenant_id, body from public.notes',
      `insert into public.notes values ('acme', 50, 'ours 50')`,
    ]);
    assert.equal(code, '00000', heard);
    assert.doesNotMatch(heard, /theirs/);
    assert.equal((await listen(client, [`insert into public.notes values ('globex', 50, 'x')`])).code, '42501');
    await client.query(`delete from public.notes where id operator(pg_catalog.=) 50`);
    await client.end();
  } finally {
    await shop.operator.query('drop schema hostile cascade; revoke temporary on database shop from acme_app');
  }
});

test('a role of several tenants acts for the one that is set, if it may', async () => {
  const client = await shop.connect('pair_app');
  const tenants = async (): Promise<unknown> =>
    (await client.query('select distinct tenant_id from notes')).rows.map(
      (row: { tenant_id: string }) => row.tenant_id,
    );
  assert.equal((await listen(client, ['select * from notes'])).code, 'MD003');
  await client.query(`set meridian.tenant = 'acme'`);
  assert.deepEqual(await tenants(), ['acme']);
  await client.query(`set meridian.tenant = 'bolt'`);
  assert.deepEqual(await tenants(), ['bolt']);
  assert.equal((await listen(client, [`insert into notes values ('acme', 7, '')`])).code, '42501');
  await client.query(`set meridian.tenant = 'globex'`);
  assert.equal((await listen(client, ['select * from notes'])).code, '42501');
  assert.equal((await listen(client, [`insert into notes values ('globex', 7, '')`])).code, '42501');
  assert.equal((await listen(client, ['delete from notes'])).code, '42501');
});

test('a statement prepared by a role of several tenants follows the setting', async () => {
  const client = await shop.connect('any_app');
  for (const tenant of ['acme', 'globex', 'bolt', 'acme', 'globex', 'bolt', 'acme', 'globex']) {
    await client.query(`set meridian.tenant = '${tenant}'`);
    const { rows } = await client.query<{ tenant_id: string }>({ name: 'p', text: 'select tenant_id from notes' });
    assert.deepEqual([...new Set(rows.map((row) => row.tenant_id))], [tenant]);
  }
});

test('a role that may act for nobody, and a login that is no application, see an error', async () => {
  const nobody = await shop.connect('nobody_app', '-c meridian.tenant=acme');
  assert.equal((await listen(nobody, ['select * from notes'])).code, '42501');
  await shop.operator.query(
    `create role visitor login; grant select on notes to visitor; grant usage on schema public to visitor; grant connect on database shop to visitor`,
  );
  const visitor = await shop.connect('visitor', '-c meridian.tenant=acme');
  assert.equal((await listen(visitor, ['select * from notes'])).code, '42501');
});

test('a session that is open when its role gets another tenant can do nothing any more, not even in an old snapshot', async () => {
  await applyRole(shop.operator, { name: 'turn_app', verifier: anyVerifier, tenants: ['acme'] });
  const inTransaction = await shop.connect('turn_app');
  const text = 'select tenant_id from notes';
  for (let i = 0; i < 7; i++) await inTransaction.query({ name: 'p', text });
  await inTransaction.query('begin isolation level repeatable read');
  await inTransaction.query({ name: 'p', text });
  const idle = await shop.connect('turn_app');
  await applyRole(shop.operator, { name: 'turn_app', verifier: anyVerifier, tenants: ['globex'] });
  await assert.rejects(inTransaction.query({ name: 'p', text }));
  await assert.rejects(idle.query(text));
  const anew = await shop.connect('turn_app');
  const { rows } = await anew.query<{ tenant_id: string }>(text);
  assert.deepEqual([...new Set(rows.map((row) => row.tenant_id))], ['globex']);
});

test('applying a role again puts back what it changed of itself', async () => {
  const role = { name: 'own_app', verifier: anyVerifier, tenants: ['acme'] };
  await applyRole(shop.operator, role);
  const client = await shop.connect('own_app');
  await client.query(`alter role own_app set synchronous_commit = off`);
  await client.query(`alter role own_app in database shop set work_mem = '1GB'`);
  await shop.operator.query('alter role own_app createdb; grant pg_read_all_data to own_app');
  await applyRole(shop.operator, role);
  const { rows } = await shop.operator.query(`
    select rolcreatedb as createdb, pg_has_role(oid, 'pg_read_all_data', 'member') as reads_all,
      (select json_agg(setconfig) from pg_db_role_setting where setrole = r.oid) as settings
    from pg_roles r where rolname = 'own_app'`);
  assert.deepEqual(rows, [
    { createdb: false, reads_all: false, settings: [['idle_in_transaction_session_timeout=10min']] },
  ]);
  // The session goes on: its role is still the same.
  assert.equal((await listen(client, ['select * from notes'])).code, '00000');
});

for (const [type, mine, other] of [
  ['uuid', '6F9619FF-8B86-D011-B42D-00C04FC964FF', '6f9619ff-8b86-d011-b42d-00c04fc964fe'],
  ['bigint', '0900', '901'],
  ['integer', '7', '8'],
] as const) {
  test(`tenant keys of type ${type} work in every form of the value`, async () => {
    const database = await KeyspaceDatabase.make(postgres, {
      database: `keys_${type}`,
      tenantKey: { column: 'Account', type },
      migrations: [
        { name: '1', sql: `create table t ("Account" ${type} not null, id bigint, primary key ("Account", id))` },
      ],
      roles: { [`one_${type}`]: { tenants: [mine] }, [`some_${type}`]: { tenants: [mine, other] } },
      tenants: [mine, other],
    });
    const fixed = await database.connect(`one_${type}`);
    await fixed.query('insert into t values ($1, 1)', [mine]);
    const several = await database.connect(`some_${type}`, `-c meridian.tenant=${mine}`);
    await several.query('insert into t values ($1, 2)', [mine]);
    assert.equal((await listen(several, [`insert into t values ('${other}', 3)`])).code, '42501');
    assert.equal((await fixed.query('select * from t')).rowCount, 2);
    await several.query(`set meridian.tenant = '${other}'`);
    assert.equal((await several.query('select * from t')).rowCount, 0);
  });
}
