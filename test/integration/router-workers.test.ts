/**
 * The router's program with two event loops in threads: clients are spread over both by the kernel, and what concerns the router as a
 * whole (cancels, the admin database, metrics, bounds, its end) holds for both.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { placeOf } from '#router/session/cancel-keys.ts';
import { queryMessage } from '#router/wire/client-messages.ts';
import { cancelRequest } from '#router/wire/startup.ts';
import { codeOf, waitFor } from './router-assertions.ts';
import { database, password, RouterKeyspace } from './router-keyspace.ts';
import { RouterProcess } from './router-process.ts';
import { RawClient, type RawMessage, sqlstateOf, textsOf } from './router-raw-client.ts';

const [port, httpPort] = [26_434, 26_435];
const workers = [0, 1];
/** Chance decides which worker a connection comes to: so many go to one only, once in a million times. */
const manyTries = 24;
const admins = { ops: 'full' } as const;
let keyspace: RouterKeyspace;
let program: RouterProcess;

before(async () => {
  keyspace = await RouterKeyspace.start();
  await keyspace.letIn('ops');
  await keyspace.writeMap(keyspace.map({ admins }));
  program = await RouterProcess.start(keyspace, { port, httpPort, environment: { MERIDIAN_WORKERS: '2' } });
});
after(async () => {
  program?.kill();
  await keyspace?.stop();
});
/** Of the test at hand. */
const open: { end(): unknown }[] = [];
afterEach(async () => {
  for (const client of open.splice(0)) client.end();
  await waitFor(async () => program.log.includes('draining') || (await program.metric('clients')) === 0);
});

async function login(): Promise<RawClient> {
  const client = await RawClient.login(port, keyspace.ca.bundle, { user: 'acme_app', password, database });
  open.push(client);
  return client;
}
const workerOf = ({ processId }: RawClient): number => placeOf(processId).worker;

/** One client at each worker. */
async function oneEach(): Promise<RawClient[]> {
  const found = new Map<number, RawClient>();
  for (let tried = 0; found.size < workers.length; tried++) {
    assert.ok(tried < manyTries, 'all connections come to one worker');
    const client = await login();
    if (found.has(workerOf(client))) client.end();
    else found.set(workerOf(client), client);
  }
  return workers.map((worker) => found.get(worker) as RawClient);
}

async function ask(client: RawClient, sql: string): Promise<RawMessage[]> {
  client.send(queryMessage(sql));
  return client.until('Z');
}

async function connect(user: string, more: pg.ClientConfig = {}): Promise<pg.Client> {
  const ssl = { ca: keyspace.ca.bundle };
  const client = new pg.Client({ host: 'localhost', port, user, password, database, ssl, ...more });
  client.on('error', () => undefined);
  await client.connect();
  open.push({ end: () => client.end().catch(() => undefined) });
  return client;
}

