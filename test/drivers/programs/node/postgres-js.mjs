// postgres.js, which pipelines by itself.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import postgres from 'postgres';
import { ca, firstId, report, rowBytes, wide } from './report.mjs';

const open = (more = {}) =>
  postgres({
    max: 1,
    ssl: { ca: readFileSync(ca), servername: 'localhost' },
    onnotice: () => undefined,
    connect_timeout: 20,
    ...more,
  });
async function connected(use, more) {
  const sql = open(more);
  try {
    return await use(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

await report({
  tls: async () => {
    await connected(async (sql) => assert.deepEqual([...(await sql`select 1 as one`)], [{ one: 1 }]));
    await assert.rejects(
      connected((sql) => sql`select 1`, { ssl: { rejectUnauthorized: true } }),
      /certificate/,
    );
    await assert.rejects(
      connected((sql) => sql`select 1`, { ssl: false }),
      { code: '28000' },
    );
  },
  values: () =>
    connected(async (sql) => {
      const [row] = await sql`select ${'héllo'}::text as a, ${7}::bigint as b, ${new Date(0)}::timestamptz as c,
        ${Buffer.from([0, 255])}::bytea as d, ${sql.json({ a: [1] })} as e, ${null}::text as f, ${[1, 2]}::int[] as g, ${true}::bool as h`;
      assert.deepEqual(
        { ...row },
        { a: 'héllo', b: '7', c: new Date(0), d: Buffer.from([0, 255]), e: { a: [1] }, f: null, g: [1, 2], h: true },
      );
    }),
  binary: 'it asks for text only',
  prepared: () =>
    connected(
      (sql) =>
        Promise.all(
          Array.from({ length: 400 }, async (_, n) => assert.equal((await sql`select ${n}::int + 1 as n`)[0].n, n + 1)),
        ),
      { max: 4 },
    ),
  tenants: () =>
    connected(
      async (sql) => {
        for (const tenant of ['acme', 'bolt']) {
          const rows = [20_000, 20_001].map((id) => ({ tenant_id: tenant, id: firstId + id }));
          await sql`insert into accounts ${sql(rows)}`;
          for (let round = 0; round < 3; round++) {
            const [{ count }] = await sql`select count(*) from accounts
              where tenant_id = ${tenant} and id between ${firstId + 20_000} and ${firstId + 20_009}`;
            assert.equal(count, '2');
          }
        }
        await assert.rejects(sql`select count(*) from accounts`, { code: 'MD003' });
        await sql`set meridian.tenant = 'bolt'`;
        assert.equal((await sql`select min(tenant_id) from accounts`)[0].min, 'bolt');
      },
      { user: 'any_app' },
    ),
  transaction: () =>
    connected(async (sql) => {
      const add = (on, id) => on`insert into accounts (tenant_id, id) values ('acme', ${id})`;
      await sql.begin(async (on) => {
        await add(on, firstId);
        await assert.rejects(
          on.savepoint((inner) => add(inner, firstId)),
          { code: '23505' },
        );
      });
      await assert.rejects(
        sql.begin(async (on) => {
          await add(on, firstId + 1);
          throw new Error('undone');
        }),
        /undone/,
      );
      const rows = await sql`select id from accounts where id between ${firstId} and ${firstId + 9}`;
      assert.deepEqual([...rows], [{ id: String(firstId) }]);
    }),
  errors: () =>
    connected(async (sql) => {
      await assert.rejects(sql`select fail('boom')`, {
        code: 'P0042',
        message: 'boom',
        detail: 'the detail',
        hint: 'the hint',
        table_name: 'accounts',
      });
      await assert.rejects(sql`select * frm accounts`, { code: '42601', position: '10' });
      await assert.rejects(sql`select * from accounts where tenant_id = ${'bolt'}`, { code: 'MD004' });
      assert.equal((await sql`select 7 as n`)[0].n, 7);
    }),
  notices: async () => {
    const heard = [];
    await connected((sql) => sql.unsafe("do $$ begin raise warning 'hear this' using hint = 'soon'; end $$"), {
      onnotice: ({ severity, message, hint }) => heard.push([severity, message, hint]),
    });
    assert.deepEqual(heard, [['WARNING', 'hear this', 'soon']]);
  },
  listen: () =>
    connected(async (sql) => {
      let hear;
      const heard = new Promise((resolve) => (hear = resolve));
      const { unlisten } = await sql.listen('Orders', hear);
      // Its own notify() calls pg_notify(), which is nobody's here.
      await sql`notify "Orders", 'seven'`;
      assert.equal(await heard, 'seven');
      await unlisten();
    }),
  cursor: () =>
    connected(async (sql) => {
      let count = 0;
      for await (const rows of sql`select n from generate_series(1, 1000) n`.cursor(300)) count += rows.length;
      assert.equal(count, 1000);
      for await (const _rows of sql`select n from generate_series(1, 1000) n`.cursor(10)) break;
      assert.equal((await sql`select 2 as n`)[0].n, 2);
    }),
  pipeline: () =>
    connected(async (sql) => {
      const answers = await Promise.allSettled(
        Array.from({ length: 500 }, (_, n) => (n % 7 === 3 ? sql`select 1 / ${0}::int` : sql`select ${n}::int as n`)),
      );
      for (const [n, answer] of answers.entries())
        if (n % 7 === 3) assert.equal(answer.reason.code, '22012');
        else assert.equal(answer.value[0].n, n);
    }),
  'copy out': () =>
    connected(async (sql) => {
      let bytes = 0;
      for await (const chunk of await sql`copy (select repeat('x', 1000) from generate_series(1, 5000)) to stdout`.readable())
        bytes += chunk.length;
      assert.equal(bytes, 5000 * 1001);
      assert.equal((await sql`select 3 as n`)[0].n, 3);
    }),
  'copy in': () =>
    connected(async (sql) => {
      const rows = Array.from({ length: 3000 }, (_, n) => `acme\t${firstId + 1000 + n}\n`);
      await pipeline(Readable.from(rows), await sql`copy accounts (tenant_id, id) from stdin`.writable());
      const [{ count }] =
        await sql`select count(*) from accounts where id >= ${firstId + 1000} and id < ${firstId + 10_000}`;
      assert.equal(count, '3000');
    }),
  cancel: () =>
    connected(async (sql) => {
      const query = sql`select pg_sleep(60)`;
      setTimeout(() => query.cancel(), 300);
      await assert.rejects(query, { code: '57014' });
      assert.equal((await sql`select 4 as n`)[0].n, 4);
    }),
  'big rows': () =>
    connected(async (sql) => {
      assert.equal((await sql`select repeat('x', ${rowBytes}) as x`)[0].x.length, rowBytes);
      assert.equal((await sql`select length(${'y'.repeat(rowBytes)}::text) as n`)[0].n, rowBytes);
    }),
  'many columns': () =>
    connected(async (sql) => {
      const [row] = await sql.unsafe(wide);
      assert.equal(Object.keys(row).length, 1000);
      assert.equal(row.c999, 999);
    }),
});
