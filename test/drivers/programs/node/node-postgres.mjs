// node-postgres, with pg-cursor, pg-query-stream and pg-copy-streams.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import pg from 'pg';
import copy from 'pg-copy-streams';
import Cursor from 'pg-cursor';
import QueryStream from 'pg-query-stream';
import { ca, firstId, report, rowBytes, wide } from './report.mjs';

const config = { ssl: { ca: readFileSync(ca) } };
async function connected(use, more = {}) {
  const client = new pg.Client({ ...config, ...more });
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}
const valueOf = async (client, text, values = [], more = {}) =>
  (await client.query({ text, values, rowMode: 'array', ...more })).rows[0][0];

await report({
  tls: async () => {
    await connected(async (client) => assert.equal(await valueOf(client, 'select 1'), 1));
    await assert.rejects(
      connected(() => undefined, { ssl: { ca: [] } }),
      /certificate/,
    );
    await assert.rejects(
      connected(() => undefined, { ssl: false }),
      { code: '28000' },
    );
  },
  values: () =>
    connected(async (client) => {
      const sent = ['héllo', 7n, new Date(0), Buffer.from([0, 255]), { a: [1] }, null, [1, 2], true, 1.5];
      const types = ['text', 'bigint', 'timestamptz', 'bytea', 'jsonb', 'text', 'int[]', 'bool', 'float8'];
      const { rows } = await client.query({
        text: `select ${types.map((type, index) => `$${index + 1}::${type}`).join(', ')}`,
        values: sent,
        rowMode: 'array',
      });
      assert.deepEqual(rows[0], [
        'héllo',
        '7',
        new Date(0),
        Buffer.from([0, 255]),
        { a: [1] },
        null,
        [1, 2],
        true,
        1.5,
      ]);
    }),
  binary: 'it asks for text, and where it is told to ask for binary (`binary: true`) it reads the answer as text',
  prepared: () =>
    Promise.all(
      [1, 2, 3, 4].map(() =>
        connected(async (client) => {
          for (let n = 0; n < 100; n++)
            assert.equal(await valueOf(client, 'select $1::int + 1', [n], { name: 'plus' }), n + 1);
        }),
      ),
    ),
  transaction: () =>
    connected(async (client) => {
      const add = (id) => client.query("insert into accounts (tenant_id, id) values ('acme', $1)", [id]);
      await client.query('begin');
      await add(firstId);
      await client.query('savepoint a');
      await assert.rejects(add(firstId), { code: '23505' });
      await client.query('rollback to a');
      await client.query('commit');
      await client.query('begin');
      await add(firstId + 1);
      await client.query('rollback');
      const ids = await client.query('select id from accounts where id between $1 and $2', [firstId, firstId + 9]);
      assert.deepEqual(ids.rows, [{ id: String(firstId) }]);
    }),
  cursor: () =>
    connected(async (client) => {
      const cursor = client.query(new Cursor('select n from generate_series(1, 1000) n'));
      let count = 0;
      for (let rows = await cursor.read(300); rows.length > 0; rows = await cursor.read(300)) count += rows.length;
      assert.equal(count, 1000);
      await cursor.close();
      let sum = 0;
      for await (const { n } of client.query(
        new QueryStream('select n from generate_series(1, 1000) n', [], { batchSize: 64 }),
      ))
        sum += n;
      assert.equal(sum, 500_500);
      const left = client.query(new QueryStream('select n from generate_series(1, 1000) n', [], { batchSize: 10 }));
      for await (const _row of left) break;
      assert.equal(await valueOf(client, 'select 2'), 2);
    }),
  pipeline: 'it sends one statement at a time',
  'copy out': () =>
    connected(async (client) => {
      let bytes = 0;
      for await (const chunk of client.query(
        copy.to('copy (select repeat($$x$$, 1000) from generate_series(1, 5000)) to stdout'),
      ))
        bytes += chunk.length;
      assert.equal(bytes, 5000 * 1001);
      assert.equal(await valueOf(client, 'select 3'), 3);
    }),
  'copy in': () =>
    connected(async (client) => {
      const rows = Array.from({ length: 3000 }, (_, n) => `acme\t${firstId + 1000 + n}\n`);
      await pipeline(Readable.from(rows), client.query(copy.from('copy accounts (tenant_id, id) from stdin')));
      assert.equal(
        await valueOf(client, 'select count(*) from accounts where id >= $1 and id < $2', [
          firstId + 1000,
          firstId + 10_000,
        ]),
        '3000',
      );
    }),
  cancel: () =>
    connected(async (client) => {
      const started = Date.now();
      const query = client.query('select pg_sleep(60)');
      setTimeout(() => new pg.Client(config).cancel(client, client.activeQuery ?? client._activeQuery), 300);
      await assert.rejects(query, { code: '57014' });
      assert.ok(Date.now() - started < 20_000);
      assert.equal(await valueOf(client, 'select 4'), 4);
    }),
  'big rows': () =>
    connected(async (client) => {
      assert.equal((await valueOf(client, `select repeat('x', ${rowBytes})`)).length, rowBytes);
      assert.equal(await valueOf(client, 'select length($1::text)', ['y'.repeat(rowBytes)]), rowBytes);
    }),
  'many columns': () =>
    connected(async (client) => {
      for (const more of [{}, { name: 'wide' }]) {
        const { rows } = await client.query({ text: wide, ...more });
        assert.equal(Object.keys(rows[0]).length, 1000);
        assert.equal(rows[0].c999, 999);
      }
    }),
});
