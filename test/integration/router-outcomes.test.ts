/** What a client is told of its commits: success only where it is one, and otherwise what may have happened. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { queryMessage, syncMessage } from '#router/wire/client-messages.ts';
import { cancelRequest } from '#router/wire/startup.ts';
import { int16, message } from '#router/wire/writer.ts';
import { waitFor } from './router-assertions.ts';
import { database, password, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
import { RawClient, type RawMessage, sqlstateOf, textsOf } from './router-raw-client.ts';

let keyspace: RouterKeyspace;
let router: TestRouter;
const primary = 'one-eu-0';

before(async () => {
  keyspace = await RouterKeyspace.start();
  router = await keyspace.router('eu');
});
after(() => keyspace?.stop());

const login = (user = 'acme_app'): Promise<RawClient> =>
  RawClient.login(router.port, keyspace.ca.bundle, { user, password, database });
const run = (sql: string): Buffer[] => [
  message(0x50, '', sql, int16(0)),
  message(0x42, '', '', int16(0), int16(0), int16(0)),
  message(0x45, '', 0),
];
const errorsOf = (messages: readonly RawMessage[]): (string | undefined)[] =>
  messages.filter((one) => one.type === 'E').map(sqlstateOf);
const saidIn = (messages: readonly RawMessage[]): string =>
  messages.map((one) => `${one.type} ${one.frame.toString('utf8', 5).replaceAll('\0', ' ')}`).join(' | ');

/** The router's backend that waits at something is cancelled or ended, as people, the operator or a fall of the member would. */
async function strike(how: 'cancel' | 'terminate', where: string): Promise<void> {
  await waitFor(() =>
    keyspace.asOperator(primary, async (operator) => {
      const { rows } = await operator.query<{ done: boolean }>(
        `select pg_${how}_backend(pid) as done from pg_stat_activity where usename = 'acme_app' and ${where}`,
      );
      return rows.some((row) => row.done);
    }),
  );
}

const exists = (id: number): Promise<boolean> =>
  keyspace.asOperator(primary, async (operator) => {
    const { rowCount } = await operator.query('select from accounts where id = $1', [id]);
    return (rowCount ?? 0) > 0;
  });

describe('a commit that its followers do not confirm', () => {
  const setNames = (names: string): Promise<unknown> =>
    keyspace
      .asOperator(primary, async (operator) => {
        await operator.query('set synchronous_commit = local');
        await operator.query(`alter system set synchronous_standby_names = '${names}'`);
        await operator.query('select pg_reload_conf()');
      })
      .then(() =>
        // Each session by itself; those that are new have it from the beginning.
        waitFor(() =>
          keyspace.asOperator(primary, async (operator) => {
            const { rows } = await operator.query<{ now: string }>(
              "select current_setting('synchronous_standby_names') as now",
            );
            return rows[0]?.now === names;
          }),
        ).then(() => sleep(2_000)),
      );
  before(() => setNames('nobody'));
  after(() => setNames(''));

  let id = 1_000;
  const insert = (): string => {
    id += 1;
    return `insert into accounts (tenant_id, id) values ('acme', ${id})`;
  };
  const ways: readonly (readonly [string, () => Buffer[]])[] = [
    ['a simple query', () => [queryMessage(insert())]],
    ['a simple query that ends with a read', () => [queryMessage(`${insert()}; select 1`)]],
    ['an extended query', () => [...run(insert()), syncMessage]],
    ['a pipeline that ends with a read', () => [...run(insert()), ...run('select 1'), syncMessage]],
    ['COMMIT', () => [queryMessage(`begin; ${insert()}`), queryMessage('commit')]],
    ['COMMIT in a pipeline', () => [...run('begin'), ...run(insert()), ...run('commit'), syncMessage]],
  ];
  for (const how of ['cancel', 'terminate'] as const)
    for (const [name, messages] of ways)
      test(`is never called a success: ${name}, ${how}`, async () => {
        const client = await login();
        const sent = messages();
        client.send(...sent);
        if (name === 'COMMIT') await client.until('Z');
        await strike(how, "wait_event = 'SyncRep'");
        const answers = await client.until('Z');
        assert.deepEqual(errorsOf(answers), ['08007'], textsOf(answers));
        assert.equal(textsOf(answers).slice(-3), 'EZI', textsOf(answers));
        assert.ok(await exists(id), 'it was committed after all');
        client.send(queryMessage('select 1'));
        const later = await client.until('Z');
        assert.equal(textsOf(later), 'TDCZI', `then: ${saidIn(later)}`);
        client.end();
      });
});

