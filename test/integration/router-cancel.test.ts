/** A cancel on its way: until it has surely arrived, nothing that it could hit is sent behind the statement that it was meant for. */
import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { connect, createServer, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { flushMessage, queryMessage, syncMessage } from '#router/wire/client-messages.ts';
import { cancelRequest } from '#router/wire/startup.ts';
import { int16, message } from '#router/wire/writer.ts';
import { waitFor } from './router-assertions.ts';
import { database, password, patientTimes, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
import { RawClient, sqlstateOf, textsOf } from './router-raw-client.ts';

const primary = 'one-eu-0';
let keyspace: RouterKeyspace;
let router: TestRouter;
/** Stands before the primary; while the gate is shut, new connections wait there, and those that exist go on. */
let gate: Promise<void> = Promise.resolve();
let held = 0;
const proxy = createServer((socket) => void pass(socket));

async function pass(socket: Socket): Promise<void> {
  socket.on('error', () => socket.destroy());
  held += 1;
  await gate;
  held -= 1;
  const onwards = connect({ host: keyspace.member(primary).address, port: 5432 });
  onwards.on('error', () => socket.destroy());
  socket.pipe(onwards).pipe(socket);
}

before(async () => {
  keyspace = await RouterKeyspace.start();
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const map = keyspace.map();
  const { port } = proxy.address() as AddressInfo;
  const members = map.members.map((one) => (one.name === primary ? { ...one, address: '127.0.0.1', port } : one));
  await keyspace.writeMap({ ...map, members });
  // A cancel whose connection takes longer than that is given up, and its backend with it.
  router = await keyspace.router('eu', { times: { ...patientTimes, connectMs: 30_000 } });
});
after(async () => {
  proxy.close();
  await keyspace?.stop();
});

const run = (sql: string): Buffer[] => [
  message(0x50, '', sql, int16(0)),
  message(0x42, '', '', int16(0), int16(0), int16(0)),
  message(0x45, '', 0),
];
const exists = (id: number): Promise<boolean> =>
  keyspace.asOperator(primary, async (operator) => {
    const { rowCount } = await operator.query('select from accounts where id = $1', [id]);
    return (rowCount ?? 0) > 0;
  });

async function cancel(client: RawClient): Promise<void> {
  const canceller = RawClient.plain(await RawClient.tcp(router.port));
  canceller.send(cancelRequest(client.processId, client.secret));
}

test('a COMMIT in the same open pipeline waits for the cancel before it', async () => {
  const client = await RawClient.login(router.port, keyspace.ca.bundle, { user: 'acme_app', password, database });
  client.send(queryMessage("begin; insert into accounts (tenant_id, id) values ('acme', 501)"));
  await client.until('Z');
  client.send(...run('select pg_sleep(4)'), flushMessage);
  await waitFor(async () => (await keyspace.backends(primary, "wait_event = 'PgSleep'")) === 1);
  const shut = Promise.withResolvers<void>();
  gate = shut.promise;
  await cancel(client);
  await waitFor(async () => held === 1);
  // The statement ends by itself while the cancel is still on its way.
  await client.next('C');
  client.send(...run('commit'), syncMessage);
  await sleep(300);
  assert.ok(!(await exists(501)), 'the COMMIT must not be there for the cancel to hit');
  shut.resolve();
  const answers = await client.until('Z');
  assert.equal(textsOf(answers).slice(-2), 'ZI', textsOf(answers));
  assert.ok(await exists(501));
  client.end();
});

test('an UPDATE by itself, a COMMIT, and what may commit unseen are never cancelled', async () => {
  const forwarded = (): number => router.worker.metrics.get('cancels_forwarded_total');
  const before = forwarded();
  for (const sql of [
    "update accounts set balance = 1 where tenant_id = 'acme' and pg_sleep(3) is not null and id = 501",
    'begin; select pg_sleep(3); commit',
    'do $$ begin perform pg_sleep(3); end $$',
  ]) {
    const client = await RawClient.login(router.port, keyspace.ca.bundle, { user: 'acme_app', password, database });
    client.send(queryMessage(sql));
    await waitFor(async () => (await keyspace.backends(primary, "wait_event = 'PgSleep'")) === 1);
    await cancel(client);
    const answers = await client.until('Z');
    assert.equal(
      answers
        .filter((one) => one.type === 'E')
        .map(sqlstateOf)
        .join(),
      '',
      sql,
    );
    client.end();
  }
  assert.equal(forwarded(), before);
});
