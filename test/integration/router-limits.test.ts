/** What one client may cost the others: what it has the router keep is bounded, and so are those who never log in. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { message } from '#router/wire/writer.ts';
import { waitFor } from './router-assertions.ts';
import { database, password, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
import { RawClient, sqlstateOf, textsOf } from './router-raw-client.ts';

let keyspace: RouterKeyspace;
let router: TestRouter;

before(async () => {
  keyspace = await RouterKeyspace.start();
  await keyspace.writeMap(keyspace.map({ maxClients: 10 }));
  router = await keyspace.router('eu');
});
after(() => keyspace?.stop());

const int16 = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);
const parse = (name: string, sql: string): Buffer => message('P'.charCodeAt(0), name, sql, int16(0));
const bind = (portal: string, name: string): Buffer =>
  message('B'.charCodeAt(0), portal, name, int16(0), int16(0), int16(0));
const close = (name: string): Buffer => message('C'.charCodeAt(0), Buffer.from('S'), name);
const sync = message('S'.charCodeAt(0));
const query = (sql: string): Buffer => message('Q'.charCodeAt(0), sql);

const login = (): Promise<RawClient> =>
  RawClient.login(router.port, keyspace.ca.bundle, { user: 'acme_app', password, database });

test('prepared statements of one session are bounded in bytes, and closing some makes room', async () => {
  const client = await login();
  const long = 'x'.repeat(1_000_000);
  let kept = 0;
  for (;;) {
    client.send(parse(`s${kept}`, `select '${long}' is null as n${kept}`), sync);
    const answer = await client.until('Z');
    if (answer[0]?.type !== '1') {
      assert.equal(sqlstateOf(answer[0] as (typeof answer)[0]), '54000');
      break;
    }
    kept += 1;
    assert.ok(kept < 50, 'it never ends');
  }
  assert.ok(kept >= 3, `${kept} statements`);
  client.send(close('s0'), parse('again', `select '${long}' is null`), sync);
  assert.equal(textsOf(await client.until('Z')), '31ZI');
  client.end();
});

test('settings said to a transaction that no backend has yet, and portals of one that has, are bounded too', async () => {
  const client = await login();
  const ask = async (...bytes: Buffer[]): Promise<string> => {
    client.send(...bytes);
    const answer = await client.until('Z');
    const error = answer.find((one) => one.type === 'E');
    return error === undefined ? '' : (sqlstateOf(error) ?? '?');
  };
  const refusedAfter = async (most: number, make: (index: number) => Buffer[]): Promise<number> => {
    for (let index = 0; index < most; index++) {
      const code = await ask(...make(index));
      if (code === '54000') return index;
      assert.equal(code, '');
    }
    return most;
  };
  await ask(query('begin'));
  assert.ok((await refusedAfter(40, (index) => [query(`set app.x${index} = '${'x'.repeat(60_000)}'`)])) < 40);
  assert.equal(await ask(query('rollback')), '');
  await ask(query('begin'));
  await ask(parse('s', `select '${'x'.repeat(1_000_000)}' is null`), sync);
  assert.ok((await refusedAfter(40, (index) => [bind(`p${index}`, 's'), sync])) < 40);
  assert.equal(await ask(query('rollback')), '');
  assert.equal(await ask(query('select 1')), '');
  client.end();
});

test('connections that never log in are bounded, and others can log in once they have gone', async () => {
  const silent = await Promise.all(Array.from({ length: 200 }, () => RawClient.tcp(router.port)));
  const closed = (): number =>
    silent.filter((socket) => socket.closed || socket.readableEnded || socket.destroyed).length;
  for (const socket of silent) socket.resume();
  for (let round = 0; round < 1_500 && closed() < 136; round++) await sleep(20);
  assert.equal(silent.length - closed(), 64);
  for (const socket of silent) socket.destroy();
  // The router hears of it in its own time.
  await waitFor(() =>
    login().then(
      (client) => {
        client.end();
        return true;
      },
      () => false,
    ),
  );
});