describe('a backend that is lost in a pipeline', () => {
  test('after its COMMIT was completed leaves the outcome unknown, and the transaction is over', async () => {
    const client = await login();
    client.send(queryMessage('begin'));
    await client.until('Z');
    client.send(queryMessage("insert into accounts (tenant_id, id) values ('acme', 2001)"));
    await client.until('Z');
    client.send(...run('commit'), ...run('select pg_sleep(20)'), syncMessage);
    await strike('terminate', "wait_event = 'PgSleep'");
    const answers = await client.until('Z');
    assert.deepEqual(errorsOf(answers), ['08007'], textsOf(answers));
    assert.equal(textsOf(answers).slice(-2), 'ZI');
    assert.ok(await exists(2001));
    client.end();
  });

  test('that had only begun a transaction keeps nothing of it, and says so', async () => {
    const client = await login();
    client.send(
      ...run('begin'),
      ...run("insert into accounts (tenant_id, id) values ('acme', 2002)"),
      ...run('select pg_sleep(20)'),
      syncMessage,
    );
    await strike('terminate', "wait_event = 'PgSleep'");
    const answers = await client.until('Z');
    assert.deepEqual(errorsOf(answers), ['40001'], textsOf(answers));
    assert.ok(!(await exists(2002)));
    client.end();
  });
});

describe('a transaction that was begun for the client only', () => {
  test('fails when its BEGIN does at the backend, and what was to run in it does not run', async () => {
    const follower = await keyspace.router('ap');
    const client = await RawClient.login(follower.port, keyspace.ca.bundle, { user: 'acme_app', password, database });
    const ask = async (...messages: Buffer[]): Promise<RawMessage[]> => {
      client.send(...messages);
      return client.until('Z');
    };
    await ask(queryMessage("set meridian.consistency = 'eventual'"));
    for (const read of [[queryMessage('select 1')], [...run('select 1'), syncMessage]]) {
      // There is no serializable mode in a hot standby, so this BEGIN fails, but not before it gets there.
      const begun = await ask(queryMessage('begin isolation level serializable read only'));
      assert.equal(textsOf(begun), 'CZT');
      const refused = await ask(...read);
      assert.equal(textsOf(refused), 'EZE');
      assert.deepEqual(errorsOf(refused), ['0A000']);
      assert.deepEqual(errorsOf(await ask(queryMessage('select 2'))), ['25P02']);
      assert.equal(textsOf(await ask(queryMessage('rollback'))), 'CZI');
      assert.equal(textsOf(await ask(queryMessage('select 3'))), 'TDCZI');
    }
    client.end();
  });

  test('keeps nothing of a statement that was cancelled at whatever moment', async () => {
    const client = await login();
    for (let round = 0; round < 20; round++) {
      client.send(queryMessage('begin'));
      await client.until('Z');
      const id = 3_000 + round;
      client.send(queryMessage(`insert into accounts (tenant_id, id) values ('acme', ${id})`));
      await sleep(round % 5);
      const canceller = RawClient.plain(await RawClient.tcp(router.port));
      canceller.send(cancelRequest(client.processId, client.secret));
      const answers = await client.until('Z');
      assert.match(textsOf(answers), /^(CZT|EZE)$/);
      client.send(queryMessage('rollback'));
      assert.equal(textsOf(await client.until('Z')), 'CZI');
      assert.ok(!(await exists(id)));
    }
    client.end();
  });
});
