/**
 * Quick simple queries go to members as prepared statements: what clients hear of it is nothing. The same queries go through a router
 * that sends them as they come, and have to be answered by the same bytes.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { queryMessage, syncMessage } from '#router/wire/client-messages.ts';
import { readErrorFields } from '#router/wire/server-messages.ts';
import { int16, message } from '#router/wire/writer.ts';
import { database, password, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
import { RawClient, type RawMessage, textsOf } from './router-raw-client.ts';

let keyspace: RouterKeyspace;
/** As it is shipped, and sending everything as it comes. */
let router: TestRouter;
let plain: TestRouter;

before(async () => {
  keyspace = await RouterKeyspace.start();
  router = await keyspace.router('eu');
  plain = await keyspace.router('eu', { parameters: false });
  await router.with('any_app', async (client) => {
    for (const tenant of ['acme', 'bolt'])
      await client.query(
        `insert into accounts (tenant_id, id, owner, balance) select $1, n, 'o''' || n || $1, n * 10 from generate_series(1, 40) n`,
        [tenant],
      );
  });
  await router.with('acme_app', (client) => client.query("insert into notes (tenant_id, body) values ('acme', 'one')"));
});
after(() => keyspace?.stop());

const login = (to: TestRouter, user = 'acme_app'): Promise<RawClient> =>
  RawClient.login(to.port, keyspace.ca.bundle, { user, password, database });

async function ask(client: RawClient, sql: string): Promise<RawMessage[]> {
  client.send(queryMessage(sql));
  return client.until('Z');
}
const bytesOf = (answers: readonly RawMessage[]): string =>
  Buffer.concat(answers.map(({ frame }) => frame)).toString('latin1');
const parameterised = (): number => router.worker.metrics.get('parameterised_total');

/** Each text at both routers; the first ones prove that the shape is quick. */
async function compare(texts: readonly string[], user?: string, prelude: readonly string[] = []): Promise<void> {
  const [one, other] = await Promise.all([login(router, user), login(plain, user)]);
  for (const sql of prelude) for (const client of [one, other]) await ask(client, sql);
  for (const sql of texts) {
    const [expected, answers] = [await ask(other, sql), await ask(one, sql)];
    assert.equal(bytesOf(answers), bytesOf(expected), sql);
  }
  for (const client of [one, other]) client.socket.destroy();
}

/** At least this many of what runs meanwhile go as prepared statements. A busy machine may find a plan slow for a while. */
async function during(least: number, run: () => Promise<void>): Promise<void> {
  const before = parameterised();
  for (let attempt = 0; attempt < 20 && parameterised() - before < least; attempt++) await run();
  assert.ok(parameterised() - before >= least, `${parameterised() - before} of ${least} as prepared statements`);
}

const numbers = Array.from({ length: 40 }, (_, index) => index);

describe('the same bytes as of a query that is sent as it came', () => {
  test('whatever the constants are', async () => {
    await during(100, async () => {
      await compare(numbers.map((n) => `select id, owner, balance from accounts where id = ${n}`));
      await compare(numbers.map((n) => `SELECT * FROM accounts WHERE owner='o''${n}acme' AND id<>${n}999999999`));
      await compare(
        numbers.map((n) => `select count(*), 'x' as "Kind" from accounts where balance between ${n} and 200.5`),
      );
      await compare(numbers.map((n) => `select id -- ${n}\nfrom accounts where id > ${n} order by 1 limit 3`));
      await compare(numbers.map(() => 'select count(*) from accounts'));
    });
  });

  test('the tenant among them', async () => {
    await during(50, async () => {
      const tenant = (n: number): string => (n % 2 === 0 ? 'acme' : 'bolt');
      await compare(
        numbers.map((n) => `select tenant_id, owner from accounts where tenant_id = '${tenant(n)}' and id = ${n}`),
        'any_app',
      );
    });
  });

  test('with constants that don’t fit, or mean nothing', async () => {
    await during(30, () =>
      compare(
        numbers.flatMap((n) => [
          `select owner from accounts where id = ${n}`,
          `select owner from accounts where id = '${n % 5 === 0 ? 'abc' : n}'`,
          `select owner from accounts where id = ${n % 5 === 0 ? '99999999999999999999999' : '9999999999999'}`,
          `select owner from accounts where owner = ${n % 5 === 0 ? `'${n}'` : n}`,
        ]),
      ),
    );
  });

  test('errors that come with the rows', async () => {
    await during(20, () =>
      compare(numbers.map((n) => `select id, 10 / (id - 20) as x from accounts where id >= ${n} order by id`)),
    );
  });

  test('by the settings of their session', async () => {
    const text = (n: number): string =>
      `select owner, created from (select owner, timestamptz '2020-03-01 00:00+00' as created, id from accounts) a where id = ${n} and created < '02/03/2020'`;
    await during(20, async () => {
      for (const setting of ["datestyle = 'ISO, DMY'", "datestyle = 'SQL, MDY'", "timezone = 'Asia/Tokyo'"])
        await compare(numbers.map(text), 'acme_app', [`set ${setting}`]);
    });
  });
});

test('a table that changes is no error, and its new columns are there at once', async () => {
  const clients = await Promise.all(Array.from({ length: 6 }, () => login(router)));
  const columns = async (client: RawClient, n: number): Promise<number> => {
    const answers = await ask(client, `select * from notes where body <> 'x${n}'`);
    assert.equal(textsOf(answers), 'TDCZI');
    return (answers[0] as RawMessage).frame.readUInt16BE(5);
  };
  const round = (n: number): Promise<number[]> => Promise.all(clients.map((client) => columns(client, n)));
  for (const added of ['d1', 'd2', 'd3']) {
    await during(100, async () => {
      for (const n of numbers) await round(n);
    });
    const [before] = await round(0);
    await keyspace.asOperator('one-eu-0', (operator) =>
      operator.query(`alter table notes add column ${added} integer`),
    );
    for (const n of numbers) assert.deepEqual(new Set(await round(n)), new Set([(before as number) + 1]));
  }
  for (const client of clients) client.socket.destroy();
});

test('the unnamed statement of the session is gone behind one, as behind any simple query', async () => {
  const client = await login(router);
  await during(1, async () => {
    for (const n of numbers) await ask(client, `select owner from accounts where id = ${n}`);
  });
  client.send(message(0x50, '', 'select 1', int16(0)), syncMessage);
  await client.until('Z');
  await ask(client, 'select owner from accounts where id = 3');
  client.send(message(0x42, '', '', int16(0), int16(0), int16(0)), message(0x45, '', 0), syncMessage);
  const answers = await client.until('Z');
  assert.equal(textsOf(answers), 'EZI');
  const { frame } = answers[0] as RawMessage;
  assert.equal(readErrorFields(frame, 0, frame.length).get('C'), '26000');
  client.socket.destroy();
});

test('many clients at once have each their own answer', async () => {
  await during(1_000, async () => {
    const work = async (tenant: string, at: number): Promise<void> => {
      const client = await login(router, 'any_app');
      await ask(client, `set meridian.tenant = '${tenant}'`);
      for (let n = 1; n < 60; n++) {
        const id = ((n * 7 + at) % 40) + 1;
        const answers = await ask(client, `select owner from accounts where id = ${id}`);
        assert.equal(textsOf(answers), 'TDCZI');
        assert.equal((answers[1] as RawMessage).frame.toString('utf8', 11), `o'${id}${tenant}`);
      }
      client.socket.destroy();
    };
    await Promise.all(numbers.map((n) => work(n % 2 === 0 ? 'acme' : 'bolt', n)));
  });
});
