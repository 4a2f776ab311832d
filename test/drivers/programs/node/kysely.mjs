// Kysely on node-postgres: what it builds, its transactions, its streams and its savepoints. The rest is node-postgres' (see there).
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Kysely, PostgresDialect, sql } from 'kysely';
import pg from 'pg';
import Cursor from 'pg-cursor';
import { ca, firstId, report, rowBytes, wide } from './report.mjs';

const open = (ssl = { ca: readFileSync(ca) }) =>
  new Kysely({ dialect: new PostgresDialect({ pool: new pg.Pool({ max: 4, ssl }), cursor: Cursor }) });
async function connected(use, ssl) {
  const db = open(ssl);
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
      connected((db) => sql`select 1`.execute(db), { ca: [] }),
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