async function asAdmin<T>(use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = await connect('ops', { database: 'meridian' });
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

describe('two workers', () => {
  test('both take clients, and count them together', async () => {
    const before = await program.metric('statements_total');
    const clients = await oneEach();
    for (const client of clients) assert.equal(textsOf(await ask(client, 'select count(*) from accounts')), 'TDCZI');
    await waitFor(async () => (await program.metric('clients')) === 2);
    assert.equal((await program.metric('statements_total')) - before, 2);
    for (const client of clients) client.end();
  });

  test('a cancel reaches its session, whichever of them it comes to', async () => {
    const clients = await oneEach();
    for (let round = 0; round < manyTries; round++) {
      const client = clients[round % 2] as RawClient;
      await ask(client, 'begin');
      client.send(queryMessage('select pg_sleep(60)'));
      await waitFor(async () => (await keyspace.backends('one-eu-0', "wait_event = 'PgSleep'")) === 1);
      const canceller = RawClient.plain(await RawClient.tcp(port));
      canceller.send(cancelRequest(client.processId, client.secret));
      await canceller.closed();
      const answers = await client.until('Z');
      const errors = answers.filter(({ type }) => type === 'E').map(sqlstateOf);
      assert.deepEqual(errors, ['57014'], `round ${round}: ${textsOf(answers)}`);
      await ask(client, 'rollback');
    }
    for (const client of clients) client.end();
  });

  test('a role has no more connections to a member than with one', async () => {
    const clients = await Promise.all(Array.from({ length: manyTries }, () => connect('acme_app')));
    await Promise.all(clients.map((client) => client.query('select pg_sleep(0.2)')));
    const used = await keyspace.backends('one-eu-0', "usename = 'acme_app'");
    assert.ok(used >= 2 && used <= 5, `${used}`);
    await Promise.all(clients.map((client) => client.end()));
  });

  test('the admin database shows the clients of both, and sums', async () => {
    const clients = await oneEach();
    for (const client of clients) await ask(client, 'begin; select count(*) from accounts');
    await asAdmin(async (admin) => {
      const { rows } = await admin.query<Record<string, unknown>>('SHOW CLIENTS');
      assert.equal(rows.filter(({ user }) => user === 'acme_app').length, 2);
      const pools = (await admin.query<Record<string, unknown>>('SHOW POOLS')).rows;
      const pool = pools.filter(({ user, member }) => user === 'acme_app' && member === 'one-eu-0');
      assert.deepEqual(
        pool.map(({ cl_active, sv_active }) => [cl_active, sv_active]),
        [[2, 2]],
      );
    });
    for (const client of clients) client.end();
  });

  test('PAUSE stops both, RESUME lets both go on, from whichever they are said', async () => {
    const clients = await oneEach();
    for (let round = 0; round < 6; round++) {
      await asAdmin((admin) => admin.query('PAUSE'));
      // Postgres ends those that were closed in its own time.
      await waitFor(async () => (await keyspace.backends('one-eu-0', "usename = 'acme_app'")) === 0);
      for (const client of clients) client.send(queryMessage('select count(*) from accounts'));
      await sleep(100);
      assert.deepEqual(
        clients.map((client) => client.types()),
        ['', ''],
      );
      await asAdmin((admin) => admin.query('RESUME'));
      for (const client of clients) assert.equal(textsOf(await client.until('Z')), 'TDCZI');
    }
    for (const client of clients) client.end();
  });

  test('the bound on clients is one for both, and a change of it that is reloaded counts at both', async () => {
    await keyspace.writeMap(keyspace.map({ admins, maxClients: 6 }));
    await asAdmin((admin) => admin.query('RELOAD'));
    const clients = await Promise.all(Array.from({ length: 6 }, () => connect('acme_app')));
    for (let tried = 0; tried < manyTries; tried++)
      await assert.rejects(connect('acme_app'), (error) => codeOf(error) === '53300');
    await keyspace.writeMap(keyspace.map({ admins }));
    await asAdmin((admin) => admin.query('RELOAD'));
    clients.push(...(await Promise.all(Array.from({ length: manyTries }, () => connect('acme_app')))));
    await Promise.all(clients.map((client) => client.end()));
  });

  test('the limits of a tenant are shared out: each has its part, and no more than all is had together', async () => {
    const map = keyspace.map({ admins });
    const limits = { connections: 4 };
    await keyspace.writeMap({
      ...map,
      tenants: map.tenants.map((tenant) => (tenant.key === 'acme' ? { ...tenant, limits } : tenant)),
    });
    await asAdmin((admin) => admin.query('RELOAD'));
    const clients: pg.Client[] = [];
    for (let tried = 0; tried < manyTries; tried++)
      await connect('acme_app').then(
        (client) => clients.push(client),
        (error: unknown) => assert.equal(codeOf(error), '53300'),
      );
    assert.equal(clients.length, 4);
    await Promise.all(clients.map((client) => client.end()));
    await keyspace.writeMap(map);
    await asAdmin((admin) => admin.query('RELOAD'));
  });
});

test('SIGTERM drains both: transactions end by their COMMIT, whoever is idle is told, and then the process ends', async () => {
  const busy = await oneEach();
  const idle = await oneEach();
  for (const [index, client] of busy.entries())
    await ask(client, `begin; insert into accounts (tenant_id, id) values ('acme', ${7_000 + index})`);
  program.terminate();
  for (const client of idle) assert.equal(sqlstateOf(await client.next('E')), '57P01');
  assert.equal(await program.status('/readyz'), 503);
  for (const client of busy) assert.equal(textsOf(await ask(client, 'commit')), 'CZI');
  for (const client of busy) assert.equal(sqlstateOf(await client.next('E')), '57P01');
  assert.equal(await program.ended(), 0, program.log);
  const kept = await keyspace.asOperator('one-eu-0', async (operator) => {
    const { rowCount } = await operator.query('select from accounts where id between 7000 and 7001');
    return rowCount;
  });
  assert.equal(kept, 2);
});
