/** The router against clients that no driver would be: raw bytes, wrong bytes, too many bytes, and in every order that is allowed. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { flushMessage, queryMessage, syncMessage } from '#router/wire/client-messages.ts';
import { cancelRequest, sslRequest, startupPacket } from '#router/wire/startup.ts';
import { int16, int32, message } from '#router/wire/writer.ts';
import { waitFor } from './router-assertions.ts';
import { database, password, patientTimes, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
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

const login = (user = 'acme_app', options: Parameters<typeof RawClient.login>[3] = {}): Promise<RawClient> =>
  RawClient.login(router.port, keyspace.ca.bundle, { user, password, database }, options);

const parse = (name: string, sql: string): Buffer => message(0x50, name, sql, int16(0));
const bind = (portal: string, statement: string, values: readonly (string | null)[] = []): Buffer =>
  message(
    0x42,
    portal,
    statement,
    int16(0),
    int16(values.length),
    ...values.flatMap((value) =>
      value === null ? [int32(-1)] : [int32(Buffer.byteLength(value)), Buffer.from(value)],
    ),
    int16(0),
  );
const describePortal = (portal: string): Buffer => message(0x44, Buffer.from('P'), portal);
const describeStatement = (name: string): Buffer => message(0x44, Buffer.from('S'), name);
const execute = (portal: string, rows = 0): Buffer => message(0x45, portal, rows);
const closePortal = (name: string): Buffer => message(0x43, Buffer.from('P'), name);
const closeStatement = (name: string): Buffer => message(0x43, Buffer.from('S'), name);

describe('before the log-in', () => {
  const refusedWith = async (client: RawClient): Promise<string | undefined> => {
    const error = sqlstateOf(await client.next('E'));
    await client.closed();
    return error;
  };

  test('garbage is a protocol violation, and so is a packet that is too long or too short', async () => {
    for (const bytes of [
      Buffer.from('GET / HTTP/1.1\r\nHost: router\r\n\r\n'),
      Buffer.concat([int32(100_000), int32(196_608), Buffer.alloc(64)]),
      Buffer.concat([int32(4), int32(0)]),
      Buffer.concat([int32(-1), int32(196_608)]),
      Buffer.concat([int32(12), int32(131_072), Buffer.alloc(4)]),
      Buffer.concat([int32(16), int32(196_608), Buffer.from('user\0acm')]),
      randomBytes(64).fill(0xff, 0, 4),
    ]) {
      const client = RawClient.plain(await RawClient.tcp(router.port));
      client.send(bytes);
      assert.equal(await refusedWith(client), '08P01', bytes.toString('latin1'));
    }
  });

  test('what comes along with the SSL request is never used', async () => {
    const client = RawClient.plain(await RawClient.tcp(router.port));
    client.send(sslRequest, startupPacket({ user: 'acme_app', database }));
    assert.equal(await refusedWith(client), '08P01');
  });

  test('GSS encryption is refused once, and TLS works after it', async () => {
    const socket = await RawClient.tcp(router.port);
    const gss = Buffer.concat([int32(8), int32(80_877_104)]);
    socket.write(gss);
    const [answer] = (await new Promise((resolve) => socket.once('data', (chunk) => resolve([chunk])))) as [Buffer];
    assert.equal(answer.toString(), 'N');
    const client = RawClient.plain(socket);
    client.send(gss);
    assert.equal(await refusedWith(client), '08P01');
  });

  test('TLS is asked for once, before or behind GSS encryption, and neither within it', async () => {
    const gss = Buffer.concat([int32(8), int32(80_877_104)]);
    for (const again of [sslRequest, gss]) {
      const client = await RawClient.tls(router.port, keyspace.ca.bundle);
      client.send(again);
      assert.equal(await refusedWith(client), '08P01');
    }
    const socket = await RawClient.tcp(router.port);
    const said = (bytes: Buffer) =>
      new Promise((resolve) => socket.once('data', (one: Buffer) => resolve(one.toString())).write(bytes));
    assert.deepEqual([await said(gss), await said(sslRequest)], ['N', 'S']);
    socket.destroy();
  });

  test('TLS from the first byte works where the protocol is named', async () => {
    const client = await login('acme_app', { direct: true });
    client.send(queryMessage('select 1'));
    assert.equal(textsOf(await client.until('Z')), 'TDCZI');
    client.end();
  });

  test('a newer minor version and unknown protocol options are negotiated down', async () => {
    const client = await RawClient.tls(router.port, keyspace.ca.bundle);
    const startup = startupPacket({ user: 'acme_app', database, '_pq_.something': '1' });
    startup.writeInt32BE(196_610, 4);
    client.send(startup);
    const negotiated = await client.next('v');
    // 3.2 is spoken as it is; only the option isn't known.
    assert.equal(negotiated.frame.readInt32BE(5), 196_610);
    assert.match(negotiated.frame.toString('latin1'), /_pq_\.something/);
    await client.authenticate(password);
    client.end();
  });

  test('silence and endless talk both end', async () => {
    const brief = await keyspace.router('eu', { times: { ...patientTimes, authenticationMs: 2_000 } });
    const silent = await RawClient.tls(brief.port, keyspace.ca.bundle);
    assert.equal(await refusedWith(silent), '08006');
    const talker = await RawClient.tls(router.port, keyspace.ca.bundle);
    talker.send(startupPacket({ user: 'acme_app', database }));
    talker.send(message(0x70, Buffer.alloc(70_000, 0x61)));
    assert.equal(await refusedWith(talker), '08P01');
  });

  test('a statement before the log-in is a violation', async () => {
    const client = await RawClient.tls(router.port, keyspace.ca.bundle);
    client.send(startupPacket({ user: 'acme_app', database }), queryMessage('select 1'));
    assert.equal(await refusedWith(client), '08P01');
  });

  test('an unknown user is asked for a password with a salt that stays the same, like a known one', async () => {
    const salts = new Set<string>();
    for (let round = 0; round < 2; round++) {
      const client = await RawClient.tls(router.port, keyspace.ca.bundle);
      client.send(startupPacket({ user: 'nobody_at_all', database }));
      await client.next('R');
      const initial = Buffer.from('n,,n=,r=abc');
      client.send(message(0x70, 'SCRAM-SHA-256', initial.length, initial));
      salts.add(/s=([^,]*),i=4096/.exec((await client.next('R')).frame.toString('utf8', 9))?.[1] ?? '');
      client.end();
    }
    assert.equal(salts.size, 1);
    assert.equal(Buffer.from([...salts][0] as string, 'base64').length, 16);
  });
});

describe('after the log-in', () => {
  test('a message of no known type, or with a lying length, ends the connection', async () => {
    for (const bytes of [
      message(0x21),
      Buffer.from([0x51, 0, 0, 0, 3]),
      Buffer.from([0x51, 0xff, 0xff, 0xff, 0xff]),
      message(0x42, 'p', 's', int16(0), int16(1), int32(-2)),
      message(0x42, 'p', 's', int16(0), int16(1), int32(1_000)),
      message(0x42, 'p', 's', int16(0), int16(1), int32(-0x8000_0000)),
      message(0x51, Buffer.from('no terminator')),
      message(0x70, 'SCRAM-SHA-256'),
    ]) {
      const client = await login();
      client.send(bytes);
      assert.equal(sqlstateOf(await client.next('E')), '08P01', bytes.toString('hex'));
      await client.closed();
    }
    assert.equal(await openClients(), 0);
  });

  test('every split of a conversation gives the same answers', async () => {
    const conversation = Buffer.concat([
      queryMessage('select 1'),
      parse('a', 'select $1::text'),
      bind('', 'a', ['x']),
      describePortal(''),
      execute(''),
      closeStatement('a'),
      syncMessage,
      queryMessage('select 2; select 3'),
    ]);
    const whole = 'TDCZI12TDC3ZITDCTDCZI';
    const client = await login();
    for (let at = 1; at < conversation.length; at += 3) {
      client.send(conversation.subarray(0, at));
      await new Promise((resolve) => setImmediate(resolve));
      client.send(conversation.subarray(at));
      const answers: RawMessage[] = [];
      for (let ready = 0; ready < 3; ready++) answers.push(...(await client.until('Z')));
      assert.equal(textsOf(answers), whole, `split at ${at}`);
    }
    client.end();
  });

  test('pipelined batches are answered in order, and an error skips to its Sync only', async () => {
    const client = await login();
    client.send(
      parse('', 'select 1'),
      bind('', ''),
      execute(''),
      syncMessage,
      parse('', 'select 1/0'),
      bind('', ''),
      execute(''),
      parse('', 'select 2'),
      bind('', ''),
      execute(''),
      syncMessage,
      parse('', 'select 3'),
      bind('', ''),
      execute(''),
      syncMessage,
    );
    const answers: RawMessage[] = [];
    for (let ready = 0; ready < 3; ready++) answers.push(...(await client.until('Z')));
    assert.equal(textsOf(answers), '12DCZI1EZI12DCZI');
    client.end();
  });

  test('a pipeline is one transaction: what fails in it undoes all of it, also when the router refuses', async () => {
    const client = await login();
    const insert = (id: number): Buffer[] => [
      parse('', `insert into accounts (tenant_id, id) values ('acme', ${id})`),
      bind('', ''),
      execute(''),
    ];
    client.send(
      ...insert(601),
      parse('', "select * from accounts where tenant_id = 'bolt'"),
      bind('', ''),
      execute(''),
      syncMessage,
    );
    assert.equal(textsOf(await client.until('Z')), 'EZI');
    client.send(...insert(602), flushMessage);
    await client.until('C');
    client.send(parse('', "select * from accounts where tenant_id = 'bolt'"), bind('', ''), execute(''), syncMessage);
    assert.equal(textsOf(await client.until('Z')), 'EZI');
    client.send(queryMessage('select id from accounts where id in (601, 602)'));
    assert.equal(textsOf(await client.until('Z')), 'TCZI');
    client.end();
  });

  test('Flush brings answers before the Sync', async () => {
    const client = await login();
    client.send(parse('f', 'select $1::int as n'), describeStatement('f'), flushMessage);
    assert.equal(textsOf(await client.until('T')), '1tT');
    client.send(bind('', 'f', ['5']), execute(''), flushMessage);
    assert.equal(textsOf(await client.until('C')), '2DC');
    client.send(syncMessage);
    assert.equal(textsOf(await client.until('Z')), 'ZI');
    client.end();
  });

  test('portals with row limits go on within a transaction', async () => {
    const client = await login();
    client.send(queryMessage('begin'));
    await client.until('Z');
    client.send(
      parse('', 'select n from generate_series(1, 5) n'),
      bind('cursor', ''),
      execute('cursor', 2),
      syncMessage,
    );
    assert.equal(textsOf(await client.until('Z')), '12DDsZT');
    client.send(execute('cursor', 2), syncMessage);
    assert.equal(textsOf(await client.until('Z')), 'DDsZT');
    client.send(execute('cursor', 2), closePortal('cursor'), syncMessage);
    assert.equal(textsOf(await client.until('Z')), 'DC3ZT');
    client.send(queryMessage('commit'));
    assert.equal(textsOf(await client.until('Z')), 'CZI');
    client.send(execute('cursor', 2), syncMessage);
    const gone = await client.until('Z');
    assert.equal(textsOf(gone), 'EZI');
    assert.equal(sqlstateOf(gone[0] as RawMessage), '34000');
    client.end();
  });

  test('an unnamed statement lives until the next one or the next query, on whatever backend', async () => {
    const client = await login();
    client.send(parse('', 'select 42'), syncMessage);
    assert.equal(textsOf(await client.until('Z')), '1ZI');
    const others = await Promise.all(Array.from({ length: 4 }, () => login()));
    for (const other of others) other.send(parse('', 'select 43'), bind('', ''), execute(''), syncMessage);
    await Promise.all(others.map((other) => other.until('Z')));
    client.send(bind('', ''), execute(''), syncMessage);
    const answers = await client.until('Z');
    assert.equal(textsOf(answers), '2DCZI');
    assert.match((answers[1] as RawMessage).frame.toString('latin1'), /42$/);
    client.send(queryMessage('select 1'));
    await client.until('Z');
    client.send(bind('', ''), execute(''), syncMessage);
    const gone = await client.until('Z');
    assert.equal(sqlstateOf(gone[0] as RawMessage), '26000');
    for (const other of [...others, client]) other.end();
  });

  test('settings of Meridian and transactions work in the extended protocol, too', async () => {
    const client = await login('any_app');
    const run = (sql: string): Buffer[] => [parse('', sql), bind('', ''), describePortal(''), execute('')];
    client.send(...run("set meridian.tenant = 'acme'"), syncMessage);
    assert.equal(textsOf(await client.until('Z')), '12nCZI');
    client.send(...run('show meridian.tenant'), syncMessage);
    assert.equal(textsOf(await client.until('Z')), '12TDCZI');
    client.send(...run('begin'), syncMessage);
    assert.equal(textsOf(await client.until('Z')), '12nCZT');
    client.send(...run('select count(*) from accounts'), syncMessage);
    assert.equal(textsOf(await client.until('Z')), '12TDCZT');
    client.send(...run('commit'), syncMessage);
    assert.equal(textsOf(await client.until('Z')), '12nCZI');
    client.send(...run('begin'), ...run('select count(*) from accounts'), ...run('commit'), syncMessage);
    assert.equal(textsOf(await client.until('Z')), '12nC12TDC12nCZI');
    client.end();
  });

  test('an empty query, a lone Sync and leftovers of a COPY are answered as Postgres does', async () => {
    const client = await login();
    client.send(queryMessage(''));
    assert.equal(textsOf(await client.until('Z')), 'IZI');
    client.send(syncMessage, syncMessage);
    assert.equal(textsOf([...(await client.until('Z')), ...(await client.until('Z'))]), 'ZIZI');
    client.send(message(0x64, Buffer.from('row\n')), message(0x63), queryMessage('copy (select 1) to stdout'));
    assert.equal(textsOf(await client.until('Z')), 'HdcCZI');
    client.send(parse('', ''), bind('', ''), execute(''), syncMessage);
    assert.equal(textsOf(await client.until('Z')), '12IZI');
    client.end();
  });

  test('a function call is answered, and refused where no tenant is known', async () => {
    // pg_backend_pid(), which takes nothing.
    const call = message(0x46, int32(2026), int16(0), int16(0), int16(0));
    const client = await login();
    client.send(call);
    assert.equal(textsOf(await client.until('Z')), 'VZI');
    client.end();
    const anybody = await login('any_app');
    anybody.send(call);
    const refused = await anybody.until('Z');
    assert.equal(textsOf(refused), 'EZI');
    assert.equal(sqlstateOf(refused[0] as RawMessage), 'MD003');
    anybody.end();
  });

  test('more prepared statements than a backend keeps are made again when they are used', async () => {
    const client = await login();
    const count = 260;
    for (let index = 0; index < count; index++) client.send(parse(`s${index}`, `select ${index}`), syncMessage);
    for (let index = 0; index < count; index++) await client.until('Z');
    for (const index of [0, 100, 259]) {
      client.send(bind('', `s${index}`), execute(''), syncMessage);
      const answers = await client.until('Z');
      assert.equal(textsOf(answers), '2DCZI');
      assert.match((answers[1] as RawMessage).frame.toString('latin1'), new RegExp(`${index}$`));
    }
    client.end();
  });
});

describe('cancel', () => {
  const cancel = async (processId: number, secret: Buffer): Promise<void> => {
    const client = RawClient.plain(await RawClient.tcp(router.port));
    client.send(cancelRequest(processId, secret));
    await client.closed();
    assert.equal(client.messages.length, 0);
  };

  /** The statement has reached its backend. */
  const asleep = (): Promise<void> =>
    waitFor(async () => (await keyspace.backends('one-eu-0', "wait_event = 'PgSleep'")) > 0);

  test('ends a read, and the backend serves on afterwards', async () => {
    const client = await login();
    client.send(queryMessage('select pg_sleep(60)'));
    await asleep();
    await cancel(client.processId, client.secret);
    const answers = await client.until('Z');
    assert.equal(sqlstateOf(answers.find((one) => one.type === 'E') as RawMessage), '57014');
    for (let round = 0; round < 20; round++) {
      client.send(queryMessage('select 1'));
      assert.equal(textsOf(await client.until('Z')), 'TDCZI');
    }
    client.end();
  });

  test('ends a statement of a transaction, which can then be rolled back', async () => {
    const client = await login();
    client.send(queryMessage('begin'));
    await client.until('Z');
    client.send(queryMessage('update accounts set balance = 1 where id = 1 and pg_sleep(20) is not null'));
    await asleep();
    await cancel(client.processId, client.secret);
    assert.equal(textsOf(await client.until('Z')), 'EZE');
    client.send(queryMessage('rollback'));
    assert.equal(textsOf(await client.until('Z')), 'CZI');
    client.end();
  });

  test('does not touch a write that may be committing', async () => {
    const client = await login();
    client.send(queryMessage('update accounts set balance = 77 where id = 2 and pg_sleep(3) is not null'));
    await asleep();
    await cancel(client.processId, client.secret);
    assert.equal(textsOf(await client.until('Z')), 'CZI');
    client.end();
  });

  test('with a wrong secret, or after the session, does nothing', async () => {
    const client = await login();
    client.send(queryMessage('select pg_sleep(0.4)'));
    await cancel(client.processId, Buffer.from(client.secret.map((byte) => byte ^ 1)));
    assert.equal(textsOf(await client.until('Z')), 'TDCZI');
    client.end();
    await sleep(50);
    await cancel(client.processId, client.secret);
  });
});

