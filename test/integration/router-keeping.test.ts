/** What lives in Postgres' session: its client keeps the backend while it lasts, and nobody else ever sees any of it. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { queryMessage, syncMessage } from '#router/wire/client-messages.ts';
import { int16, int32, message } from '#router/wire/writer.ts';
import { codeOf, one, refused, waitFor } from './router-assertions.ts';
import { database, password, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
import { RawClient, sqlstateOf, textsOf } from './router-raw-client.ts';

let keyspace: RouterKeyspace;
let router: TestRouter;

before(async () => {
  keyspace = await RouterKeyspace.start();
  router = await keyspace.router('eu');
  await router.with('any_app', async (client) => {
    for (const tenant of ['acme', 'bolt', 'cord'])
      await client.query(`insert into accounts (tenant_id, id, owner) values ($1, 1, $1)`, [tenant]);
  });
});
after(() => keyspace?.stop());

/** The backend is asked behind the answer. */
const keep = (count: number): Promise<void> =>
  waitFor(async () => router.worker.gauges['backends_kept'] === count && router.worker.gauges['backends_busy'] === 0);
const nobodyKeeps = (): Promise<void> => keep(0);

/** Uses every backend that the role has, many times over. */
async function useAll(user: string, sql = 'select count(*) from accounts'): Promise<void> {
  await Promise.all(
    Array.from({ length: 8 }, () =>
      router.with(user, async (client) => {
        if (user === 'any_app') await client.query("set meridian.tenant = 'acme'");
        for (let round = 0; round < 4; round++) await client.query(sql);
      }),
    ),
  );
}

describe('LISTEN and NOTIFY', () => {
  const listening = async (user: string, options: string, ...channels: string[]) => {
    const client = await router.connect(user, options === '' ? {} : { options });
    const heard: string[] = [];
    client.on('notification', ({ channel, payload, processId }) =>
      heard.push(
        `${channel}:${payload}${processId === (client as unknown as { processID: number }).processID ? ' own' : ''}`,
      ),
    );
    for (const channel of channels) await client.query(`listen ${channel}`);
    return { client, heard };
  };

  test('reach the tenant’s listeners, in whatever way they are said, and nobody else', async () => {
    const acme = await listening('acme_app', '', 'orders', '"Odd Name"');
    const bolt = await listening('bolt_app', '', 'orders');
    const cord = await listening('any_app', '-c meridian.tenant=cord', 'orders');
    await router.with('acme_app', async (client) => {
      await client.query("notify orders, 'one'");
      await client.query({ text: `notify "Odd Name", 'it''s \\ two'`, name: 'n' });
      await client.query("begin; notify orders, 'undone'; rollback");
      await client.query("select meridian.notify('orders', 'three')");
      await client.query('notify nobody_listens');
    });
    await acme.client.query("notify orders, 'four'");
    await router.with('any_app', (client) => client.query("/* tenant='cord' */ notify orders, 'five'"));
    await waitFor(async () => acme.heard.length === 4 && cord.heard.length === 1);
    await sleep(100);
    assert.deepEqual(acme.heard, ['orders:one', "Odd Name:it's \\ two", 'orders:three', 'orders:four own']);
    assert.deepEqual(cord.heard, ['orders:five']);
    assert.deepEqual(bolt.heard, []);
    for (const { client } of [acme, bolt, cord]) await client.end();
    await nobodyKeeps();
  });

  test('a tenant can not speak into another’s channel, nor listen to it, by code that no gate sees', async () => {
    const acme = await listening('acme_app', '', 'orders');
    const cord = await listening('any_app', '-c meridian.tenant=cord');
    // The names are made with a secret of the shard; the tenant's own name is all that it can learn.
    await cord.client.query("do $$ begin execute 'notify orders, ''forged'''; execute 'listen orders'; end $$");
    await assert.rejects(
      cord.client.query("do $$ begin perform pg_notify('orders', 'forged'); end $$"),
      refused('42501'),
    );
    await assert.rejects(cord.client.query("select pg_notify('orders', 'forged')"), refused('42501'));
    await assert.rejects(cord.client.query('select * from meridian.channel_secret'), refused('42501'));
    await acme.client.query("notify orders, 'ours'");
    await waitFor(async () => acme.heard.length === 1);
    assert.deepEqual(acme.heard, ['orders:ours own']);
    assert.deepEqual(cord.heard, []);
    for (const { client } of [acme, cord]) await client.end();
    await nobodyKeeps();
  });

  test('end with UNLISTEN and DISCARD ALL, and not with one of two channels', async () => {
    const { client, heard } = await listening('acme_app', '', 'a', 'b');
    await keep(1);
    await client.query('unlisten a');
    await keep(1);
    await client.query("notify a; notify b, 'still'");
    await waitFor(async () => heard.length > 0);
    assert.deepEqual(heard, ['b:still own']);
    await client.query('unlisten *');
    await keep(0);
    await client.query("notify b, 'nobody'");
    await client.query('begin; listen a; rollback');
    await keep(0);
    await client.query('listen a');
    await keep(1);
    await client.query('discard all');
    await keep(0);
    for (let round = 0; round < 5; round++) {
      await client.query('listen a');
      await client.query('discard all');
    }
    await client.query("notify a, 'nobody'");
    await useAll('acme_app');
    assert.deepEqual(heard, ['b:still own']);
    await client.end();
  });

  test('need a tenant, since channels are its own', async () => {
    await router.with('any_app', async (client) => {
      await assert.rejects(client.query('listen orders'), refused('MD003'));
      await assert.rejects(client.query("notify orders, 'x'"), refused('MD003'));
      await assert.rejects(client.query('select pg_advisory_lock(1)'), refused('MD003'));
    });
  });

  test('work in pipelines of the extended protocol, as drivers say them', async () => {
    const client = await RawClient.login(router.port, keyspace.ca.bundle, { user: 'acme_app', password, database });
    const said = (sql: string): Buffer[] => [
      message(0x50, '', sql, int16(0)),
      message(0x42, '', '', int16(0), int16(0), int16(0)),
      message(0x44, Buffer.from('P'), ''),
      message(0x45, '', int32(0)),
      syncMessage,
    ];
    client.send(...said('listen jdbc'));
    assert.equal(textsOf(await client.until('Z')), '12nCZI');
    client.send(...said("notify jdbc, 'hello'"));
    // It comes with the end of the transaction, and before the client may speak.
    assert.equal(textsOf(await client.until('Z')), '12nCAZI');
    client.end();
    await nobodyKeeps();
  });
});

