/**
 * COPY ... FROM STDIN through the router, which turns it into INSERTs, beside Postgres' own COPY of the same bytes: the same rows, or the
 * same error at the same line; all of it or nothing; no other tenant's row.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { queryMessage, syncMessage } from '#router/wire/client-messages.ts';
import { readErrorFields, readTextRow } from '#router/wire/server-messages.ts';
import { int16, int32, message } from '#router/wire/writer.ts';
import { one, refused, waitFor } from './router-assertions.ts';
import { database, password, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
import { RawClient, type RawMessage, sqlstateOf, textsOf } from './router-raw-client.ts';

let keyspace: RouterKeyspace;
let router: TestRouter;

const columns = `tenant_id text not null, id integer not null, body varchar(12), score numeric(6,2), tags text[], seen timestamptz,
  raw bytea, number bigint generated always as identity, twice integer generated always as (id * 2) stored,
  check (score < 1000), primary key (tenant_id, id)`;

before(async () => {
  keyspace = await RouterKeyspace.start();
  await keyspace.asOperator('one-eu-0', (client) =>
    client.query(`create table plain (${columns}); create table copied (${columns});
      grant select, insert, update, delete on copied to meridian_application`),
  );
  for (const member of ['one-eu-0', 'two-us-0'])
    await keyspace.asOperator(member, async (client) => {
      if (member === 'two-us-0') await client.query(`create table copied (${columns})`);
      await client.query('alter table copied owner to meridian_owner');
      await client.query('grant select, insert, update, delete on copied to meridian_application');
      await client.query('alter table copied enable row level security, force row level security');
      await client.query(
        `create policy pin on copied to meridian_application using (tenant_id = coalesce(meridian.login_tenant(), current_setting('meridian.tenant', true)))`,
      );
    });
  router = await keyspace.router('eu');
});
after(() => keyspace?.stop());

interface Outcome {
  readonly tag?: string;
  readonly error?: { readonly code: string; readonly message: string; readonly where: string | undefined };
}

/** A COPY with these chunks of data, by node-postgres. */
function copy(client: pg.Client, sql: string, chunks: readonly (Buffer | string)[], fail?: string): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    let outcome: Outcome = {};
    const timer = setTimeout(() => reject(new Error(`no answer to ${sql}: ${JSON.stringify(outcome)}`)), 60_000);
    timer.unref();
    type Connection = {
      query(text: string): void;
      sendCopyFromChunk(chunk: Buffer): void;
      endCopyFrom(): void;
      sendCopyFail(why: string): void;
    };
    const submitted = {
      submit: (connection: Connection) => connection.query(sql),
      handleCopyInResponse: (connection: Connection) => {
        for (const chunk of chunks) connection.sendCopyFromChunk(Buffer.from(chunk as Buffer));
        if (fail === undefined) connection.endCopyFrom();
        else connection.sendCopyFail(fail);
      },
      handleCommandComplete: ({ text }: { text: string }) => {
        outcome = { tag: text };
      },
      handleError: ({ code, message: said, where }: { code: string; message: string; where?: string }) => {
        outcome = { error: { code, message: said, where } };
        // node-postgres tells nothing else after an error.
        resolve(outcome);
      },
      handleReadyForQuery: () => resolve(outcome),
    };
    client.query(submitted as unknown as pg.Submittable);
  });
}

const rowsOf = async (client: pg.Client, table: string): Promise<unknown[]> =>
  (
    await client.query(
      `select tenant_id, id, body, score, tags, seen, encode(raw, 'hex') as raw, twice from ${table} order by id`,
    )
  ).rows;

