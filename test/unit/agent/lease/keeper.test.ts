/** Keepers of several members against each other: real threads, real TLS, the real clock. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { after, before, describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { LeaseKeeper, LeaseNotInForce } from '#agent/lease/keeper.ts';
import type { ServeWish } from '#agent/lease/messages.ts';
import { lineOf } from '#agent/lease/wire.ts';
import { type Credentials, secureContextOf } from '#agent/tls/credentials.ts';
import { bootTimeMs } from '#clock/boot-time.ts';
import { leaseMs } from '#core/authority/timing.ts';
import { replicationName } from '#core/identity.ts';
import { makeCa } from '#operator/pki/authority.ts';
import { a, b, c, following, Keepers, place, serving, until } from './keepers.ts';

/** Between two members, on the network: whatever arrives is handed on, held back, or cut. */
class Wire {
  readonly port: number;
  readonly #sockets: Socket[];
  readonly #close: () => void;
  isSilent = false;

  private constructor(port: number, sockets: Socket[], close: () => void) {
    this.port = port;
    this.#sockets = sockets;
    this.#close = close;
  }

  static async to(port: number): Promise<Wire> {
    const sockets: Socket[] = [];
    const server = createServer((near) => {
      const far = connect(port, '127.0.0.1');
      sockets.push(near, far);
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        from.on('error', () => {}).on('close', () => !wire.isSilent && to.destroy());
        from.on('data', (chunk: Buffer) => !wire.isSilent && to.write(chunk));
      }
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const wire = new Wire(typeof address === 'object' && address !== null ? address.port : 0, sockets, () => {
      server.close();
    });
    return wire;
  }

  cut(): void {
    for (const socket of this.#sockets.splice(0)) socket.destroy();
  }

  close(): void {
    this.#close();
    this.cut();
  }
}

describe('leases between members', { concurrency: 3 }, () => {
  let certificates: Keepers;
  before(async () => {
    certificates = await Keepers.make();
  });
  after(() => certificates.closeAll());

  /** Every test has keepers of its own, with certificates of one authority. */
  const keepersOf = async (t: TestContext): Promise<Keepers> => {
    const keepers = await Keepers.make(certificates.ca);
    t.after(() => keepers.closeAll());
    return keepers;
  };
  const isHeld = (keeper: LeaseKeeper): boolean => keeper.remainingMs() !== 0;

  it('are held while a follower grants, and for their length after the last question', async (t) => {
    const keepers = await keepersOf(t);
    const primary = await keepers.start(a);
    const follower = await keepers.start(b);
    await primary.serve(serving([b]));
    assert.equal(primary.remainingMs(), 0);
    await follower.follow(following(a, primary.port));
    await until(() => isHeld(primary), 'held');
    assert.ok(primary.isHeldFor(1, 1));
    assert.ok(!primary.isHeldFor(1, 2) && !primary.isHeldFor(2, 1));
    const [grant] = await primary.grants();
    assert.ok(
      grant?.from === replicationName(b) && grant.remainingMs > 0 && grant.ageMs < leaseMs,
      JSON.stringify(grant),
    );
    await sleep(3_500);
    await until(() => isHeld(primary), 'renewed');
    const lostBefore = primary.leaseNumber();

    const { grantRemainingMs } = await follower.stop();
    const heldMs = primary.remainingMs() ?? 0;
    assert.ok(grantRemainingMs > 0 && grantRemainingMs <= leaseMs + 20, `${grantRemainingMs}`);
    assert.ok(heldMs <= grantRemainingMs, 'the holder never thinks that it has longer than the grantor does');
    await until(() => primary.remainingMs() === 0, 'run out');
    assert.ok(!primary.isHeldFor(1, 1));
    await until(() => primary.leaseNumber() === lostBefore + 1, 'counted as lost');
  });

  it('follow the main thread that says it serves, and not one that has fallen silent', async (t) => {
    const keepers = await keepersOf(t);
    const primary = await keepers.start(a);
    const follower = await keepers.start(b);
    await primary.serve(serving([b]));
    await follower.follow(following(a, primary.port));
    await until(() => isHeld(primary), 'held');
    await sleep(400);
    assert.equal(follower.heardMs().servingMs, null);
    primary.setServing(true);
    await until(() => follower.heardMs().servingMs !== null, 'heard');
    // Said once and never again: it holds for two seconds, and is asked about every 300 ms.
    await until(() => (follower.heardMs().servingMs ?? 0) > 1_000, 'silent again');
    await until(() => isHeld(primary), 'the lease goes on');
    primary.setServing(true);
    await until(() => (follower.heardMs().servingMs ?? 9_999) < 900, 'heard again');
    primary.setServing(false);
    await until(() => (follower.heardMs().servingMs ?? 0) > 900, 'taken back');
  });

  it('are granted to the one member that was named, at its epoch alone', async (t) => {
    const keepers = await keepersOf(t);
    const primary = await keepers.start(a);
    const follower = await keepers.start(b);
    await primary.serve(serving([b], { epoch: 2 }));
    const saidSo = (reason: string): boolean =>
      keepers.said.some(({ details }) => JSON.stringify(details).includes(reason));
    for (const [wrong, reason] of [
      [following(a, primary.port, { epoch: 1 }), 'serves epoch 2, not 1'],
      [following(a, primary.port, { epoch: 3 }), 'serves epoch 2, not 3'],
      [following({ ...a, incarnation: c.incarnation }, primary.port, { epoch: 2 }), 'this is shop-eu-0, incarnation'],
      [following(c, primary.port, { epoch: 2 }), "is not shop-ap-0's"],
      [following(a, primary.port, { epoch: 2, shardUid: 'another' }), 'this is shard uid'],
    ] as const) {
      await follower.follow(wrong);
      await until(() => saidSo(reason), reason);
      assert.equal(primary.remainingMs(), 0, reason);
    }
    assert.equal(follower.grantRemainingMs(), 0, 'nothing was granted');
    await follower.follow(following(a, primary.port, { epoch: 2, generation: 9 }));
    await until(() => isHeld(primary), 'held, whatever generation the follower knows of');
  });

  it("are nobody's who is not listed: another member, another incarnation, another authority", async (t) => {
    const keepers = await keepersOf(t);
    const primary = await keepers.start(a);
    await primary.serve(serving([b]));
    const foreign = await makeCa(place, new Date());
    const warnings = (): string[] =>
      keepers.said.filter(({ level }) => level === 'warn').map((said) => JSON.stringify(said));
    for (const [stranger, reason] of [
      [await keepers.start(c), 'name no shop-ap-0'],
      [await keepers.start({ ...b, incarnation: c.incarnation }), `with incarnation ${c.incarnation}`],
      // b by its own word, c by its certificate.
      [
        await keepers.start(b, { credentials: await keepers.credentials(c.name) }),
        "the certificate is not shop-us-0's",
      ],
      [await keepers.start(b, { credentials: await keepers.credentials(b.name, foreign) }), 'TLS refused'],
    ] as const) {
      await stranger.follow(following(a, primary.port));
      await until(() => warnings().some((line) => line.includes(reason)), reason);
      assert.equal(primary.remainingMs(), 0);
      assert.equal(stranger.grantRemainingMs(), 0);
    }
    await sleep(1_000);
    assert.equal(primary.remainingMs(), 0);
    assert.ok(warnings().length < 30, 'who comes again and again is spoken of once');
  });

  it('need what a change of settings asks for before it is in force', async (t) => {
    const keepers = await keepersOf(t);
    const primary = await keepers.start(a);
    const follower = await keepers.start(b);
    await primary.serve(serving([b]));
    await follower.follow(following(a, primary.port));
    await until(() => isHeld(primary), 'held');
    const both = serving([b, c], { generation: 2, lease: { members: [b, c], required: 2, kubernetes: false } });
    await assert.rejects(primary.serve(both), LeaseNotInForce);
    await until(() => isHeld(primary), 'by the settings before, which stay in force');
    assert.ok(!primary.isHeldFor(1, 2));
    const other = await keepers.start(c);
    await other.follow(following(a, primary.port));
    await inForce(primary, both);
    await until(() => primary.isHeldFor(1, 2), 'held by both');
    await inForce(primary, serving([c], { generation: 3 }));
    await other.stop();
    await until(() => primary.remainingMs() === 0, 'gone with the one that is still listed');
  });

  it('come back by themselves when a connection is cut, when the primary is away for a while, and with new certificates', async (t) => {
    const keepers = await keepersOf(t);
    let primary = await keepers.start(a);
    const follower = await keepers.start(b);
    const wire = await Wire.to(primary.port);
    t.after(() => wire.close());
    await primary.serve(serving([b]));
    await follower.follow(following(a, wire.port));
    await until(() => isHeld(primary), 'held');
    for (let cut = 0; cut < 5; cut++) {
      wire.cut();
      await sleep(200);
    }
    await until(() => (primary.remainingMs() ?? 0) > 2_000, 'renewed');

    const { port } = primary;
    await keepers.close(primary);
    await sleep(300);
    primary = await keepers.start(a, { port });
    primary.renewCredentials(await keepers.credentials(a.name));
    follower.renewCredentials(await keepers.credentials(b.name));
    await primary.serve(serving([b], { generation: 2 }));
    await until(() => isHeld(primary), 'held again');
  });

  it('notice a connection that is only half there, and dial again', async (t) => {
    const keepers = await keepersOf(t);
    const primary = await keepers.start(a);
    const follower = await keepers.start(b);
    const wire = await Wire.to(primary.port);
    t.after(() => wire.close());
    await primary.serve(serving([b]));
    await follower.follow(following(a, wire.port));
    await until(() => isHeld(primary), 'held');
    // Nothing arrives any more, and nobody hangs up, as when a firewall has forgotten the connection.
    wire.isSilent = true;
    await until(() => primary.remainingMs() === 0, 'lost while it lasts');
    await until(
      () => keepers.said.some((said) => JSON.stringify(said).includes('has asked nothing for a while')),
      'noticed',
    );
    wire.isSilent = false;
    await until(() => isHeld(primary), 'held again');
  });

  it('are not disturbed by callers that talk nonsense, too much, or not at all', async (t) => {
    const keepers = await keepersOf(t);
    const primary = await keepers.start(a);
    const follower = await keepers.start(b);
    await primary.serve(serving([b, c]));
    await follower.follow(following(a, primary.port));
    await until(() => isHeld(primary), 'held');
    const nonsense = await keepers.credentials(c.name);
    const hello = lineOf({ protocol: 1, shardUid: 'uid', from: c, to: a, epoch: 1, generation: 1 });
    const early = lineOf({ type: 'grant', epoch: 1, generation: 1, n: 1, leaseMs: 3_000 });
    for (const said of [
      'GET / HTTP/1.1\r\n\r\n',
      '\n',
      'x'.repeat(100_000),
      `${hello}garbage\n`,
      `${hello}${'{'.repeat(5_000)}`,
      `${hello}${lineOf({ type: 'grant', epoch: 2, generation: 1, n: 1, leaseMs: 3_000 })}`,
      // A grant for a question that was never asked counts for nothing, a thousand of them neither.
      hello + early.repeat(1_000),
    ]) {
      const socket = await say(primary.port, nonsense, said);
      await sleep(50);
      socket.destroy();
    }
    const silent = connect(primary.port, '127.0.0.1').on('error', () => {});
    t.after(() => silent.destroy());
    // One that says hello and then never answers is hung up on.
    const deaf = await say(primary.port, nonsense, hello);
    deaf.resume();
    await sleep(1_500);
    assert.ok(isHeld(primary));
    assert.equal(primary.leaseNumber(), 0);
    const { grantRemainingMs } = await follower.stop();
    await until(
      () => primary.remainingMs() === 0,
      'nothing of all that has granted anything',
      grantRemainingMs + 1_000,
    );
    deaf.destroy();
  });

  it('end for the follower when its primary talks nonsense', async (t) => {
    const keepers = await keepersOf(t);
    const follower = await keepers.start(b);
    const said = [
      'nonsense\n',
      'x'.repeat(50_000),
      lineOf({ type: 'request', epoch: 7, generation: 1, n: 1, serving: true }),
    ];
    let dialled = 0;
    const server = createTlsServer(
      { ...secureContextOf(await keepers.credentials(a.name)), requestCert: true },
      (socket) => {
        socket.on('error', () => {});
        socket.end(said[dialled % said.length] ?? '').resume();
        dialled += 1;
      },
    );
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close());
    const address = server.address();
    await follower.follow(following(a, typeof address === 'object' && address !== null ? address.port : 0));
    await until(() => dialled >= 6, 'it dials again');
    assert.equal(follower.grantRemainingMs(), 0);
    assert.equal(follower.heardMs().servingMs, null);
  });

  describe('that a follower gave', () => {
    it('are remembered across a restart, by the longest that was ever granted (A7)', async (t) => {
      const keepers = await keepersOf(t);
      const persisted: number[] = [];
      const first = await keepers.start(b, { persistLongestLease: async (ms) => void persisted.push(ms) });
      assert.equal(first.grantRemainingMs(), 0, 'nothing was ever granted');
      await first.follow(following(a, 1));
      assert.deepEqual(persisted, [leaseMs], 'on disk before the first grant can be');
      await keepers.close(first);

      const beforeMs = bootTimeMs();
      const again = await keepers.start(b, { longestLeaseMs: leaseMs });
      const { grantRemainingMs } = await again.stop();
      const ageMs = bootTimeMs() - beforeMs;
      assert.ok(grantRemainingMs >= leaseMs - ageMs && grantRemainingMs <= leaseMs + 20, `${grantRemainingMs}`);
      await until(() => again.grantRemainingMs() === 0, 'until its age is past it');
    });

    it("are another incarnation's no more once it has become a new member (A2)", async (t) => {
      const keepers = await keepersOf(t);
      const primary = await keepers.start(a);
      const follower = await keepers.start(b);
      const renewed = { ...b, incarnation: c.incarnation };
      await primary.serve(serving([b], { peers: [b, renewed] }));
      await follower.follow(following(a, primary.port));
      await until(() => isHeld(primary), 'held');
      follower.renewIdentity(renewed);
      await until(() => primary.remainingMs() === 0, 'the new one does not count as the old one');
      await primary.serve(serving([renewed], { generation: 2 }));
      await until(() => isHeld(primary), 'held by the new one');
    });

    it('are not given where they could not be remembered', async (t) => {
      const keepers = await keepersOf(t);
      const primary = await keepers.start(a);
      await primary.serve(serving([b]));
      const follower = await keepers.start(b, {
        persistLongestLease: () => Promise.reject(new Error('disk on fire')),
      });
      await assert.rejects(follower.follow(following(a, primary.port)), /disk on fire/);
      await sleep(300);
      assert.equal(primary.remainingMs(), 0);
    });

    it('keep counting towards a primary that is followed no more', async (t) => {
      const keepers = await keepersOf(t);
      const old = await keepers.start(a);
      const next = await keepers.start(c);
      const follower = await keepers.start(b);
      await old.serve(serving([b]));
      await next.serve(serving([b], { epoch: 2 }));
      await follower.follow(following(a, old.port));
      await until(() => isHeld(old), 'held');
      await follower.follow(following(c, next.port, { epoch: 2 }));
      const oldMs = old.remainingMs() ?? 0;
      assert.ok(follower.grantRemainingMs() >= oldMs - 50);
      await until(() => isHeld(next), 'held at the next epoch');
      await until(() => old.remainingMs() === 0, 'and no more at the old one');
      await until(() => isHeld(next), 'still');
    });
  });

  it('end with the wish, and the thread with its keeper', async (t) => {
    const keepers = await keepersOf(t);
    const primary = await keepers.start(a);
    const follower = await keepers.start(b);
    await primary.serve(serving([b]));
    await follower.follow(following(a, primary.port));
    await until(() => isHeld(primary), 'held');
    await primary.stop();
    assert.equal(primary.remainingMs(), 0);
    await until(() => follower.grantRemainingMs() === 0, 'it is asked for nothing more');
  });

  it('fail at the start where the port is taken', async (t) => {
    const keepers = await keepersOf(t);
    const first = await keepers.start(a);
    await assert.rejects(keepers.start(b, { port: first.port }), /EADDRINUSE/);
  });
});

/** As the agent does it: again and again until it is. */
async function inForce(keeper: LeaseKeeper, wish: ServeWish): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await keeper.serve(wish);
      return;
    } catch (error) {
      if (!(error instanceof LeaseNotInForce) || attempt > 20) throw error;
    }
  }
}

async function say(port: number, credentials: Credentials, text: string): Promise<TLSSocket> {
  const socket = connectTls({
    ...secureContextOf(credentials),
    host: '127.0.0.1',
    port,
    checkServerIdentity: () => undefined,
  });
  socket.on('error', () => {});
  await once(socket, 'secureConnect');
  socket.write(text);
  return socket;
}
