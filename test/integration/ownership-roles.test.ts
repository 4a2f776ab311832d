/**
 * Application roles on a shard, and what routers may ask about them (design, section 2 "Keyspace"; docs of `operator/postgres`).
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Client } from 'pg';
import { applyRole, dropRole, RoleNameError, readRoles } from '#operator/postgres/roles.ts';
import { anyVerifier, KeyspaceDatabase, PostgresFixture } from './postgres-fixture.ts';

let postgres: PostgresFixture;
let shop: KeyspaceDatabase;
let router: Client;

const former = anyVerifier.replace('c3RvcmVk', 'Zm9ybWVy');

before(async () => {
  postgres = await PostgresFixture.start();
  shop = await KeyspaceDatabase.make(postgres, {
    database: 'shop',
    migrations: [
      {
        name: '1',
        sql: `
          create table notes (tenant_id text not null, id bigint, primary key (tenant_id, id));
          create table country (code text primary key);
          create table parts (tenant_id text not null, id bigint, primary key (tenant_id, id)) partition by hash (tenant_id);
          create table parts_0 partition of parts for values with (modulus 1, remainder 0);
          create view notes_view as select * from notes;
          create view notes_of_view as select count(*) as n from notes_view;
          create view country_view as select * from country;
          create view now_view as select now() as now;`,
      },
    ],
    referenceTables: ['country'],
    tenants: ['acme'],
  });
  router = await shop.connect('meridian_router');
});

after(() => postgres.stop());

const logins = async (): Promise<unknown[]> => (await router.query('select * from meridian.router_logins()')).rows;

test('a rotation accepts two verifiers until its end, then one', async () => {
  const role = { name: 'shop_acme', tenants: ['acme'], verifier: anyVerifier };
  const row = { role: 'shop_acme', any_tenant: false, tenants: ['acme'], login_until: null };
  await applyRole(shop.operator, role);
  assert.deepEqual(await logins(), [{ ...row, verifiers: [anyVerifier], valid_until: null }]);
  await applyRole(shop.operator, { ...role, previousVerifier: former });
  assert.deepEqual(await logins(), [{ ...row, verifiers: [anyVerifier, former], valid_until: null }]);
  const previousUntil = new Date(Date.now() + 60_000);
  await applyRole(shop.operator, { ...role, previousVerifier: former, previousUntil });
  assert.deepEqual(await logins(), [{ ...row, verifiers: [anyVerifier, former], valid_until: previousUntil }]);
  await applyRole(shop.operator, { ...role, previousVerifier: former, previousUntil: new Date(Date.now() - 1) });
  assert.deepEqual(await logins(), [{ ...row, verifiers: [anyVerifier], valid_until: null }]);
});

test('a role is valid until its time, and without end again where it has none', async () => {
  const role = { name: 'shop_guest', tenants: ['acme'], verifier: anyVerifier };
  const until = async (): Promise<unknown> =>
    ((await logins()) as { role: string; login_until: unknown }[]).find((one) => one.role === role.name)?.login_until;
  const validUntil = new Date(Date.now() + 60_000);
  await applyRole(shop.operator, { ...role, validUntil });
  assert.deepEqual(await until(), validUntil);
  await applyRole(shop.operator, role);
  assert.equal(await until(), null);
  await dropRole(shop.operator, role.name);
});

test('applying a role that is as wanted changes nothing, and sessions go on', async () => {
  const role = { name: 'same_app', tenants: ['b', 'a', 'b'], verifier: anyVerifier };
  await applyRole(shop.operator, role);
  const session = await shop.connect('same_app', '-c meridian.tenant=a');
  const versions = `select r.xmin::text as role, l.xmin::text as login, v.xmin::text as verifier
    from pg_authid r join meridian.login l on l.name = r.rolname join meridian.login_verifier v on v.name = r.rolname
    where r.rolname = 'same_app'`;
  const { rows } = await shop.operator.query(versions);
  await applyRole(shop.operator, { ...role, tenants: ['a', 'b'] });
  assert.deepEqual((await shop.operator.query(versions)).rows, rows);
  await session.query('select * from notes');
});

test('a role that is dropped can do nothing any more, and dropping twice is fine', async () => {
  await applyRole(shop.operator, { name: 'gone_app', anyTenant: true, verifier: anyVerifier });
  assert.ok((await readRoles(shop.operator)).includes('gone_app'));
  const busy = await shop.connect('gone_app', '-c meridian.tenant=acme');
  await busy.query('begin');
  await busy.query('select * from notes');
  await dropRole(shop.operator, 'gone_app');
  await assert.rejects(busy.query('select * from notes'));
  await assert.rejects(shop.connect('gone_app'), { code: '28000' });
  await dropRole(shop.operator, 'gone_app');
  assert.ok(!(await readRoles(shop.operator)).includes('gone_app'));
});

test('names that are not for applications are refused, and so are roles that somebody else made', async () => {
  for (const name of ['postgres; drop table x', 'meridian_operator', 'pg_monitor', 'Shop', '', 'x'.repeat(42)]) {
    await assert.rejects(
      applyRole(shop.operator, { name, anyTenant: true, verifier: anyVerifier }),
      RoleNameError,
      name,
    );
    await assert.rejects(dropRole(shop.operator, name), RoleNameError, name);
  }
  await shop.operator.query('create role boss superuser');
  await assert.rejects(
    applyRole(shop.operator, { name: 'boss', anyTenant: true, verifier: anyVerifier }),
    RoleNameError,
  );
  await assert.rejects(dropRole(shop.operator, 'boss'), RoleNameError);
});

test('an empty tenant key is nobody', async () => {
  await assert.rejects(applyRole(shop.operator, { name: 'void_app', tenants: [''], verifier: anyVerifier }), TypeError);
});

test('routers learn which relations belong to tenants', async () => {
  const { rows } = await router.query('select table_name, kind, tenant_column from meridian.router_catalogue()');
  const tenantTable = (name: string) => ({ table_name: name, kind: 'tenant', tenant_column: 'tenant_id' });
  assert.deepEqual(rows, [
    { table_name: 'country', kind: 'reference', tenant_column: null },
    { table_name: 'country_view', kind: 'reference', tenant_column: null },
    tenantTable('notes'),
    { table_name: 'notes_of_view', kind: 'tenant', tenant_column: null },
    tenantTable('notes_view'),
    { table_name: 'now_view', kind: 'local', tenant_column: null },
    tenantTable('parts'),
    tenantTable('parts_0'),
  ]);
});

test('a router may ask its two questions and nothing else, and nobody else may ask them', async () => {
  await applyRole(shop.operator, { name: 'asking_app', anyTenant: true, verifier: anyVerifier });
  const application = await shop.connect('asking_app');
  for (const question of ['router_logins', 'router_catalogue']) {
    await assert.rejects(application.query(`select * from meridian.${question}()`), { code: '42501' });
  }
  for (const table of ['meridian.login_verifier', 'meridian.ownership', 'public.notes', 'pg_authid']) {
    await assert.rejects(router.query(`select * from ${table}`), { code: /42501|42P01/ });
  }
  await assert.rejects(router.query('set role meridian_owner'), { code: '42501' });
});