/** The same bytes by both ways, in chunks of that size. */
async function compare(
  options: string,
  data: Buffer | string,
  chunkBytes = Number.POSITIVE_INFINITY,
): Promise<Outcome> {
  const bytes = Buffer.from(data as Buffer);
  const chunks: Buffer[] = [];
  for (let start = 0; start < bytes.length; start += chunkBytes)
    chunks.push(bytes.subarray(start, Math.min(bytes.length, start + chunkBytes)));
  const direct = await keyspace.asOperator('one-eu-0', async (client) => {
    await client.query('truncate plain, copied');
    await client.query("set timezone = 'UTC'");
    const outcome = await copy(client, `copy plain ${options}`, chunks);
    return { outcome, rows: await rowsOf(client, 'plain') };
  });
  const routed = await router.with('acme_app', async (client) => {
    await client.query("set timezone = 'UTC'");
    const outcome = await copy(client, `copy copied ${options}`, chunks);
    return { outcome, rows: await rowsOf(client, 'copied') };
  });
  // Of the context the line counts: which column it was, or how the line reads, Postgres says where it is still reading.
  const same = ({ tag, error }: Outcome): Outcome => {
    if (error === undefined) return tag === undefined ? {} : { tag };
    const where = error.where?.replaceAll('COPY plain', 'COPY copied').replace(/(line \d+)[,:][^]*$/, '$1');
    return { error: { code: error.code, message: error.message.replaceAll('"plain', '"copied'), where } };
  };
  assert.deepEqual(same(routed.outcome), same(direct.outcome), `${options}: ${bytes.toString('utf8').slice(0, 200)}`);
  assert.deepEqual(routed.rows, direct.rows, options);
  return routed.outcome;
}

const named = '(tenant_id, id, body)';

