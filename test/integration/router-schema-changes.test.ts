/**
 * Tables change while clients have statements prepared: rows never come in another shape than the client was told. Who asks with each
 * execution sees the new one; who relies on what it was told hears Postgres' own error, on whatever backend, until it prepares again.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type pg from 'pg';
import { queryMessage, syncMessage } from '#router/wire/client-messages.ts';
import { readErrorFields } from '#router/wire/server-messages.ts';
import { int16, message } from '#router/wire/writer.ts';
import { eventually } from './router-assertions.ts';
import { database, password, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
import { RawClient, type RawMessage, textsOf } from './router-raw-client.ts';

let keyspace: RouterKeyspace;
let router: TestRouter;
let columns = 0;

before(async () => {
  keyspace = await RouterKeyspace.start();
  router = await keyspace.router('eu');
  await router.with('acme_app', (client) => client.query("insert into notes (tenant_id, body) values ('acme', 'one')"));
});
after(() => keyspace?.stop());

const addColumn = (): Promise<unknown> => {
  columns += 1;
  return keyspace.asOperator('one-eu-0', (operator) => operator.query(`alter table notes add column c${columns} int`));
};
const login = (): Promise<RawClient> =>
  RawClient.login(router.port, keyspace.ca.bundle, { user: 'acme_app', password, database });

const prepare = (name: string, sql: string): Buffer[] => [
  message(0x50, name, sql, int16(0)),
  message(0x44, Buffer.from('S'), name),
  syncMessage,
];
const run = (name: string): Buffer[] => [
  message(0x42, '', name, int16(0), int16(0), int16(0)),
  message(0x45, '', 0),
  syncMessage,
];
const close = (name: string): Buffer => message(0x43, Buffer.from('S'), name);

async function say(client: RawClient, ...messages: Buffer[]): Promise<RawMessage[]> {
  client.send(...messages);
  return client.until('Z');
}
async function errorTo(client: RawClient, ...messages: Buffer[]): Promise<ReadonlyMap<string, string>> {
  const answers = await say(client, ...messages);
  assert.match(textsOf(answers), /^2?EZ[IE]$/);
  const { frame } = answers.find(({ type }) => type === 'E') as RawMessage;
  return readErrorFields(frame, 0, frame.length);
}
async function refused(client: RawClient, ...messages: Buffer[]): Promise<void> {
  const fields = await errorTo(client, ...messages);
  const said = [fields.get('C'), fields.get('M'), fields.get('R')];
  assert.deepEqual(said, ['0A000', 'cached plan must not change result type', 'RevalidateCachedQuery']);
}

test('a client that has each execution described sees the new columns, by itself and not in a transaction that began before', async () => {
  await router.with('acme_app', async (client) => {
    const read = async (): Promise<number> =>
      (await client.query({ name: 'all', text: 'select * from notes' })).fields.length;
    // Often enough to share a connection.
    for (let round = 0; round < 40; round++) assert.equal(await read(), 3 + columns);
    await addColumn();
    for (let round = 0; round < 5; round++) assert.equal(await read(), 3 + columns);
    await client.query('begin');
    await client.query('select 1 from accounts');
    await addColumn();
    // Where its connection has made it before, as Postgres says; else it is made only now.
    await read().then(
      (seen) => assert.equal(seen, 3 + columns),
      (error: pg.DatabaseError) => assert.equal(error.code, '0A000'),
    );
    await client.query('rollback');
    assert.equal(await read(), 3 + columns);
  });
});

test('a client that relies on what it was told is refused until it prepares again, whether its backend knows of it or not', async () => {
  const bodyOf = (): Promise<string> =>
    router.with('acme_app', async (client) => {
      const { rows } = await client.query<{ body: string }>('select body from notes');
      return rows[0]?.body ?? '';
    });
  for (const isRead of [true, false]) {
    const sql = isRead ? 'select * from notes' : "update notes set body = body || '!' returning *";
    const [client, other, ...holders] = await Promise.all([login(), login(), login(), login(), login()]);
    for (const one of [client, other]) {
      assert.match(textsOf(await say(one, ...prepare('s', sql))), /^1tTZI$/);
      for (let round = 0; round < 20; round++) assert.equal(textsOf(await say(one, ...run('s'))), '2DCZI');
    }
    await addColumn();
    // The backends that have the statement are others' for a while: the first one is made anew for this.
    for (const holder of holders) {
      await say(holder, queryMessage('begin'));
      await say(holder, queryMessage('select 1 from accounts'));
    }
    if (isRead) await refused(client, ...run('s'));
    else assert.equal((await errorTo(client, ...run('s'))).get('C'), '08007');
    for (const holder of holders) await say(holder, queryMessage('rollback'));
    const body = await bodyOf();
    for (let round = 0; round < 3; round++) for (const one of [client, other]) await refused(one, ...run('s'));
    assert.equal(await bodyOf(), body);
    await say(other, queryMessage('begin'));
    await refused(other, ...run('s'));
    await say(other, queryMessage('rollback'));
    for (const one of [client, other]) {
      assert.match(textsOf(await say(one, close('s'), ...prepare('s', sql))), /^31tTZI$/);
      const [, row] = await say(one, ...run('s'));
      assert.equal(row?.frame.readUInt16BE(5), 3 + columns);
    }
    for (const one of [client, other, ...holders]) one.end();
  }
});

test('when a column gets another type, simple queries are read by it at once, and what a client has prepared before keeps the type that it had or is refused', async () => {
  const alter = (text: string): Promise<unknown> =>
    keyspace.asOperator('one-eu-0', (operator) => operator.query(`alter table notes ${text}`));
  await alter('add column due date');
  await router.with('acme_app', async (client) => {
    await client.query("update notes set due = '2026-01-02'");
    const noon = "select 1 from notes where due = '2026-01-02 12:00'";
    // Often enough to share a connection, and for a generic plan.
    for (let round = 0; round < 40; round++) assert.equal((await client.query(noon)).rowCount, 1);
    const prepared = { name: 'due', text: 'select 1 from notes where due = $1', values: ['2026-01-02 12:00'] };
    for (let round = 0; round < 40; round++) assert.equal((await client.query(prepared)).rowCount, 1);

    await alter('alter due type timestamp');
    for (let round = 0; round < 40; round++) assert.equal((await client.query(noon)).rowCount, 0);
    await eventually(() => router.with('acme_app', async (other) => (await other.query(prepared)).rowCount), 0);
    // As with Postgres, or refused where it had to be made anew.
    const others = await Promise.all([login(), login(), login()]);
    for (const other of others) {
      await say(other, queryMessage('begin'));
      await say(other, queryMessage('select 1 from accounts'));
      await client.query(prepared).then(
        ({ rowCount }) => assert.equal(rowCount, 1),
        (error: pg.DatabaseError) => assert.equal(error.code, '0A000'),
      );
    }
    for (const other of others) other.end();
  });
});
