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
    for (const more of [{}, { sslnegotiation: 'direct' }, { enableChannelBinding: true }])
      await connected(async (client) => assert.equal(await valueOf(client, 'select 1'), 1), more);
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
  // It reads what is in binary as text: here it is made of bytes that are the same in both.
  binary: () =>
    connected(async (client) => {
      const types = { getTypeParser: () => (text) => text };
      assert.equal(await valueOf(client, 'select $1::int4', [258], { binary: true, types }), '\0\0\x01\x02');
      const sent = Buffer.from([0, 255]);
      assert.deepEqual(await valueOf(client, 'select $1::bytea', [sent]), sent);
    }),
  prepared: () =>
    Promise.all(
      [1, 2, 3, 4].map(() =>
        connected(async (client) => {
          for (let n = 0; n < 100; n++)
            assert.equal(await valueOf(client, 'select $1::int + 1', [n], { name: 'plus' }), n + 1);
        }),
      ),
    ),
  tenants: () =>
    connected(
      async (client) => {
        for (const tenant of ['acme', 'bolt']) {
          for (const name of [undefined, 'add'])
            await client.query({
              text: 'insert into accounts (tenant_id, id) values ($1, $2)',
              values: [tenant, firstId + (name === undefined ? 20_000 : 20_001)],
              name,
            });
          const counted = 'select count(*) from accounts where tenant_id = $1 and id between $2 and $3';
          for (const name of [undefined, 'counted', 'counted'])
            assert.equal(await valueOf(client, counted, [tenant, firstId + 20_000, firstId + 20_009], { name }), '2');
        }
        await assert.rejects(client.query('select count(*) from accounts'), { code: 'MD003' });
        await client.query("set meridian.tenant = 'bolt'");
        assert.equal(await valueOf(client, 'select min(tenant_id) from accounts'), 'bolt');
      },
      { user: 'any_app' },
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
  errors: () =>
    connected(async (client) => {
      await assert.rejects(client.query("select fail('boom')"), {
        code: 'P0042',
        message: 'boom',
        detail: 'the detail',
        hint: 'the hint',
        table: 'accounts',
      });
      await assert.rejects(client.query('select * frm accounts'), { code: '42601', position: '10' });
      await assert.rejects(client.query('select * from accounts where tenant_id = $1', ['bolt']), { code: 'MD004' });
      assert.equal(await valueOf(client, 'select 7'), 7);
    }),
  notices: () =>
    connected(async (client) => {
      const heard = [];
      client.on('notice', ({ severity, message, hint }) => heard.push([severity, message, hint]));
      await client.query("do $$ begin raise warning 'hear this' using hint = 'soon'; end $$");
      assert.deepEqual(heard, [['WARNING', 'hear this', 'soon']]);
    }),
  listen: () =>
    connected(async (client) => {
      const heard = new Promise((resolve) => client.once('notification', resolve));
      await client.query('listen "Orders"');
      await connected((other) => other.query(`notify "Orders", 'seven'`));
      const { channel, payload } = await heard;
      assert.deepEqual([channel, payload], ['Orders', 'seven']);
      await client.query('unlisten *');
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
  pipeline: () =>
    connected(
      async (client) => {
        const answers = await Promise.allSettled(
          Array.from({ length: 500 }, (_, n) =>
            n % 7 === 3
              ? client.query('select 1 / $1::int', [0])
              : client.query({ text: 'select $1::int as n', values: [n], ...(n % 2 === 0 ? { name: 'plain' } : {}) }),
          ),
        );
        for (const [n, answer] of answers.entries())
          if (n % 7 === 3) assert.equal(answer.reason.code, '22012');
          else assert.equal(answer.value.rows[0].n, n);
      },
      { pipeline: true },
    ),
  'copy out': () =>
    connected(async (client) => {
      let bytes = 0;
      for await (const chunk of client.query(
        copy.to('copy (select repeat($$x$$, 1000) from generate_series(1, 5000)) to stdout'),
      ))
        bytes += chunk.length;
      assert.equal(bytes, 5000 * 1001);
      const binary = [];
      for await (const chunk of client.query(copy.to('copy (select 258::int4) to stdout (format binary)')))
        binary.push(chunk);
      assert.ok(Buffer.concat(binary).includes(Buffer.from([0, 1, 0, 0, 0, 4, 0, 0, 1, 2])));
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
