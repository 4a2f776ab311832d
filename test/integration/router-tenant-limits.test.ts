/** What one tenant may cost the others: limits of tenants and roles, turns at the pool, idle clients, and changes of all that at run time. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { MapFile } from '#router/map/file-source.ts';
import { codeOf, one, refused, waitFor } from './router-assertions.ts';
import { RouterKeyspace, type TestRouter } from './router-keyspace.ts';

type Limits = NonNullable<MapFile['tenants'][number]['limits']>;
let keyspace: RouterKeyspace;
let router: TestRouter;

before(async () => {
  keyspace = await RouterKeyspace.start();
  router = await keyspace.router('eu');
});
after(() => keyspace?.stop());

let changes = 0;

/** Until the router goes by it: each change has one more tenant than the one before, and the router says how many it knows. */
async function apply(
  change: Partial<MapFile['keyspace']>,
  limits: Readonly<Record<string, Limits>> = {},
): Promise<void> {
  const map = keyspace.map(change);
  changes += 1;
  const counted = Array.from({ length: changes }, (_, index) => ({ key: `change-${index}`, shard: 'one' }));
  await keyspace.writeMap({
    ...map,
    tenants: [...map.tenants.map((tenant) => ({ ...tenant, limits: limits[tenant.key] })), ...counted],
  });
  await waitFor(async () => router.worker.gauges['tenants'] === map.tenants.length + changes);
}

async function connectAs(tenant: string): Promise<pg.Client> {
  const client = await router.connect('any_app');
  await client.query(`set meridian.tenant = '${tenant}'`);
  return client;
}
const endAll = (clients: readonly pg.Client[]): Promise<unknown> => Promise.all(clients.map((client) => client.end()));

describe('limits', () => {
  test('connections of a tenant are those that are fixed to it or have chosen it, and a place is free when one goes or chooses another', async () => {
    await apply({}, { acme: { connections: 2 } });
    const fixed = await router.connect('acme_app');
    const chosen = await connectAs('acme');
    await assert.rejects(router.connect('acme_app'), refused('53300'));
    await assert.rejects(router.connect('any_app', { options: '-c meridian.tenant=acme' }), refused('53300'));
    const third = await connectAs('cord');
    await assert.rejects(third.query("set meridian.tenant = 'acme'"), refused('53300'));
    assert.equal(await one(third, 'show meridian.tenant'), 'cord');
    await chosen.query('begin');
    await chosen.query("set meridian.tenant = 'cord'");
    await assert.rejects(third.query("set meridian.tenant = 'acme'"), refused('53300'));
    await chosen.query('rollback');
    await assert.rejects(third.query("set meridian.tenant = 'acme'"), refused('53300'));
    await chosen.query("set meridian.tenant = 'cord'");
    await third.query("set meridian.tenant = 'acme'");
    await fixed.end();
    await waitFor(async () => {
      try {
        await (await router.connect('acme_app')).end();
        return true;
      } catch (error) {
        assert.equal(codeOf(error), '53300');
        return false;
      }
    });
    await endAll([chosen, third]);
  });

  test('connections of a role', async () => {
    await apply({ roleLimits: { pair_app: { connections: 1 } } });
    const first = await router.connect('pair_app');
    await assert.rejects(router.connect('pair_app'), refused('53300'));
    await first.end();
  });

  test('what is in flight for one tenant waits its turn, while others go on', async () => {
    await apply({}, { acme: { transactionsInFlight: 1 } });
    const [holder, waiter, other] = [await connectAs('acme'), await connectAs('acme'), await connectAs('cord')];
    await holder.query('begin');
    await holder.query('select count(*) from accounts');
    let isDone = false;
    const waiting = waiter.query('select count(*) from accounts').then(() => {
      isDone = true;
    });
    for (let round = 0; round < 5; round++) await other.query('select count(*) from accounts');
    assert.equal(isDone, false);
    await holder.query('select count(*) from accounts');
    await holder.query('commit');
    await waiting;
    await endAll([holder, waiter, other]);
  });

  test('a client that goes while it holds its tenant’s only turn leaves it to the next', async () => {
    await apply({}, { acme: { transactionsInFlight: 1 } });
    const [holder, waiter] = [await connectAs('acme'), await connectAs('acme')];
    await holder.query('begin');
    await holder.query('select count(*) from accounts');
    const waiting = waiter.query('select count(*) from accounts');
    await sleep(50);
    await holder.end();
    await waiting;
    await waiter.end();
  });

  test('more statements in a second than a tenant may run are refused, a COMMIT is not, and a higher limit counts at once', async () => {
    await apply({}, { acme: { statementsPerSecond: 2 } });
    const client = await router.connect('acme_app');
    await client.query('begin');
    const codes = await Promise.all(
      Array.from({ length: 20 }, () => client.query('select 1 from accounts').then(() => 'ok', codeOf)),
    );
    assert.ok(codes.filter((code) => code === 'ok').length <= 10);
    assert.ok(codes.includes('53400'));
    assert.equal((await client.query('commit')).command, 'ROLLBACK');
    await router.with('bolt_app', async (other) => {
      for (let index = 0; index < 20; index++) await other.query('select 1 from accounts');
    });
    await apply({}, { acme: { statementsPerSecond: 100_000 } });
    for (let index = 0; index < 20; index++) await client.query('select 1 from accounts');
    await client.end();
  });

  test('a statement runs no longer than its tenant allows, whatever the session asks for; the next tenant has its own', async () => {
    await apply({}, { acme: { statementTimeoutMs: 1_000 } });
    const client = await connectAs('acme');
    await assert.rejects(client.query('select pg_sleep(5)'), refused('57014'));
    await client.query("set statement_timeout = '1h'");
    await assert.rejects(client.query('select pg_sleep(5)'), refused('57014'));
    await client.query("set statement_timeout = '500ms'");
    assert.equal(await one(client, 'show statement_timeout'), '500ms');
    await client.query("set meridian.tenant = 'cord'");
    assert.equal(await one(client, 'show statement_timeout'), '500ms');
    await client.query('reset statement_timeout');
    assert.equal(await one(client, 'show statement_timeout'), '0');
    await client.query("set meridian.tenant = 'acme'");
    assert.equal(await one(client, 'show statement_timeout'), '1s');
    await router.with('any_app', async (other) => {
      await other.query("set meridian.tenant = 'cord'");
      for (let index = 0; index < 6; index++) assert.equal(await one(other, 'show statement_timeout'), '0');
    });
    await client.end();
  });
});

