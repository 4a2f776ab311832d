/**
 * `deletionPolicy: Delete` of a Tenant: its rows go, all of them, and nobody else's; whatever breaks it off, it goes on; and a
 * tenant that came back meanwhile keeps its rows (design, section 5, "Cleaning"; trap M4).
 */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { cleanRows } from '#operator/controllers/tenant/clean-rows.ts';
import { readTenants, setTenant, type TenantAuthority } from '#operator/postgres/ownership/tenants.ts';
import { KeyspaceDatabase, PostgresFixture } from './postgres-fixture.ts';

const active: TenantAuthority = { epoch: 1, state: 'active', attempt: 0 };
const tables = ['notes', 'lines', 'events', 'marks'] as const;

let postgres: PostgresFixture;
let shop: KeyspaceDatabase;

before(async () => {
  postgres = await PostgresFixture.start();
  shop = await KeyspaceDatabase.make(postgres, {
    database: 'shop',
    migrations: [
      {
        name: '001',
        sql: `
          create table notes (tenant_id text not null, id bigint not null, primary key (tenant_id, id));
          -- Named before its parent, and without a cascade: the order of deletion must not matter.
          create table lines (
            tenant_id text not null, note_id bigint not null, n int not null, primary key (tenant_id, note_id, n),
            foreign key (tenant_id, note_id) references notes (tenant_id, id)
          );
          create table events (tenant_id text not null, id bigint not null, primary key (tenant_id, id)) partition by hash (id);
          create table events_0 partition of events for values with (modulus 2, remainder 0);
          create table events_1 partition of events for values with (modulus 2, remainder 1);
          create schema extra;
          create table extra."marks" (tenant_id text not null, id bigint not null, primary key (tenant_id, id));
          create view recent with (security_invoker) as select * from notes;`,
      },
    ],
  });
  await shop.operator.query('set search_path = public, extra');
});

beforeEach(async () => {
  for (const table of tables) await shop.operator.query(`set session_replication_role = replica; delete from ${table}`);
  await shop.operator.query('set session_replication_role = origin; delete from meridian.ownership');
  for (const key of ['acme', 'bolt']) {
    await setTenant(shop.operator, { key, ...active });
    await shop.operator.query('set role meridian_owner'); // As migrations write: rows are checked against who owns them.
    await shop.operator.query('insert into notes select $1, g from generate_series(1, 500) g', [key]);
    await shop.operator.query('insert into lines select $1, g, 1 from generate_series(1, 500) g', [key]);
    await shop.operator.query('insert into events select $1, g from generate_series(1, 500) g', [key]);
    await shop.operator.query('insert into marks select $1, g from generate_series(1, 500) g', [key]);
    await shop.operator.query('reset role');
  }
});

after(() => postgres.stop());

async function counts(key: string): Promise<number[]> {
  const found: number[] = [];
  for (const table of tables) {
    const { rows } = await shop.operator.query<{ n: number }>(
      `select count(*)::int as n from ${table} where tenant_id = $1`,
      [key],
    );
    found.push(rows[0]?.n ?? -1);
  }
  return found;
}

const owned = async (): Promise<Record<string, string>> =>
  Object.fromEntries((await readTenants(shop.operator)).map(({ key, state }) => [key, state]));

test('all rows of the tenant go, in partitions and other schemas too, and nobody else loses one', async () => {
  const result = await cleanRows(shop.operator, 'acme', active, { keyType: 'text', batchRows: 70 });
  assert.deepEqual(result, { finished: true, deletedRows: 2000 });
  assert.deepEqual(await counts('acme'), [0, 0, 0, 0]);
  assert.deepEqual(await counts('bolt'), [500, 500, 500, 500]);
  assert.deepEqual(await owned(), { bolt: 'active' });
});

test('past its budget it stops between two batches, with the tenant closed to writes, and goes on later', async () => {
  const first = await cleanRows(shop.operator, 'acme', active, { keyType: 'text', batchRows: 100, budgetMs: 0 });
  assert.deepEqual(first, { finished: false, deletedRows: 100 });
  assert.deepEqual(await owned(), { acme: 'cleaning', bolt: 'active' });
  await shop.operator.query('set role meridian_owner');
  await assert.rejects(shop.operator.query("insert into notes values ('acme', 9999)"), { code: 'MD001' });
  await shop.operator.query('reset role');
  const rest = await cleanRows(shop.operator, 'acme', { ...active, state: 'cleaning' }, { keyType: 'text' });
  assert.deepEqual(rest, { finished: true, deletedRows: 1900 });
});

test('a tenant that came back keeps its rows, whatever a late operator believes', async () => {
  await cleanRows(shop.operator, 'acme', active, { keyType: 'text', batchRows: 100, budgetMs: 0 });
  const cleaning: TenantAuthority = { ...active, state: 'cleaning' };
  await setTenant(shop.operator, { key: 'acme', epoch: 2, state: 'active', attempt: 0, from: cleaning });
  const before_ = await counts('acme');
  await assert.rejects(cleanRows(shop.operator, 'acme', cleaning, { keyType: 'text' }), /changed by somebody else/);
  await shop.operator.query('rollback');
  assert.deepEqual(await counts('acme'), before_);
  await assert.rejects(cleanRows(shop.operator, 'acme', active, { keyType: 'text' }), /changed by somebody else/);
  assert.deepEqual(await counts('acme'), before_);
});

test('rows of a tenant that has no ownership row go too, unless it gets one meanwhile', async () => {
  await shop.operator.query("delete from meridian.ownership where key = 'acme'");
  await setTenant(shop.operator, { key: 'acme', ...active });
  await assert.rejects(cleanRows(shop.operator, 'acme', undefined, { keyType: 'text' }), /changed by somebody else/);
  await shop.operator.query('rollback');
  await shop.operator.query("delete from meridian.ownership where key = 'acme'");
  const result = await cleanRows(shop.operator, 'acme', undefined, { keyType: 'text' });
  assert.deepEqual(result, { finished: true, deletedRows: 2000 });
});

test('a transaction in flight is waited for, and its rows go as well', async () => {
  const writer = await shop.connect('meridian_operator');
  await writer.query('set search_path = public; set role meridian_owner');
  await writer.query('begin');
  await writer.query("insert into notes values ('acme', 7777)");
  const cleaning = cleanRows(shop.operator, 'acme', active, { keyType: 'text' });
  await new Promise((resolve) => setTimeout(resolve, 200));
  await writer.query('commit');
  const { deletedRows } = await cleaning;
  assert.equal(deletedRows, 2001);
});