describe('a slow client', () => {
  test('makes the router hold no more than a little, and gets everything in the end', async () => {
    const client = await login();
    const rows = 2_000;
    client.send(queryMessage(`select repeat('x', 50000) from generate_series(1, ${rows})`));
    await client.next('T');
    client.socket.pause();
    await sleep(700);
    const before = process.memoryUsage();
    await sleep(700);
    const after = process.memoryUsage();
    assert.ok(after.arrayBuffers - before.arrayBuffers < 16e6, 'memory grows while the client does not read');
    assert.ok(after.arrayBuffers < 100e6, `holds ${after.arrayBuffers}`);
    client.socket.resume();
    const answers = await client.until('Z');
    assert.equal(answers.filter((one) => one.type === 'D').length, rows);
    client.end();
  });
});

describe('a backend that is lost', () => {
  /** As soon as there is one. */
  const kill = (where: string): Promise<void> =>
    waitFor(() =>
      keyspace.asOperator('one-eu-0', async (operator) => {
        const { rowCount } = await operator.query(
          `select pg_terminate_backend(pid) from pg_stat_activity where usename = 'acme_app' and ${where}`,
        );
        return (rowCount ?? 0) > 0;
      }),
    );

  test('within a transaction makes it fail with 40001, and the session goes on', async () => {
    const client = await login();
    client.send(queryMessage('begin'));
    await client.until('Z');
    client.send(queryMessage('select 1 /* to be lost */'));
    await client.until('Z');
    await kill("query like '%to be lost%'");
    await sleep(200);
    client.send(queryMessage('select 2'));
    const answers = await client.until('Z');
    assert.equal(textsOf(answers), 'EZE');
    assert.equal(sqlstateOf(answers[0] as RawMessage), '40001');
    client.send(queryMessage('rollback'), queryMessage('select 3'));
    assert.equal(textsOf([...(await client.until('Z')), ...(await client.until('Z'))]), 'CZITDCZI');
    client.end();
  });

  test('while a write is under way leaves the outcome unknown, 08007, while a read was only lost, 08006', async () => {
    for (const [sql, sqlstate] of [
      ['update accounts set balance = 3 where id = 3 and pg_sleep(10) is not null', '08007'],
      ['select count(*) from generate_series(1, 1e10)', '08006'],
    ] as const) {
      const client = await login();
      client.send(queryMessage(sql));
      await kill("state = 'active'");
      const answers = await client.until('Z');
      assert.equal(textsOf(answers).slice(-3), 'EZI');
      assert.equal(sqlstateOf(answers.find((one) => one.type === 'E') as RawMessage), sqlstate);
      client.send(queryMessage('select 1'));
      assert.equal(textsOf(await client.until('Z')), 'TDCZI');
      client.end();
    }
  });
});

async function openClients(): Promise<number> {
  const deadline = performance.now() + 60_000;
  while (router.worker.metrics.get('clients') > 0 && performance.now() < deadline) await sleep(20);
  return router.worker.metrics.get('clients');
}
