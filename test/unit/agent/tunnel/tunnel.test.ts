/** Both ends of the tunnels in one process, with a stand-in that speaks enough of Postgres' protocol behind them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { type Credentials, checkCredentials } from '#agent/tls/credentials.ts';
import type { TunnelContext } from '#agent/tunnel/handshake.ts';
import { handshakeLine, parseReply, readLine } from '#agent/tunnel/handshake.ts';
import { receiveStartup } from '#agent/tunnel/receive-startup.ts';
import { TunnelServer } from '#agent/tunnel/server.ts';
import { writeStartupPacket } from '#agent/tunnel/startup-packet.ts';
import { Upstream, type UpstreamTarget } from '#agent/tunnel/upstream.ts';
import { replicationName } from '#core/identity.ts';
import { type KeyspaceCa, makeCa } from '#operator/pki/authority.ts';
import { issueCertificate } from '#operator/pki/leaf.ts';
import { other, self, third } from '../orders/orders-fixture.ts';

const place = { namespace: 'test', keyspace: 'shop' };
const quiet = { info: () => {}, warn: () => {} };
const replication = new Map([
  ['user', 'anybody'],
  ['replication', 'true'],
  ['application_name', 'forged/0000000000000000'],
]);
const startReplication = (slot: string): Buffer => {
  const text = `START_REPLICATION SLOT "${slot}" 0/3000000 TIMELINE 1\0`;
  const packet = Buffer.alloc(5 + text.length);
  packet.write('Q', 0, 'latin1');
  packet.writeInt32BE(4 + text.length, 1);
  packet.write(text, 5, 'latin1');
  return packet;
};

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let waited = 0; !condition(); waited += 10) {
    if (waited > 30_000) throw new Error(`never: ${what}`);
    await sleep(10);
  }
}

const drained = (socket: Socket, withinMs: number): Promise<boolean> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, withinMs, false);
    socket.once('drain', () => {
      clearTimeout(timer);
      resolve(true);
    });
  });

describe('a tunnel', () => {
  let folder: string;
  let ca: KeyspaceCa;
  let primaryCredentials: Credentials;
  let followerCredentials: Credentials;
  let postgres: Server;
  let started: { parameters: ReadonlyMap<string, string>; socket: Socket }[];
  let server: TunnelServer;
  let upstream: Upstream;
  let target: UpstreamTarget;
  let context: TunnelContext | undefined;
  let promised: number;
  /** What the primary's end warns of. */
  let warnings: string[];
  let asked: number;

  const credentialsOf = async (member: string, signer = ca): Promise<Credentials> => {
    const identity = { kind: 'member' as const, member, ...place };
    const pair = await issueCertificate(signer, { identity, dnsNames: [], ipAddresses: [] }, new Date());
    return checkCredentials(ca.bundle, pair.certificate, pair.privateKey, member);
  };

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'meridian-tunnel-'));
    ca = await makeCa(place, new Date());
    primaryCredentials = await credentialsOf(self.name);
    followerCredentials = await credentialsOf(other.name);
    postgres = createServer((socket) => {
      socket.on('error', () => socket.destroy());
      receiveStartup(socket, 1_000).then(
        (parameters) => started.push({ parameters, socket }),
        () => socket.destroy(),
      );
    });
    await new Promise<void>((resolve) => postgres.listen(join(folder, 'postgres'), resolve));
  });
  after(async () => {
    postgres.close();
    await rm(folder, { recursive: true, force: true });
  });

  beforeEach(async () => {
    started = [];
    promised = 3;
    warnings = [];
    asked = 0;
    context = {
      member: self,
      shardUid: 'uid',
      epoch: 3,
      generation: 1,
      isPrimary: true,
      isReady: true,
      peers: [other],
    };
    server = new TunnelServer({
      place,
      credentials: primaryCredentials,
      postgresSocket: join(folder, 'postgres'),
      context: () => {
        asked += 1;
        return context;
      },
      log: { info: () => {}, warn: (_details, message) => warnings.push(message) },
    });
    const port = await server.listen(0, '127.0.0.1');
    upstream = new Upstream({
      place,
      credentials: () => followerCredentials,
      socketPath: join(folder, 'upstream'),
      promisedEpoch: () => promised,
      holdMs: 800,
      log: quiet,
    });
    await upstream.listen();
    target = {
      address: '127.0.0.1',
      port,
      to: self,
      from: other,
      shardUid: 'uid',
      epoch: 3,
      generation: 1,
      systemIdentifier: '7',
      isCloning: false,
    };
    upstream.aim(target);
  });
  afterEach(async () => {
    for (const { socket } of started) socket.destroy();
    await upstream.stop();
    await server.stop();
  });

  const dial = (parameters: ReadonlyMap<string, string> = replication): Socket => {
    const socket = connect(join(folder, 'upstream'));
    socket.on('error', () => socket.destroy());
    socket.write(writeStartupPacket(parameters));
    return socket;
  };
  const opened = async (index = 0): Promise<(typeof started)[number]> => {
    await until(() => started.length > index, 'a connection at Postgres');
    const found = started[index];
    assert.ok(found);
    return found;
  };
  const refusalOf = async (socket: Socket): Promise<string> => Buffer.concat(await socket.toArray()).toString('latin1');

  it('brings the follower to Postgres under the name that its certificate gives it', async () => {
    const socket = dial();
    const { parameters } = await opened();
    assert.equal(parameters.get('application_name'), replicationName(other));
    assert.equal(parameters.get('user'), 'meridian_replication');
    socket.destroy();
  });

  it('to another database says so, since the WAL receiver just hangs up', async () => {
    for (const [theirs, expected] of [
      ['9', /system identifier 9, here 7/],
      ['7', /^$/],
    ] as const) {
      started = [];
      const socket = dial();
      const { socket: end } = await opened();
      // A DataRow of four columns, as IDENTIFY_SYSTEM gives it.
      end.write(Buffer.from(`44000000180004000000013${theirs}0000000131ffffffffffffffff`, 'hex'));
      await once(socket, 'data');
      socket.destroy();
      await until(() => expected.test(upstream.problem), `the problem ${expected}`);
    }
  });

  it('carries bytes both ways, in order, however many', async () => {
    const socket = dial();
    const { socket: end } = await opened();
    const sent = Buffer.alloc(8 * 1024 * 1024);
    for (let at = 0; at < sent.length; at += 4) sent.writeUInt32BE(at, at);
    end.write(sent);
    const received: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      received.push(chunk);
      bytes += chunk.length;
      if (bytes >= sent.length) break;
    }
    assert.ok(Buffer.concat(received).equals(sent));
    const command = startReplication('member_bbbbbbbbbbbbbbbb');
    socket.write(command);
    end.resume();
    const [arrived] = (await new Promise<[Buffer]>((resolve) => end.once('data', (chunk) => resolve([chunk])))) ?? [];
    assert.ok(arrived.equals(command));
    socket.destroy();
  });

  it('holds Postgres back when the follower reads nothing', async () => {
    const socket = dial();
    socket.pause();
    const { socket: end } = await opened();
    const chunk = Buffer.alloc(1024 * 1024);
    let written = 0;
    for (let isTaken = true; isTaken && written < 100 * chunk.length; ) {
      written += chunk.length;
      isTaken = end.write(chunk) || (await drained(end, 500));
    }
    assert.ok(written < 64 * chunk.length, `${written} bytes were taken up although nobody reads`);
    socket.destroy();
  });

  it('ends when the orders lead elsewhere, at once and on both sides', async () => {
    const socket = dial();
    const { socket: end } = await opened();
    upstream.aim({ ...target, epoch: 4 });
    await until(() => socket.destroyed && end.destroyed, 'both ends closed');
    assert.equal(upstream.openCount, 0);
  });

  it('stays when only the generation changes', async () => {
    const socket = dial();
    await opened();
    upstream.aim({ ...target, generation: 2 });
    await sleep(100);
    assert.equal(socket.destroyed, false);
    socket.destroy();
  });

  it("ends when the primary's epoch changes, or its orders name the follower no more", async () => {
    for (const change of [{ epoch: 4 }, { peers: [third] }, { isPrimary: false }]) {
      const index = started.length;
      const before: TunnelContext | undefined = context;
      const socket = dial();
      const { socket: end } = await opened(index);
      assert.equal(server.closeUnaccepted(), 0, 'nothing to close while nothing changed');
      assert.ok(before);
      context = { ...before, ...change };
      assert.equal(server.closeUnaccepted(), 1);
      await until(() => socket.destroyed && end.destroyed, 'both ends closed');
      context = before;
    }
  });

  it('gives way to a newer one of the same member', async () => {
    const old = dial();
    const first = await opened();
    const fresh = dial();
    await opened(1);
    await until(() => old.destroyed && first.socket.destroyed, 'the older one closed');
    assert.equal(fresh.destroyed, false);
    fresh.destroy();
  });

  it('lets both connections of one base copy live', async () => {
    upstream.aim({ ...target, isCloning: true });
    const copies = [dial(), dial()];
    const second = await opened(1);
    await sleep(50);
    assert.deepEqual(
      copies.map((socket) => socket.destroyed),
      [false, false],
    );
    assert.match(second.parameters.get('application_name') ?? '', /^basebackup of /);
    for (const socket of copies) socket.destroy();
  });

  it("is cut by a command on another member's slot, which Postgres never sees", async () => {
    const socket = dial();
    const { socket: end } = await opened();
    let seen = 0;
    end.on('data', (chunk: Buffer) => {
      seen += chunk.length;
    });
    socket.write(startReplication('member_cccccccccccccccc'));
    await until(() => socket.destroyed && end.destroyed, 'both ends closed');
    assert.equal(seen, 0);
  });

  it('is dialled for again and again until the primary takes it', async () => {
    const ready = context;
    assert.ok(ready);
    context = { ...ready, isReady: false };
    const socket = dial();
    await sleep(250);
    assert.equal(started.length, 0);
    context = ready;
    const since = performance.now();
    await opened();
    assert.ok(performance.now() - since < 5_000, 'it took too long');
    socket.destroy();
  });

  it('opens for who has waited through a fence as soon as there are orders again', async () => {
    upstream.aim(undefined);
    const socket = dial();
    await sleep(200);
    assert.equal(started.length, 0);
    upstream.aim(target);
    const since = performance.now();
    await opened();
    assert.ok(performance.now() - since < 5_000, 'it took too long');
    socket.destroy();
  });

  it('is never dialled below the promise, whatever the target says', async () => {
    promised = 4;
    assert.match(await refusalOf(dial()), /no primary to follow/);
    assert.equal(started.length, 0);
  });

  it('leads to another standby at the same promise, for its log alone', async () => {
    assert.ok(context);
    context = { ...context, isPrimary: false, isFenced: true };
    const socket = dial();
    const { parameters } = await opened();
    assert.equal(parameters.get('replication'), 'true');
    upstream.aim({ ...target, isCloning: true });
    assert.match(await refusalOf(dial()), /NotPrimary/);
    context = { ...context, isFenced: false };
    server.closeUnaccepted();
    await until(() => socket.destroyed, 'closed with the fence');
  });

  it('of a rewind has a name that no list counts, and can write nothing', async () => {
    upstream.aim({ ...target, isRewinding: true });
    const socket = dial(new Map([['user', 'anybody']]));
    const { parameters } = await opened();
    assert.match(parameters.get('application_name') ?? '', /^rewind of /);
    assert.equal(parameters.get('default_transaction_read_only'), 'on');
    upstream.aim(target);
    await until(() => socket.destroyed, 'closed with the rewind');
  });

  it('tells when WAL last came, and takes no keep-alive for it', async () => {
    const socket = dial();
    socket.resume();
    const { socket: end } = await opened();
    const message = (type: string): Buffer => Buffer.from(`d\0\0\0\x09${type}1234`, 'latin1');
    end.write(message('k'));
    await sleep(50);
    assert.equal(upstream.walHeardAt, undefined);
    end.write(message('w'));
    await until(() => upstream.walHeardAt !== undefined, 'WAL heard');
    socket.destroy();
  });

  it('is refused with the reason as Postgres would say it', async () => {
    promised = 2;
    upstream.aim({ ...target, epoch: 2 });
    assert.match(await refusalOf(dial()), /^E.*FATAL.*08001.*StaleEpoch/s);
    assert.match(upstream.problem, /StaleEpoch/);
    upstream.aim(undefined);
    assert.match(await refusalOf(dial()), /no primary to follow/);
    assert.equal(started.length, 0);
  });

  it('is refused again and again with one line in the log for each reason, whatever it was for', async () => {
    context = { ...(context as TunnelContext), isPrimary: false };
    const refusals = (): number => warnings.filter((message) => message === 'tunnel: refused').length;
    const dialTwice = async (): Promise<void> => {
      const before = asked;
      const dials = [dial(), dial(new Map([['user', 'anybody']]))];
      await until(() => asked >= before + 4, 'dialled again');
      for (const socket of dials) socket.destroy();
    };
    await dialTwice();
    assert.equal(refusals(), 1);
    context = { ...context, epoch: 4 };
    await dialTwice();
    assert.equal(refusals(), 2);
    context = { ...context, epoch: 3 };
    await dialTwice();
    assert.equal(refusals(), 2, 'the first reason is said again only later');
  });

  it('does not lead to a member with another certificate than the one meant', async () => {
    upstream.aim({ ...target, to: third });
    assert.match(await refusalOf(dial()), /is not c-0's/);
  });

  it('is refused to a certificate of another authority, and to none', async () => {
    const foreign = await makeCa(place, new Date());
    const identity = { kind: 'member' as const, member: other.name, ...place };
    const pair = await issueCertificate(foreign, { identity, dnsNames: [], ipAddresses: [] }, new Date());
    for (const own of [{ cert: pair.certificate, key: pair.privateKey }, {}]) {
      const socket = connectTls({
        ...own,
        host: '127.0.0.1',
        port: target.port,
        ca: ca.bundle,
        checkServerIdentity: () => undefined,
      });
      socket.on('error', () => {});
      socket.write('hello\n');
      await assert.rejects(readLine(socket, 1_000));
      socket.destroy();
    }
    assert.equal(started.length, 0);
  });

  it('is refused to a stranger of the keyspace who claims to be a follower', async () => {
    const stranger = await credentialsOf(third.name);
    const socket = connectTls({
      ca: stranger.ca,
      cert: stranger.certificate,
      key: stranger.key,
      host: '127.0.0.1',
      port: target.port,
      checkServerIdentity: () => undefined,
    });
    socket.on('error', () => {});
    const { shardUid, from, to, epoch, generation } = target;
    const hello = {
      protocol: 1 as const,
      purpose: 'stream' as const,
      session: '0123456789abcdef',
      shardUid,
      from,
      to,
      epoch,
      generation,
    };
    socket.write(handshakeLine(hello));
    const reply = parseReply(await readLine(socket, 1_000));
    assert.ok(reply?.accepted === false && reply.code === 'WrongMember');
    socket.destroy();
  });

  it('does not keep its server from stopping, in whatever handshake it is', async () => {
    const silent = connect(target.port, '127.0.0.1');
    await new Promise((resolve) => silent.once('connect', resolve));
    const secured = connectTls({
      ca: followerCredentials.ca,
      cert: followerCredentials.certificate,
      key: followerCredentials.key,
      host: '127.0.0.1',
      port: target.port,
      checkServerIdentity: () => undefined,
    });
    await new Promise((resolve) => secured.once('secureConnect', resolve));
    for (const socket of [silent, secured]) socket.on('error', () => {});
    const startedAt = performance.now();
    await server.stop();
    assert.ok(performance.now() - startedAt < 1_000);
    await until(() => silent.destroyed && secured.destroyed, 'both closed');
    // For the hook that follows each test.
    await server.listen(0, '127.0.0.1');
  });

  it('goes on with a renewed certificate, and so do those that are open', async () => {
    const before = dial();
    await opened();
    primaryCredentials = await credentialsOf(self.name);
    followerCredentials = await credentialsOf(other.name);
    server.renew(primaryCredentials);
    assert.equal(before.destroyed, false);
    before.destroy();
    const fresh = dial();
    await opened(1);
    fresh.destroy();
  });
});