describe('session advisory locks', () => {
  test('hold against every other session until they are let go, and are nobody’s after', async () => {
    const first = await router.connect('acme_app');
    const second = await router.connect('acme_app');
    assert.equal(await one(first, 'select pg_try_advisory_lock(42)'), true);
    await keep(1);
    for (let round = 0; round < 6; round++) assert.equal(await one(second, 'select pg_try_advisory_lock(42)'), false);
    await useAll('acme_app');
    // Counted, as in Postgres.
    assert.equal(await one(first, 'select pg_try_advisory_lock(42)'), true);
    assert.equal(await one(first, 'select pg_advisory_unlock(42)'), true);
    assert.equal(await one(second, 'select pg_try_advisory_lock(42)'), false);
    assert.equal(await one(first, 'select pg_advisory_unlock(42)'), true);
    assert.equal(await one(second, 'select pg_try_advisory_lock(42)'), true);
    await keep(1);
    // With the session they are gone.
    await second.end();
    await waitFor(async () => (await one(first, 'select pg_try_advisory_lock(42)')) === true);
    await first.query('select pg_advisory_unlock_all()');
    await keep(0);
    await first.end();
  });

  test('taken where nobody sees it are kept all the same', async () => {
    const first = await router.connect('acme_app');
    await first.query('do $$ begin perform pg_advisory_lock(43); end $$');
    await keep(1);
    await router.with('acme_app', async (other) =>
      assert.equal(await one(other, 'select pg_try_advisory_xact_lock(43)'), false),
    );
    await first.query('do $$ begin perform pg_advisory_unlock(43); end $$');
    await keep(0);
    await first.end();
  });
});

describe('temporary tables, held cursors, statements of SQL', () => {
  test('temporary tables last as long as their session wants, for it alone', async () => {
    const first = await router.connect('acme_app');
    await first.query('create temp table work (a int)');
    await first.query('insert into work select generate_series(1, 3)');
    await router.with('acme_app', (other) => assert.rejects(other.query('select * from work'), refused('42P01')));
    await useAll('acme_app');
    assert.equal(await one(first, 'select count(*)::int from work'), 3);
    await first.query('begin');
    assert.equal(await one(first, "select sum(a)::int from work, accounts where tenant_id = 'acme'"), 6);
    await first.query('rollback');
    await first.query('drop table work');
    await keep(0);
    await first.query('begin; create temp table short (a int) on commit drop; insert into short values (1); commit');
    await keep(0);
    await first.query('create temp table work (a int); insert into work values (7)');
    await first.query('discard temp');
    await keep(0);
    await assert.rejects(first.query('select * from work'), refused('42P01'));
    await first.end();
  });

  test('a cursor WITH HOLD outlives its transaction', async () => {
    const client = await router.connect('acme_app');
    await client.query('begin');
    await client.query('declare c cursor with hold for select generate_series(1, 10) as n from accounts');
    await client.query('commit');
    await keep(1);
    await useAll('acme_app');
    assert.equal((await client.query('fetch 4 from c')).rows.length, 4);
    assert.equal((await client.query('fetch all from c')).rows.length, 6);
    await client.query('close c');
    await keep(0);
    await assert.rejects(client.query('fetch 1 from c'), refused('34000'));
    await client.end();
  });

  test('PREPARE, EXECUTE and DEALLOCATE of SQL', async () => {
    const first = await router.connect('acme_app');
    const second = await router.connect('acme_app');
    await first.query('prepare add (int, int) as select $1 + $2 as sum');
    await assert.rejects(second.query('execute add (1, 2)'), refused('26000'));
    await second.query('prepare add (int, int) as select $1 * $2 as sum');
    for (let round = 0; round < 3; round++) {
      assert.equal(await one(first, 'execute add (3, 4)'), 7);
      assert.equal(await one(second, 'execute add (3, 4)'), 12);
    }
    // Beside statements of the protocol, with the same names at the backend or not.
    const named = { name: 'add2', text: 'select $1::int - 1 as less', values: [5] };
    assert.deepEqual((await first.query(named)).rows, [{ less: 4 }]);
    await first.query('deallocate all');
    await keep(1);
    await assert.rejects(first.query('execute add (3, 4)'), refused('26000'));
    await second.query('deallocate add');
    await keep(0);
    await first.end();
    await second.end();
    await useAll('acme_app');
  });
});