describe('turns at the pool', () => {
  test('a tenant with one statement is served next to one with hundreds waiting, and one with long transactions never holds every connection', async () => {
    await apply({ poolSize: 2, maxClients: 500 });
    const crowd = await Promise.all(Array.from({ length: 80 }, () => connectAs('acme')));
    const single = await connectAs('cord');
    await single.query('select count(*) from accounts');
    const begun = performance.now();
    let done = 0;
    const work = crowd.map((client) =>
      client.query('select pg_sleep(0.03), count(*) from accounts').then(() => {
        done += 1;
      }),
    );
    await waitFor(async () => done >= 2);
    const asked = performance.now();
    await single.query('select count(*) from accounts for update').catch(() => undefined);
    await single.query('update accounts set balance = balance');
    const waited = performance.now() - asked;
    const before = done;
    await Promise.all(work);
    const all = performance.now() - begun;
    assert.ok(before < 60, `${before} of the crowd were served first`);
    assert.ok(waited < all / 2, `waited ${waited} ms of ${all}`);
    await Promise.all(crowd.slice(0, 5).map((client) => client.query('begin')));
    const open = crowd.slice(0, 5).map((client) => client.query('select count(*) from accounts'));
    await open[0];
    await sleep(100);
    await single.query('update accounts set balance = balance');
    for (const client of crowd.slice(0, 5)) void client.query('rollback').catch(() => undefined);
    await Promise.all(open);
    await endAll([...crowd, single]);
  });
});

describe('idle clients', () => {
  test('are sent off with Postgres’ own words: outside a transaction, in one (which is undone), and not while they work', async () => {
    const [quiet, open, busy] = [
      await router.connect('acme_app'),
      await router.connect('acme_app'),
      await router.connect('acme_app'),
    ];
    const ends = new Map<pg.Client, string>();
    for (const client of [quiet, open, busy])
      client.on('error', (error) => ends.set(client, ends.get(client) ?? codeOf(error)));
    await open.query('begin');
    await open.query("insert into notes (tenant_id, body) values ('acme', 'never')");
    // All is under way before it counts, and the limit is lifted as soon as the long statement is over.
    const working = busy.query('select pg_sleep(4)').then(() => apply({ idleSessionMs: 0, idleInTransactionMs: 0 }));
    await apply({ idleSessionMs: 1_000, idleInTransactionMs: 500 });
    await waitFor(async () => ends.has(quiet) && ends.has(open));
    assert.deepEqual([ends.get(quiet), ends.get(open)], ['57P05', '25P03']);
    await working;
    assert.equal(await one(busy, 'select count(*) from notes'), '0');
    await sleep(1_300);
    assert.equal(await one(busy, 'select 1'), 1);
    await busy.end();
  });
});

describe('a change of the keyspace', () => {
  test('is taken over without the loss of a connection or an error: pool size, clients, limits, idle times', async () => {
    await apply({ poolSize: 2 });
    const clients = await Promise.all(
      Array.from({ length: 12 }, (_, index) => connectAs(index % 2 === 0 ? 'acme' : 'cord')),
    );
    const over = new AbortController();
    let done = 0;
    const work = clients.map(async (client, index) => {
      while (!over.signal.aborted) {
        await client.query('begin');
        await client.query('update accounts set balance = balance where id = $1', [index]);
        await client.query('commit');
        done += 1;
      }
    });
    for (const poolSize of [6, 1, 8]) {
      const before = done;
      await apply(
        { poolSize, maxClients: 100 + poolSize, idleInTransactionMs: 60_000 },
        { acme: { connections: 50 + poolSize } },
      );
      await waitFor(async () => done > before + 24);
    }
    await waitFor(async () => (await keyspace.backends('one-eu-0', "usename = 'any_app'")) > 2);
    over.abort();
    await Promise.all(work);
    await endAll(clients);
  });
});
