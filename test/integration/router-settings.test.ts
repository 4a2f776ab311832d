/**
 * Settings where backends are shared: what planner, durability and tenants rest on holds whatever a role does to itself, and what one
 * client sets is never seen in another's results.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { message } from '#router/wire/writer.ts';
import { one } from './router-assertions.ts';
import { database, password, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
import { RawClient } from './router-raw-client.ts';

let keyspace: RouterKeyspace;
let router: TestRouter;

before(async () => {
  keyspace = await RouterKeyspace.start();
  router = await keyspace.router('eu');
  await router.with('any_app', (client) =>
    client.query("insert into accounts (tenant_id, id) values ('acme', 1), ('acme', 2)"),
  );
});
after(() => keyspace?.stop());

const int16 = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);
const parse = (name: string, sql: string): Buffer => message('P'.charCodeAt(0), name, sql, int16(0));
const bind = (name: string): Buffer => message('B'.charCodeAt(0), '', name, int16(0), int16(0), int16(0));
const execute = message('E'.charCodeAt(0), '', Buffer.alloc(4));
const flush = message('H'.charCodeAt(0));
const sync = message('S'.charCodeAt(0));
const query = (sql: string): Buffer => message('Q'.charCodeAt(0), sql);

const login = (user: string, parameters: Record<string, string> = {}): Promise<RawClient> =>
  RawClient.login(router.port, keyspace.ca.bundle, { user, password, database }, { parameters });

/** The only column of every row, and errors, up to ReadyForQuery. */
async function ask(client: RawClient, ...messages: Buffer[]): Promise<string[]> {
  client.send(...messages);
  return (await client.until('Z')).flatMap(({ type, frame }) =>
    type === 'D' ? [frame.toString('utf8', 11)] : type === 'E' ? [frame.toString('utf8', 5)] : [],
  );
}

describe('what a role sets for itself', () => {
  test('does not weaken the backends that are opened for it later', async () => {
    const weakened = ['synchronous_commit = off', 'search_path = pg_temp', 'role = meridian_application'];
    try {
      await router.with('bolt_app', (client) =>
        client.query(
          // Written so that the planner's first line doesn't see it.
          `do $$ begin ${weakened.map((one) => `execute 'alter role bolt_app set ${one.replace('_c', "_' || 'c")}';`).join(' ')} end $$`,
        ),
      );
      const fresh = await keyspace.router('us');
      await fresh.with('bolt_app', async (client) => {
        // Asks Postgres in a statement that needs the tenant's primary.
        const shown = await one(
          client,
          `select concat_ws(' ', current_setting('synchronous_commit'), current_setting('search_path'), current_user)
           from (select count(*) from public.accounts) as a`,
        );
        assert.equal(shown, 'on public bolt_app');
        await client.query('reset all');
        assert.equal(
          await one(
            client,
            "select current_setting('synchronous_commit') from (select count(*) from public.accounts) as a",
          ),
          'on',
        );
      });
    } finally {
      await keyspace.asOperator('two-us-0', (client) => client.query('alter role bolt_app reset all'));
    }
  });
});

describe('what set_config() sets', () => {
  test('is the session’s own on every backend, follows its transactions, and is nobody else’s', async () => {
    const first = await router.connect('acme_app');
    const second = await router.connect('acme_app');
    const shown = "select current_setting('app.user', true) from accounts limit 1";
    await first.query("select set_config('app.user', $1, false)", ["o'hara \\"]);
    for (let round = 0; round < 4; round++) {
      assert.equal(await one(first, shown), "o'hara \\");
      assert.ok(['', null].includes((await one(second, shown)) as string | null));
    }
    await first.query('begin');
    await first.query("select set_config('app.user', 'undone', false)");
    await first.query('rollback');
    assert.equal(await one(first, shown), "o'hara \\");
    await first.query("begin; select set_config('app.user', 'kept', false); commit");
    await first.query("begin; select set_config('app.user', 'local', true); commit");
    for (let round = 0; round < 4; round++) {
      await Promise.all([first, second].map((client) => client.query('select count(*) from accounts')));
      assert.equal(await one(first, shown), 'kept');
    }
    await first.query('reset all');
    assert.ok(['', null].includes((await one(first, shown)) as string | null));
    for (const [name, value] of [
      ['row_security', 'off'],
      ['synchronous_commit', 'off'],
      ['meridian.tenant', 'bolt'],
    ])
      await assert.rejects(first.query(`select set_config('${name}', '${value}', false)`), { code: '42501' });
    await first.query("select set_config('synchronous_commit', 'on', false)");
    await assert.rejects(first.query("select set_config('synchronous_commit', 'off', false)"), { code: '42501' });
    await first.end();
    await second.end();
  });
});