describe('the same as Postgres’ own', () => {
  const good: [string, string][] = [
    [`${named} from stdin`, 'acme\t1\tone\nacme\t2\t\\N\nacme\t3\t\nacme\t4\ta\\tb\\\\c\\nd\n'],
    [`${named} from stdin`, 'acme\t1\t\\x41\\101\\q\\\n\nacme\t2\tno end'],
    [`${named} from stdin`, 'acme\t1\tone\r\nacme\t2\ttwo\r\n'],
    [`${named} from stdin`, 'acme\t1\tone\n\\.\nthis is never read\n'],
    [`${named} from stdin`, ''],
    [`${named} from stdin with (delimiter '|', null 'none')`, 'acme|1|none\nacme|2|a\\|b\n'],
    [`${named} from stdin with (format csv)`, 'acme,1,"a,""b"""\nacme,2,\nacme,3,""\nacme,4,x"y,z"\n'],
    [`${named} from stdin csv header`, 'whatever,it,says\nacme,1,"two\nlines"\nacme,2,after\n'],
    [`${named} from stdin with (format csv, header match)`, 'tenant_id,id,body\nacme,1,x\n'],
    [`${named} from stdin with (format csv, quote '''', escape '\\', delimiter ';')`, "acme;1;'it\\'s; \\\\'\n"],
    [`${named} from stdin with (format csv, null 'NULL', force_null (body))`, 'acme,1,"NULL"\nacme,2,NULL\nacme,3,x\n'],
    [`${named} from stdin with (format csv, force_not_null (body))`, 'acme,1,\nacme,2,""\n'],
    [
      '(id, tenant_id, tags, seen, score, raw) from stdin',
      '1\tacme\t{a,"b c"}\t2024-02-29 12:00:00+02\t12.345\t\\\\x00ff\n',
    ],
    // All columns but those that Postgres makes; identity columns as they come.
    ['from stdin', 'acme\t1\tone\t\\N\t\\N\t\\N\t\\N\t77\n'],
    [`${named} from stdin`, 'acme\t1\tgrüße\nacme\t2\t日本語\n'],
  ];
  for (const [options, data] of good)
    test(`${options} ${JSON.stringify(data).slice(0, 60)}`, async () => {
      for (const chunkBytes of [1, 7, Number.POSITIVE_INFINITY]) await compare(options, data, chunkBytes);
    });

  const bad: [string, string][] = [
    [`${named} from stdin`, 'acme\t1\tone\nacme\ttwo\tx\nacme\t3\ty\n'],
    [`${named} from stdin`, 'acme\t1\tone\nacme\t2\n'],
    [`${named} from stdin`, 'acme\t1\tone\nacme\t2\ttwo\tmore\n'],
    [`${named} from stdin`, 'acme\t1\tone\nacme\t2\tmuch too long a body\n'],
    [`${named} from stdin`, 'acme\t1\tone\nacme\t2\ttwo\nacme\t1\tagain\n'],
    [`${named} from stdin`, 'acme\t1\tone\nacme\t\\N\ttwo\n'],
    ['(tenant_id, id, score) from stdin', 'acme\t1\t1\nacme\t2\t1000\nacme\t3\tx\n'],
    [`${named} from stdin csv header`, 'a,b,c\nacme,1,"x\ny"\nacme,zwei,z\n'],
    [`${named} from stdin csv`, 'acme,1,"never ends\n'],
    [`${named} from stdin with (format csv, header match)`, 'tenant_id,number,body\nacme,1,x\n'],
    ['(tenant_id, nothing) from stdin', 'acme\t1\n'],
    ['(tenant_id, tags) from stdin', 'acme\t{a,\n'],
  ];
  for (const [options, data] of bad)
    test(`refused: ${options} ${JSON.stringify(data).slice(0, 60)}`, async () => {
      const { error } = await compare(options, data);
      assert.ok(error !== undefined);
    });

  test('the context names the column and its value, as Postgres words it', async () => {
    const { error } = await compare(`${named} from stdin`, 'acme\t1\tone\nacme\ttwo\tx\n');
    assert.equal(error?.where, 'COPY copied, line 2, column id: "two"');
  });

  test('in binary', async () => {
    const row = (...values: (Buffer | null)[]): Buffer =>
      Buffer.concat([
        int16(values.length),
        ...values.flatMap((one) => (one === null ? [int32(-1)] : [int32(one.length), one])),
      ]);
    const head = Buffer.concat([Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'), int32(0), int32(0)]);
    const good1 = row(Buffer.from('acme'), int32(1), Buffer.from('one'));
    const good2 = row(Buffer.from('acme'), int32(2), null);
    const options = `${named} from stdin binary`;
    for (const chunkBytes of [1, 5, 1_000])
      await compare(options, Buffer.concat([head, good1, good2, int16(0xffff)]), chunkBytes);
    const wrong = row(Buffer.from('acme'), Buffer.from([1, 2]), null);
    assert.ok((await compare(options, Buffer.concat([head, good1, wrong, int16(0xffff)]))).error !== undefined);
  });

  test('many rows, in several batches, and one far back that is wrong', async () => {
    const lines = Array.from({ length: 5_000 }, (_one, index) => `acme\t${index}\trow ${index}\n`);
    assert.deepEqual(await compare(`${named} from stdin`, lines.join(''), 3_001), { tag: 'COPY 5000' });
    lines[4_321] = 'acme\t17\tagain\n';
    const { error } = await compare(`${named} from stdin`, lines.join(''), 60_000);
    assert.equal(error?.where, 'COPY copied, line 4322');
  });
});

describe('tenants', () => {
  const count = (client: pg.Client): Promise<unknown> => one(client, 'select count(*)::int from copied');
  const empty = (): Promise<unknown> =>
    Promise.all(
      ['one-eu-0', 'two-us-0'].map((member) =>
        keyspace.asOperator(member, (client) => client.query('delete from copied')),
      ),
    );

  test('another tenant’s row is refused with its line, and nothing of the COPY stays', async () => {
    await empty();
    await router.with('acme_app', async (client) => {
      const { error } = await copy(client, `copy copied ${named} from stdin`, ['acme\t1\tx\nbolt\t2\tx\n']);
      assert.equal(error?.code, 'MD004');
      assert.equal(error?.where, 'COPY copied, line 2');
      assert.equal(await count(client), 0);
    });
  });

  test('where none is known the rows say it, as long as they share a shard', async () => {
    await empty();
    await router.with('any_app', async (client) => {
      const rows = 'acme\t1\tx\ncord\t1\tx\ncord\t2\tx\nacme\t2\tx\n';
      assert.deepEqual(await copy(client, `copy copied ${named} from stdin`, [rows]), { tag: 'COPY 4' });
      const far = await copy(client, `copy copied ${named} from stdin`, ['acme\t3\tx\nbolt\t1\tx\n']);
      assert.equal(far.error?.code, '0A000');
      assert.equal(far.error?.where, 'COPY copied, line 2');
      const unknown = await copy(client, `copy copied ${named} from stdin`, ['nobody\t3\tx\n']);
      assert.equal(unknown.error?.code, 'MD002');
      const unsaid = await copy(client, 'copy copied (id, body) from stdin', ['3\tx\n']);
      assert.equal(unsaid.error?.code, 'MD003');
      for (const [tenant, expected] of [
        ['acme', 2],
        ['cord', 2],
        ['bolt', 0],
      ] as const)
        assert.equal(await one(client, 'select count(*)::int from copied where tenant_id = $1', [tenant]), expected);
      assert.deepEqual(await copy(client, `/* tenant='bolt' */ copy copied ${named} from stdin`, ['bolt\t1\tx\n']), {
        tag: 'COPY 1',
      });
    });
    await router.with('pair_app', async (client) => {
      const { error } = await copy(client, `copy copied ${named} from stdin`, ['cord\t9\tx\n']);
      assert.equal(error?.code, '42501');
    });
  });

  test('in a transaction of the client’s it is part of it, and a failure is the transaction’s', async () => {
    await empty();
    await router.with('acme_app', async (client) => {
      await client.query('begin');
      assert.deepEqual(await copy(client, `copy copied ${named} from stdin`, ['acme\t1\tx\n']), { tag: 'COPY 1' });
      await client.query('rollback');
      assert.equal(await count(client), 0);
      await client.query('begin');
      await client.query('savepoint s');
      assert.equal(
        (await copy(client, `copy copied ${named} from stdin`, ['acme\t1\tx\nacme\tx\tx\n'])).error?.code,
        '22P02',
      );
      await assert.rejects(client.query('select 1'), refused('25P02'));
      await client.query('rollback to s');
      assert.deepEqual(await copy(client, `copy copied ${named} from stdin`, ['acme\t1\tx\n']), { tag: 'COPY 1' });
      await client.query('commit');
      assert.equal(await count(client), 1);
      await client.query('begin');
      assert.equal((await copy(client, `copy copied ${named} from stdin`, ['bolt\t1\tx\n'])).error?.code, 'MD004');
      await assert.rejects(client.query('select 1'), refused('25P02'));
      await client.query('rollback');
    });
  });

  test('what the client takes back, or leaves in the middle, was never there', async () => {
    await empty();
    await router.with('acme_app', async (client) => {
      const lines = Array.from({ length: 3_000 }, (_one, index) => `acme\t${index}\tx\n`);
      const { error } = await copy(client, `copy copied ${named} from stdin`, lines, 'changed my mind');
      assert.deepEqual(error && [error.code, error.message], ['57014', 'COPY from stdin failed: changed my mind']);
      assert.equal(await count(client), 0);
      const raw = await RawClient.login(router.port, keyspace.ca.bundle, { user: 'acme_app', password, database });
      raw.send(queryMessage(`copy copied ${named} from stdin`));
      await raw.next('G');
      raw.send(message(0x64, Buffer.from(lines.join(''))));
      await sleep(200);
      raw.end();
      await waitFor(async () => router.worker.gauges['backends_busy'] === 0);
      assert.equal(await count(client), 0);
    });
  });

  test('all of it or nothing also where the session keeps its connection, and nothing is begun by it', async () => {
    await empty();
    await router.with('acme_app', async (client) => {
      await client.query('listen word');
      const lines = Array.from({ length: 3_000 }, (_one, index) => `acme\t${index}\tx\n`);
      const wrong = await copy(client, `copy copied ${named} from stdin`, [...lines, 'acme\tx\tx\n']);
      assert.equal(wrong.error?.code, '22P02');
      assert.equal(await count(client), 0);
      await client.query("set app.word = 'said'");
      await client.query('unlisten *');
      assert.equal(await one(client, "select current_setting('app.word')"), 'said');
      assert.equal(await one(client, 'select now() = statement_timestamp()'), true);
      await client.query('listen word');
      assert.deepEqual(await copy(client, `copy copied ${named} from stdin`, lines), { tag: 'COPY 3000' });
      await client.query('rollback');
      assert.equal(await count(client), 3_000);
    });
  });

  for (const isOwn of [true, false])
    test(`lost between two batches, what follows is not kept without what was before (${isOwn ? 'its own' : 'the client’s'} transaction)`, async () => {
      await empty();
      const raw = await RawClient.login(router.port, keyspace.ca.bundle, { user: 'acme_app', password, database });
      if (!isOwn) raw.send(queryMessage('begin'));
      if (!isOwn) await raw.next('Z');
      raw.send(queryMessage(`copy copied ${named} from stdin`));
      await raw.next('G');
      const lines = Array.from({ length: 3_000 }, (_one, index) => `acme\t${index}\tx\n`);
      raw.send(message(0x64, Buffer.from(lines.slice(0, 1_500).join(''))));
      const isOpen = "state = 'idle in transaction' and backend_xid is not null";
      await waitFor(async () => (await keyspace.backends('one-eu-0', isOpen)) === 1);
      await keyspace.asOperator('one-eu-0', (client) =>
        client.query(
          `select pg_terminate_backend(pid) from pg_stat_activity where usename like '%\\_app' and ${isOpen}`,
        ),
      );
      await waitFor(async () => router.worker.gauges['backends_busy'] === 0);
      raw.send(message(0x64, Buffer.from(lines.slice(1_500).join(''))), message(0x63));
      const ended = await raw.until('Z');
      assert.equal(textsOf(ended), isOwn ? 'EZI' : 'EZE');
      assert.equal(sqlstateOf(ended[0] as RawMessage), '40001');
      raw.send(queryMessage('commit'));
      await raw.next('Z');
      raw.end();
      await router.with('acme_app', async (client) => assert.equal(await count(client), 0));
    });
});

describe('on the wire', () => {
  const login = (): Promise<RawClient> =>
    RawClient.login(router.port, keyspace.ca.bundle, { user: 'acme_app', password, database });
  const extended = (sql: string): Buffer[] => [
    message(0x50, '', sql, int16(0)),
    message(0x42, '', '', int16(0), int16(0), int16(0)),
    message(0x45, '', int32(0)),
    syncMessage,
  ];
  const data = (text: string): Buffer => message(0x64, Buffer.from(text));
  const done = message(0x63);
  const errors = (messages: readonly RawMessage[]): (string | undefined)[] =>
    messages.filter(({ type }) => type === 'E').map(sqlstateOf);

  test('in the extended protocol, as libpq and others say it', async () => {
    await keyspace.asOperator('one-eu-0', (client) => client.query('delete from copied'));
    const client = await login();
    client.send(...extended(`copy copied ${named} from stdin`));
    assert.equal(textsOf(await client.until('G')), '12G');
    client.send(data('acme\t1\tx\nacme\t2\ty\n'), done, syncMessage);
    const ended = await client.until('Z');
    assert.equal(textsOf(ended), 'CZI');
    assert.equal(ended[0]?.frame.toString('latin1', 5, 11), 'COPY 2');
    client.send(...extended(`copy copied ${named} from stdin`));
    await client.until('G');
    client.send(data('acme\t3\tx\nacme\t2\tagain\n'), done, syncMessage);
    const failed = await client.until('Z');
    assert.equal(textsOf(failed), 'EZI');
    assert.deepEqual(errors(failed), ['23505']);
    assert.equal(
      readErrorFields(failed[0]?.frame as Buffer, 0, (failed[0] as RawMessage).frame.length).get('W'),
      'COPY copied, line 2',
    );
    client.send(queryMessage('select count(*)::int from copied'));
    const [, counted] = await client.until('Z');
    assert.deepEqual(readTextRow(counted?.frame as Buffer, 0, (counted as RawMessage).frame.length), ['2']);
    client.end();
  });

  test('data after a failure is passed over, and the next statement answered', async () => {
    const client = await login();
    client.send(
      queryMessage(`copy copied ${named} from stdin`),
      data('acme\tx\tx\n'),
      data('acme\t9\tx\n'),
      done,
      queryMessage('select 1'),
    );
    assert.equal(textsOf(await client.until('Z')), 'GEZI');
    assert.equal(textsOf(await client.until('Z')), 'TDCZI');
    client.end();
  });

  test('a slow producer, and one that is far too fast, take a bounded amount of memory', async () => {
    await keyspace.asOperator('one-eu-0', (client) => client.query('delete from copied'));
    const client = await login();
    client.send(queryMessage(`copy copied ${named} from stdin`));
    await client.until('G');
    const before = process.memoryUsage().rss;
    let id = 0;
    for (let round = 0; round < 30; round++) {
      const lines = Array.from({ length: 2_000 }, () => `acme\t${id++}\t0123456789\n`).join('');
      if (!client.socket.write(data(lines))) await new Promise((resolve) => client.socket.once('drain', resolve));
    }
    client.send(done);
    assert.equal(textsOf(await client.until('Z', 60_000)), 'CZI');
    assert.ok(process.memoryUsage().rss - before < 150 * 1024 * 1024);
    client.end();
  });
});