describe('what is kept', () => {
  test('is bounded for a role, so that the others still have connections', async () => {
    const clients: pg.Client[] = [];
    const errors: (string | undefined)[] = [];
    for (let index = 0; index < 4; index++) {
      const client = await router.connect('acme_app');
      clients.push(client);
      await client.query('listen crowd').catch((error: unknown) => errors.push(codeOf(error)));
    }
    assert.deepEqual(errors, ['53300', '53300']);
    await keep(2);
    await useAll('acme_app');
    // Who was refused goes on without.
    assert.equal(await one(clients[3] as pg.Client, 'select 1'), 1);
    for (const client of clients) await client.end();
    await nobodyKeeps();
  });

  test('another tenant’s statement is refused where its shard is another', async () => {
    const client = await router.connect('any_app');
    await client.query("set meridian.tenant = 'acme'");
    await client.query('listen c');
    await client.query("set meridian.tenant = 'cord'");
    assert.equal(await one(client, 'select min(tenant_id) from accounts'), 'cord');
    await client.query("set meridian.tenant = 'acme'");
    assert.equal(await one(client, 'select min(tenant_id) from accounts'), 'acme');
    await client.query("set meridian.tenant = 'bolt'");
    await assert.rejects(client.query('select * from accounts'), refused('0A000'));
    await client.query('discard all');
    await client.query("set meridian.tenant = 'bolt'");
    assert.equal(await one(client, 'select min(tenant_id) from accounts'), 'bolt');
    await client.end();
  });

  test('settings stay with the session that keeps its connection, and are gone from it after', async () => {
    const client = await router.connect('acme_app');
    await client.query("set app.theme = 'dark'");
    await client.query('select pg_advisory_lock(7)');
    assert.equal(await one(client, "select current_setting('app.theme')"), 'dark');
    await client.query("set app.theme = 'light'");
    await client.query("begin; set app.theme = 'none'; rollback");
    await client.query('select pg_advisory_unlock(7)');
    await useAll(
      'acme_app',
      "select coalesce(nullif(current_setting('app.theme', true), ''), 'unset')::int from accounts",
    ).then(
      () => assert.fail('a setting was left'),
      (error: unknown) => assert.match(String(error), /"unset"/),
    );
    assert.equal(await one(client, "select current_setting('app.theme')"), 'light');
    await client.end();
  });

  test('a session is ended with its connection, since what it had is gone', async () => {
    const client = await RawClient.login(router.port, keyspace.ca.bundle, { user: 'acme_app', password, database });
    client.send(queryMessage('listen c'));
    await client.until('Z');
    await keyspace.asOperator('one-eu-0', (operator) =>
      operator.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'acme_app'"),
    );
    assert.equal(sqlstateOf(await client.next('E')), '08006');
    await client.closed();
    await nobodyKeeps();
    // Those that nobody keeps have ended, too, before the next one is lent.
    await waitFor(async () => (await keyspace.backends('one-eu-0', "usename = 'acme_app'")) === 0);
  });

  test('is cut by a new epoch like everything else, with what became of it', async () => {
    const login = (): Promise<RawClient> =>
      RawClient.login(router.port, keyspace.ca.bundle, { user: 'acme_app', password, database });
    const [resting, writing] = await Promise.all([login(), login()]);
    for (const client of [resting, writing]) {
      client.send(queryMessage('listen c'));
      await client.until('Z');
    }
    writing.send(queryMessage("begin; insert into accounts (tenant_id, id) values ('acme', 900)"));
    await writing.until('Z');
    const map = keyspace.map();
    await keyspace.writeMap({
      ...map,
      shards: map.shards.map((shard) => (shard.name === 'one' ? { ...shard, epoch: 2 } : shard)),
    });
    assert.equal(sqlstateOf(await resting.next('E')), '08006');
    assert.equal(sqlstateOf(await writing.next('E')), '40001');
    await Promise.all([resting.closed(), writing.closed()]);
    await nobodyKeeps();
    await router.with('acme_app', async (client) => {
      await client.query('listen c');
      assert.equal(await one(client, 'select count(*)::int from accounts where id = 900'), 0);
    });
  });
});