describe('one client’s settings and another’s results', () => {
  const timeZone = "select current_setting('timezone') from (select count(*) from accounts) as a";

  test('a RESET in a transaction that no backend has yet leaves nothing to the next client', async () => {
    for (const statement of ['reset timezone', 'set timezone to default', 'reset all']) {
      const first = await login('acme_app', { TimeZone: 'Europe/Berlin' });
      const second = await login('acme_app', { TimeZone: 'Europe/Berlin' });
      for (const sql of ['begin', statement, 'select 1 from accounts', 'commit']) await ask(first, query(sql));
      for (let round = 0; round < 5; round++)
        assert.deepEqual(await ask(second, query(timeZone)), ['Europe/Berlin'], statement);
      first.end();
      second.end();
    }
  });

  test('a text prepared by both has for each what it means under its own settings', async () => {
    const sql =
      "select (timestamptz '2024-01-01 00:00' at time zone 'UTC')::text from (select count(*) from accounts) a";
    const utc = await login('acme_app', { TimeZone: 'UTC' });
    const tokyo = await login('acme_app', { TimeZone: 'Asia/Tokyo' });
    for (let round = 0; round < 3; round++)
      for (const [client, expected] of [
        [utc, '2024-01-01 00:00:00'],
        [tokyo, '2023-12-31 15:00:00'],
      ] as const)
        assert.deepEqual(
          await ask(client, ...(round === 0 ? [parse('s', sql)] : []), bind('s'), execute, sync),
          [expected],
          `round ${round}`,
        );
    // Made under a setting of a transaction, or behind a SET whose answer hasn't come: nobody else's either.
    const other =
      "select (timestamptz '2024-02-02 00:00' at time zone 'UTC')::text from (select count(*) from accounts) a";
    await ask(tokyo, query('begin'));
    await ask(tokyo, query("set local timezone = 'America/New_York'"));
    assert.deepEqual(await ask(tokyo, parse('t', other), bind('t'), execute, sync), ['2024-02-02 05:00:00']);
    await ask(tokyo, query('commit'));
    assert.deepEqual(await ask(tokyo, bind('t'), execute, sync), ['2024-02-01 15:00:00']);
    const third =
      "select (timestamptz '2024-03-03 00:00' at time zone 'UTC')::text from (select count(*) from accounts) a";
    const set = [parse('', "set timezone = 'America/New_York'"), bind(''), execute];
    assert.deepEqual(await ask(tokyo, ...set, flush, parse('u', third), bind('u'), execute, sync), [
      '2024-03-03 05:00:00',
    ]);
    const likeTokyo = await login('acme_app', { TimeZone: 'Asia/Tokyo' });
    assert.deepEqual(await ask(likeTokyo, parse('u', third), bind('u'), execute, sync), ['2024-03-02 15:00:00']);
    likeTokyo.end();
    utc.end();
    tokyo.end();
  });

  test('a comment at the end of a SET does not swallow the settings that are replayed after it', async () => {
    const first = await login('acme_app');
    const second = await login('acme_app');
    await ask(first, query("set app.note = '1' -- a note"));
    await ask(first, query("set timezone = 'Asia/Tokyo'"));
    for (let round = 0; round < 3; round++) {
      await ask(second, query("set app.other = '2'"));
      assert.deepEqual(await ask(first, query(timeZone)), ['Asia/Tokyo']);
    }
    first.end();
    second.end();
  });
});
