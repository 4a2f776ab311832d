// Kysely on node-postgres: what it builds, its transactions, its streams and its savepoints. The rest is node-postgres' (see there).
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Kysely, PostgresDialect, sql } from 'kysely';
import pg from 'pg';
import Cursor from 'pg-cursor';
import { ca, firstId, report, rowBytes, wide } from './report.mjs';

const open = (more) =>
  new Kysely({
    dialect: new PostgresDialect({
      pool: new pg.Pool({ max: 4, ssl: { ca: readFileSync(ca) }, ...more }),
      cursor: Cursor,
    }),
  });
async function connected(use, more = {}) {
  const db = open(more);
  try {
    return await use(db);
  } finally {
    await db.destroy();
  }
}
const nodePostgres = 'as node-postgres does';

await report({
  tls: async () => {
    await connected(async (db) => assert.deepEqual((await sql`select 1 as one`.execute(db)).rows, [{ one: 1 }]));
    await assert.rejects(
      connected((db) => sql`select 1`.execute(db), { ssl: { ca: [] } }),
      /certificate/,
    );
  },
  values: () =>
    connected(async (db) => {
      const inserted = await db
        .insertInto('notes')
        .values({ tenant_id: 'acme', body: 'héllo' })
        .returningAll()
        .executeTakeFirstOrThrow();
      assert.equal(inserted.body, 'héllo');
      const found = await db
        .selectFrom('notes')
        .select(['id', 'body'])
        .where('tenant_id', '=', 'acme')
        .where('id', '=', inserted.id)
        .execute();
      assert.deepEqual(found, [{ id: inserted.id, body: 'héllo' }]);
      const deleted = await db
        .deleteFrom('notes')
        .where('tenant_id', '=', 'acme')
        .where('id', '=', inserted.id)
        .executeTakeFirst();
      assert.equal(deleted.numDeletedRows, 1n);
    }),
  binary: nodePostgres,
  prepared: () =>
    connected((db) =>
      Promise.all(
        Array.from({ length: 200 }, async (_, n) =>
          assert.deepEqual((await sql`select ${n}::int + 1 as n`.execute(db)).rows, [{ n: n + 1 }]),
        ),
      ),
    ),
  tenants: () =>
    connected(
      async (db) => {
        for (const tenant_id of ['acme', 'bolt']) {
          await db
            .insertInto('accounts')
            .values([20_000, 20_001].map((id) => ({ tenant_id, id: firstId + id })))
            .execute();
          const { count } = await db
            .selectFrom('accounts')
            .innerJoin('accounts as other', (join) =>
              join.onRef('other.tenant_id', '=', 'accounts.tenant_id').onRef('other.id', '=', 'accounts.id'),
            )
            .select(({ fn }) => fn.countAll().as('count'))
            .where('accounts.tenant_id', '=', tenant_id)
            .where('accounts.id', 'in', [firstId + 20_000, firstId + 20_001])
            .executeTakeFirstOrThrow();
          assert.equal(count, '2');
        }
        await assert.rejects(db.selectFrom('accounts').selectAll().execute(), { code: 'MD003' });
        const tenants = await db.transaction().execute(async (on) => {
          await sql`set local meridian.tenant = 'bolt'`.execute(on);
          return on.selectFrom('accounts').select('tenant_id').distinct().execute();
        });
        assert.deepEqual(tenants, [{ tenant_id: 'bolt' }]);
      },
      { user: 'any_app' },
    ),
  transaction: () =>
    connected(async (db) => {
      const add = (on, id) => on.insertInto('accounts').values({ tenant_id: 'acme', id }).execute();
      const open = await db.startTransaction().execute();
      await add(open, firstId);
      const inner = await open.savepoint('a').execute();
      await assert.rejects(add(inner, firstId), { code: '23505' });
      await (await inner.rollbackToSavepoint('a').execute()).commit().execute();
      await assert.rejects(
        db
          .transaction()
          .setIsolationLevel('serializable')
          .execute(async (on) => {
            await add(on, firstId + 1);
            throw new Error('undone');
          }),
        /undone/,
      );
      const rows = await db
        .selectFrom('accounts')
        .select('id')
        .where('id', '>=', firstId)
        .where('id', '<', firstId + 10)
        .execute();
      assert.deepEqual(rows, [{ id: String(firstId) }]);
    }),
  errors: () =>
    connected(async (db) => {
      const boom = { code: 'P0042', message: 'boom', detail: 'the detail', hint: 'the hint', table: 'accounts' };
      await assert.rejects(sql`select fail('boom')`.execute(db), boom);
      const foreign = db.selectFrom('accounts').selectAll().where('tenant_id', '=', 'bolt');
      await assert.rejects(foreign.execute(), { code: 'MD004' });
      assert.deepEqual((await sql`select 7 as n`.execute(db)).rows, [{ n: 7 }]);
    }),
  notices: nodePostgres,
  listen: nodePostgres,
  cursor: () =>
    connected(async (db) => {
      const rows = Array.from({ length: 500 }, (_, n) => ({ tenant_id: 'acme', id: firstId + 100 + n }));
      await db.insertInto('accounts').values(rows).execute();
      let count = 0;
      const all = db
        .selectFrom('accounts')
        .select('id')
        .where('tenant_id', '=', 'acme')
        .where('id', '>=', firstId + 100)
        .where('id', '<', firstId + 600);
      for await (const _row of all.stream(64)) count += 1;
      assert.equal(count, 500);
      for await (const _row of all.stream(10)) break;
      assert.deepEqual((await sql`select 2 as n`.execute(db)).rows, [{ n: 2 }]);
    }),
  pipeline: nodePostgres,
  'copy out': nodePostgres,
  'copy in': nodePostgres,
  cancel: nodePostgres,
  'big rows': () =>
    connected(async (db) => {
      const { rows } =
        await sql`select repeat('x', ${rowBytes}::int) as x, length(${'y'.repeat(rowBytes)}::text) as n`.execute(db);
      assert.deepEqual([rows[0].x.length, rows[0].n], [rowBytes, rowBytes]);
    }),
  'many columns': () =>
    connected(async (db) => assert.equal(Object.keys((await sql.raw(wide).execute(db)).rows[0]).length, 1000)),
});
