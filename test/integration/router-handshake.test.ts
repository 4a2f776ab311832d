/** How clients come in: protocol 3.2, channel binding, load balancers' headers, what is said too early, and what a member says too early. */
import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import type { PeerIdentity } from '#core/identity.ts';
import { makeCa } from '#operator/pki/authority.ts';
import { issueCertificate } from '#operator/pki/leaf.ts';
import { queryMessage } from '#router/wire/client-messages.ts';
import { sslRequest, startupPacket } from '#router/wire/startup.ts';
import { int32 } from '#router/wire/writer.ts';
import { waitFor } from './router-assertions.ts';
import { database, password, patientTimes, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
import { type LoginOptions, RawClient, sqlstateOf, textsOf } from './router-raw-client.ts';

let keyspace: RouterKeyspace;
let router: TestRouter;

before(async () => {
  keyspace = await RouterKeyspace.start();
  router = await keyspace.router('eu');
});
after(() => keyspace?.stop());

const login = (options: LoginOptions = {}, at: TestRouter = router): Promise<RawClient> =>
  RawClient.login(at.port, keyspace.ca.bundle, { user: 'acme_app', password, database }, options);

async function serves(client: RawClient): Promise<void> {
  client.send(queryMessage('select 1'));
  assert.equal(textsOf(await client.until('Z')), 'TDCZI');
  client.end();
}

describe('protocol versions', () => {
  for (const [asked, spoken, secretBytes] of [
    [0, undefined, 4],
    [1, undefined, 4],
    [2, undefined, 32],
    [9_999, 0x0003_0002, 32],
  ] as const)
    test(`3.${asked} is ${spoken === undefined ? 'spoken as asked' : 'answered with 3.2'}, its cancel keys have ${secretBytes} bytes`, async () => {
      const client = await RawClient.tls(router.port, keyspace.ca.bundle);
      const startup = startupPacket({ user: 'acme_app', database });
      startup.writeUInt16BE(asked, 6);
      client.send(startup);
      if (spoken !== undefined) {
        const { frame } = await client.next('v');
        assert.deepEqual([frame.readUInt32BE(5), frame.readUInt32BE(9)], [spoken, 0]);
      }
      await client.authenticate(password);
      assert.equal(client.secret.length, secretBytes);
      await serves(client);
    });
});

describe('channel binding', () => {
  test('is offered first where there is TLS, and holds for this server’s certificate only', async () => {
    const offer = await RawClient.tls(router.port, keyspace.ca.bundle);
    offer.send(startupPacket({ user: 'acme_app', database }));
    const { frame } = await offer.next('R');
    assert.equal(frame.toString('latin1', 9), 'SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0');
    offer.end();
    const pem = await readFile(join(keyspace.folder, 'tls.crt'));
    const digest = createHash('sha256').update(new X509Certificate(pem).raw).digest();
    await serves(await login({ bindTo: digest }));
    await serves(await login({ bindTo: digest, direct: true }));
    const between = await RawClient.tls(router.port, keyspace.ca.bundle);
    between.send(startupPacket({ user: 'acme_app', database }));
    await assert.rejects(between.authenticate(password, Buffer.alloc(32)), /closed before K/);
    assert.equal(sqlstateOf(await between.next('E')), '28000');
  });
});

test('a role whose time is over is refused as one with a wrong password, and let in again without', async () => {
  const at = (until: string): Promise<unknown> =>
    Promise.all(
      ['one-eu-0', 'two-us-0'].map((member) =>
        keyspace.asOperator(member, (operator) => operator.query(`alter role bolt_app valid until '${until}'`)),
      ),
    );
  const tryIn = async (): Promise<string | undefined> => {
    const client = await RawClient.tls(timed.port, keyspace.ca.bundle);
    client.send(startupPacket({ user: 'bolt_app', database }));
    const isIn = await client.authenticate(password).then(
      () => true,
      () => false,
    );
    const refusal = client.messages.find(({ type }) => type === 'E');
    client.end();
    return isIn ? undefined : refusal && sqlstateOf(refusal);
  };
  const timed = await keyspace.router('eu', { times: { ...patientTimes, catalogueRefreshMs: 200 } });
  assert.equal(await tryIn(), undefined);
  await at('2026-01-01');
  await waitFor(async () => (await tryIn()) === '28P01');
  await at('infinity');
  await waitFor(async () => (await tryIn()) === undefined);
});

test('a role that has to show a certificate gets in with its own only', async () => {
  const place = { namespace: 'test', keyspace: 'shop' };
  const issue = (identity: PeerIdentity, ca = keyspace.ca, when = new Date()) =>
    issueCertificate(ca, { identity, dnsNames: [], ipAddresses: [] }, when);
  await keyspace.writeMap(keyspace.map({ certificateRoles: ['acme_app'] }));
  const strict = await keyspace.router('eu');
  const own: PeerIdentity = { kind: 'role', ...place, role: 'acme_app' };
  const tryIn = async (certificate: LoginOptions['certificate'], word = password): Promise<string> => {
    const client = await RawClient.tls(
      strict.port,
      keyspace.ca.bundle,
      certificate === undefined ? {} : { certificate },
    );
    client.send(startupPacket({ user: 'acme_app', database }));
    const isIn = await client.authenticate(word).then(
      () => true,
      () => false,
    );
    const refusal = client.messages.find(({ type }) => type === 'E');
    client.end();
    return isIn ? 'in' : ((refusal && sqlstateOf(refusal)) ?? '?');
  };
  assert.equal(await tryIn(await issue(own)), 'in');
  assert.equal(await tryIn(await issue(own), 'wrong'), '28P01');
  assert.equal(await tryIn(undefined), '28000');
  assert.equal(await tryIn(undefined, 'wrong'), '28P01');
  for (const [what, other] of [
    ['another role’s', await issue({ ...own, role: 'any_app' })],
    ['a member’s', await issue({ kind: 'member', ...place, member: 'one-eu-0' })],
    ['another authority’s', await issue(own, await makeCa(place, new Date()))],
    ['one whose time is over', await issue(own, keyspace.ca, new Date(Date.now() - 400 * 24 * 3_600_000))],
  ] as const)
    assert.equal(await tryIn(other), '28000', what);
  await keyspace.writeMap();
  // The router of the other tests reads that map, too.
  for (const one of [strict, router])
    await waitFor(() =>
      login({}, one).then(
        (client) => {
          client.end();
          return true;
        },
        () => false,
      ),
    );
});

test('what comes in one piece with the end of the log-in is the session’s, whole messages and halves', async () => {
  const [one, two] = [queryMessage('select 1'), queryMessage('select 2')];
  for (const behind of [one, Buffer.concat([one, two]), Buffer.concat([one, two.subarray(0, 7)]), one.subarray(0, 3)]) {
    const client = await login({ behind });
    const rest = Buffer.concat([one, two]).subarray(behind.length);
    if (rest.length > 0) client.send(rest);
    assert.equal(textsOf([...(await client.until('Z')), ...(await client.until('Z'))]), 'TDCZITDCZI');
    client.end();
  }
});

test('a client that wants to speak another protocol over TLS is turned away in the handshake', async () => {
  for (const direct of [true, false]) {
    const tcp = await RawClient.tcp(router.port);
    if (!direct) {
      tcp.write(sslRequest);
      await new Promise((resolve) => tcp.once('data', resolve));
    }
    const socket = connectTls({ socket: tcp, ca: keyspace.ca.bundle, servername: 'localhost', ALPNProtocols: ['h2'] });
    const error = await new Promise<Error>((resolve, reject) =>
      socket.once('error', resolve).once('secureConnect', () => reject(new Error('let in'))),
    );
    assert.match(error.message, /no application protocol|ALPN/i);
  }
});

test('direct TLS without the protocol’s name is closed', async () => {
  const tcp = await RawClient.tcp(router.port);
  const socket = connectTls({ socket: tcp, ca: keyspace.ca.bundle, servername: 'localhost' });
  await new Promise((resolve) => socket.once('close', resolve).on('error', () => undefined));
});

describe('a router behind load balancers', () => {
  const line = Buffer.from('PROXY TCP4 203.0.113.9 127.0.0.1 5000 5432\r\n');
  const binary = Buffer.concat([
    Buffer.from('\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c', 'latin1'),
    Buffer.from([203, 0, 113, 9, 127, 0, 0, 1]),
    Buffer.from([0x13, 0x88, 0x15, 0x38]),
  ]);
  let behind: TestRouter;
  before(async () => {
    behind = await keyspace.router('eu', { proxyFrom: ['127.0.0.0/8', '::1'] });
  });

  test('takes their headers, with TLS asked for or at once behind', async () => {
    for (const header of [line, binary])
      for (const direct of [true, false]) await serves(await login({ header, direct }, behind));
  });

  test('takes nobody of them without a header', async () => {
    const client = RawClient.plain(await RawClient.tcp(behind.port));
    client.send(sslRequest);
    assert.equal(sqlstateOf(await client.next('E')), '08P01');
  });

  test('takes a header once, and what comes along with the SSL request behind it is never used', async () => {
    for (const wrong of [
      Buffer.concat([line, line]),
      Buffer.concat([line, sslRequest, startupPacket({ user: 'acme_app', database })]),
    ]) {
      const client = RawClient.plain(await RawClient.tcp(behind.port));
      client.send(wrong);
      assert.equal(sqlstateOf(await client.next('E')), '08P01');
    }
  });

  test('takes no header from others', async () => {
    const client = RawClient.plain(await RawClient.tcp(router.port));
    client.send(line);
    assert.equal(sqlstateOf(await client.next('E')), '08P01');
  });
});

test('what a member says before TLS is passed on to nobody', async () => {
  const words = 'the words of a stranger';
  const error = Buffer.concat([
    Buffer.from('E'),
    int32(4 + words.length + 4),
    Buffer.from(`M${words}\0\0`),
    Buffer.alloc(1),
  ]);
  let asked = 0;
  for (const answer of [error, Buffer.concat([Buffer.from('S'), error])]) {
    const stranger = createServer((socket) => {
      asked += 1;
      socket.on('error', () => undefined);
      socket.once('data', () => socket.end(answer));
    });
    await new Promise<void>((resolve) => stranger.listen(0, '127.0.0.1', resolve));
    const { port } = stranger.address() as AddressInfo;
    const map = keyspace.map();
    const members = map.members.map((one) => (one.name === 'one-eu-0' ? { ...one, address: '127.0.0.1', port } : one));
    await keyspace.writeMap({ ...map, members });
    const behind = await keyspace.router('eu', { hold: { transactions: 100, bytes: 1e6, ms: 300 } });
    const client = await login({}, behind);
    client.send(queryMessage("select * from accounts where tenant_id = 'acme'"));
    const answers = await client.until('Z', 20_000);
    assert.equal(textsOf(answers), 'EZI');
    assert.ok(!Buffer.concat(answers.map((one) => one.frame)).includes('stranger'));
    client.end();
    stranger.close();
  }
  assert.ok(asked >= 2);
  await keyspace.writeMap();
});
