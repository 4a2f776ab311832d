/** Names and order in the extended protocol: a client reaches only what it made itself, and hears of everything in its turn. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { flushMessage, queryMessage, syncMessage } from '#router/wire/client-messages.ts';
import { int16, message } from '#router/wire/writer.ts';
import { database, password, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
import { RawClient, type RawMessage, sqlstateOf, textsOf } from './router-raw-client.ts';

let keyspace: RouterKeyspace;
let router: TestRouter;

before(async () => {
  keyspace = await RouterKeyspace.start();
  router = await keyspace.router('eu');
  await router.with('acme_app', (client) =>
    client.query("insert into accounts (tenant_id, id) select 'acme', n from generate_series(1, 10) n"),
  );
});
after(() => keyspace?.stop());

const login = (): Promise<RawClient> =>
  RawClient.login(router.port, keyspace.ca.bundle, { user: 'acme_app', password, database });

const parse = (name: string, sql: string): Buffer => message(0x50, name, sql, int16(0));
const bind = (portal: string, statement: string): Buffer =>
  message(0x42, portal, statement, int16(0), int16(0), int16(0));
const describePortal = (portal: string): Buffer => message(0x44, Buffer.from('P'), portal);
const describeStatement = (name: string): Buffer => message(0x44, Buffer.from('S'), name);
const execute = (portal: string, rows = 0): Buffer => message(0x45, portal, rows);

describe('a pipeline', () => {
  test('what is refused in a pipeline is refused in its turn, and undoes what came before', async () => {
    const client = await login();
    const refusedAfter = (before: string): Buffer[] => [
      parse('', before),
      bind('', ''),
      execute(''),
      flushMessage,
      parse('', 'selec 1'),
      bind('', ''),
      execute(''),
      syncMessage,
    ];
    client.send(...refusedAfter("insert into accounts (tenant_id, id) select 'acme', 701 from pg_sleep(0.2)"));
    const answers = await client.until('Z');
    assert.equal(textsOf(answers), '12CEZI');
    assert.equal(sqlstateOf(answers[3] as RawMessage), '42601');
    client.send(queryMessage('select id from accounts where id = 701'));
    assert.equal(textsOf(await client.until('Z')), 'TCZI');
    client.send(...refusedAfter('select 1/(id - id) from accounts'));
    const failed = await client.until('Z');
    assert.equal(textsOf(failed), '12EZI');
    assert.equal(sqlstateOf(failed[2] as RawMessage), '22012');
    client.send(queryMessage('begin'), queryMessage('select 1'));
    await client.until('Z');
    await client.until('Z');
    client.send(...refusedAfter('select pg_sleep(0.2)'));
    assert.equal(textsOf(await client.until('Z')), '12DCEZE');
    client.send(queryMessage('select 1'), queryMessage('rollback'), queryMessage('select 2'));
    const rest = [...(await client.until('Z')), ...(await client.until('Z')), ...(await client.until('Z'))];
    assert.equal(textsOf(rest), 'EZECZITDCZI');
    client.end();
  });

  test('Flush brings answers also after a message so long that it was sent on by itself', async () => {
    const client = await login();
    client.send(parse('', `select '${'x'.repeat(5_000_000)}' is null`), flushMessage);
    assert.equal(textsOf(await client.until('1')), '1');
    client.send(flushMessage, bind('', ''), execute(''), flushMessage);
    assert.equal(textsOf(await client.until('C')), '2DC');
    client.send(syncMessage);
    assert.equal(textsOf(await client.until('Z')), 'ZI');
    client.end();
  });
});

describe('a query where a Sync was to be expected', () => {
  const one = queryMessage('select 1');

  test('is answered behind what was made and described, with one ReadyForQuery for both', async () => {
    const client = await login();
    const described = [parse('s', 'select id from accounts'), describeStatement('s')];
    const local = [parse('', "set meridian.consistency = 'strong'"), describeStatement('')];
    const begin = queryMessage('begin');
    for (const [status, before] of [
      ['I', []],
      ['T', [begin]],
    ] as const)
      for (const [messages, expected] of [
        [[...described, flushMessage, one], '1tTTDCZ'],
        [[...described, one], '1tTTDCZ'],
        [[...local, flushMessage, one], '1tnTDCZ'],
        [[...local, one], '1tnTDCZ'],
      ] as const) {
        client.send(...before);
        if (before.length > 0) await client.until('Z');
        client.send(...messages, syncMessage);
        assert.equal(textsOf(await client.until('Z')), expected + status);
        assert.equal(textsOf(await client.until('Z')), `Z${status}`);
        client.send(message(0x43, Buffer.from('S'), 's'), syncMessage, queryMessage('rollback'));
        await client.until('Z');
        await client.until('Z');
      }
    client.send(bind('', 's'), syncMessage);
    assert.equal(textsOf(await client.until('Z')), 'EZI');
    client.end();
  });

  test('is passed over with all that follows an error, up to the Sync', async () => {
    const client = await login();
    for (const wrong of ['selec 1', 'select nothing_there', "select * from accounts where tenant_id = 'bolt'"])
      for (const between of [[], [flushMessage]]) {
        client.send(parse('', wrong), describeStatement(''), ...between, one, one, syncMessage, one);
        const answers = await client.until('Z');
        assert.match(textsOf(answers), /^(?:1t?)?EZI$/, wrong);
        assert.equal(textsOf(await client.until('Z')), 'TDCZI');
      }
    client.end();
  });

  test('ends the connection where it would share a transaction with what was executed', async () => {
    for (const between of [[], [flushMessage]]) {
      const client = await login();
      client.send(parse('', 'select 1'), bind('', ''), execute(''), ...between, one);
      assert.equal(sqlstateOf(await client.next('E')), '08P01');
      client.end();
    }
  });
});

describe('a name', () => {
  test('a name that a client has not prepared means nothing, whoever else has prepared it on the same backend', async () => {
    const [owner, other] = [await login(), await login()];
    const refusedTo = async (client: RawClient, ...messages: Buffer[]): Promise<string | undefined> => {
      client.send(...messages, syncMessage);
      const answers = await client.until('Z');
      assert.equal(textsOf(answers), 'EZI');
      return sqlstateOf(answers[0] as RawMessage);
    };
    for (const name of ['', 'mine']) {
      owner.send(parse(name, "select 'a secret'"), bind('', name), execute(''), syncMessage);
      assert.equal(textsOf(await owner.until('Z')), '12DCZI');
      assert.equal(await refusedTo(other, bind('', name), execute('')), '26000');
      assert.equal(await refusedTo(other, describeStatement(name)), '26000');
      owner.send(bind('', name), execute(''), syncMessage);
      assert.equal(textsOf(await owner.until('Z')), '2DCZI');
    }
    assert.equal(await refusedTo(other, execute('')), '34000');
    for (const client of [owner, other]) client.end();
  });

  test('a cursor that was declared is a portal of its transaction, to be described and executed by its name', async () => {
    const client = await login();
    client.send(queryMessage('begin'), queryMessage('declare walk cursor for select n from generate_series(1, 3) n'));
    assert.equal(textsOf([...(await client.until('Z')), ...(await client.until('Z'))]), 'CZTCZT');
    client.send(describePortal('walk'), execute('walk', 2), syncMessage);
    assert.equal(textsOf(await client.until('Z')), 'TDDsZT');
    client.send(queryMessage('commit'));
    await client.until('Z');
    client.send(describePortal('walk'), syncMessage);
    assert.equal(textsOf(await client.until('Z')), 'EZI');
    client.end();
  });
});
