import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  checkReply,
  decideTunnel,
  handshakeLine,
  parseHello,
  parseReply,
  readLine,
  type TunnelContext,
} from '#agent/tunnel/handshake.ts';
import { competes } from '#agent/tunnel/server.ts';
import { maxHandshakeBytes, type TunnelHello, type TunnelReply } from '#core/protocol/tunnel.ts';
import { other, self, third } from '../orders/orders-fixture.ts';

const hello: TunnelHello = {
  protocol: 1,
  purpose: 'stream',
  session: '0123456789abcdef',
  shardUid: 'uid',
  from: other,
  to: self,
  epoch: 3,
  generation: 2,
};
const context: TunnelContext = {
  member: self,
  shardUid: 'uid',
  epoch: 3,
  generation: 2,
  isPrimary: true,
  isReady: true,
  peers: [other],
};
const certified = { kind: 'member' as const, namespace: 'test', keyspace: 'shop', member: other.name };

describe('a tunnel is accepted', () => {
  it('from a member that the orders name, at the same epoch', () => {
    assert.deepEqual(decideTunnel(hello, certified, context), {
      accepted: true,
      member: self,
      epoch: 3,
      generation: 2,
    });
  });

  it('whatever generation it states', () => {
    assert.equal(decideTunnel({ ...hello, generation: 99 }, certified, context).accepted, true);
  });
});

const refused: readonly [string, string, Partial<TunnelHello>, Partial<TunnelContext> | undefined, object?][] = [
  ['before there are orders', 'NotReady', {}, undefined],
  ['for another shard', 'WrongShard', { shardUid: 'another' }, {}],
  ['from a member with the certificate of another', 'WrongMember', { from: third }, { peers: [third] }],
  ['from the operator', 'WrongMember', {}, {}, { kind: 'operator', namespace: 'test', keyspace: 'shop' }],
  ['to another member', 'WrongMember', { to: third }, {}],
  [
    'to what this member was before its volume was lost',
    'WrongMember',
    { to: { ...self, incarnation: third.incarnation } },
    {},
  ],
  [
    'from an incarnation that the orders do not name',
    'WrongMember',
    { from: { ...other, incarnation: third.incarnation } },
    {},
  ],
  ['at an older epoch', 'StaleEpoch', { epoch: 2 }, {}],
  ['at a newer epoch, since then this one is stale', 'StaleEpoch', { epoch: 4 }, {}],
  ['by a member that is not the primary', 'NotPrimary', {}, { isPrimary: false }],
  ['while Postgres takes no connections', 'NotReady', {}, { isReady: false }],
];

describe('a tunnel is refused', () => {
  for (const [what, code, hi, given, peer] of refused) {
    it(what, () => {
      const reply = decideTunnel(
        { ...hello, ...hi },
        (peer ?? certified) as typeof certified,
        given === undefined ? undefined : { ...context, ...given },
      );
      assert.equal(reply.accepted ? 'accepted' : reply.code, code);
    });
  }
});

describe('the dialling side', () => {
  const good: TunnelReply = { accepted: true, member: self, epoch: 3, generation: 2 };
  it('takes the answer of the member and epoch that it asked for', () => {
    assert.equal(checkReply(hello, good), undefined);
  });
  it('takes no other member, incarnation or epoch, and no refusal', () => {
    assert.ok(checkReply(hello, { ...good, member: third }));
    assert.ok(checkReply(hello, { ...good, member: { ...self, incarnation: third.incarnation } }));
    assert.ok(checkReply(hello, { ...good, epoch: 4 }));
    assert.match(checkReply(hello, { accepted: false, code: 'NotPrimary', message: 'no' }) ?? '', /NotPrimary: no/);
  });
});

describe('a line of the handshake', () => {
  const arbitraryHello = fc.record(
    {
      protocol: fc.constant(1 as const),
      purpose: fc.constantFrom('stream' as const, 'basebackup' as const, 'slotsync' as const),
      session: fc.constantFrom('0123456789abcdef', 'ffffffffffffffff'),
      shardUid: fc.string({ maxLength: 40 }),
      from: fc.constantFrom(self, other),
      to: fc.constantFrom(third, other),
      epoch: fc.integer({ min: 1 }),
      generation: fc.nat(),
    },
    { noNullPrototype: true },
  );

  it('reads back, however it comes, and leaves what follows in the socket', async () => {
    await fc.assert(
      fc.asyncProperty(arbitraryHello, fc.uint8Array({ maxLength: 30 }), fc.nat(), async (said, behind, at) => {
        const bytes = Buffer.concat([Buffer.from(handshakeLine(said)), behind]);
        const cut = at % bytes.length;
        const socket = new PassThrough();
        const line = readLine(socket as unknown as Socket, 1_000);
        socket.write(bytes.subarray(0, cut));
        socket.write(bytes.subarray(cut));
        assert.deepEqual(parseHello(await line), said);
        socket.end();
        const rest = (await socket.toArray()) as Buffer[];
        assert.deepEqual(Buffer.concat(rest), Buffer.from(behind));
      }),
      { numRuns: 50 },
    );
  });

  it('is nothing when it is not ours', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        assert.equal(parseHello(text), undefined);
        assert.equal(parseReply(text), undefined);
      }),
    );
    assert.equal(parseHello(JSON.stringify({ ...hello, protocol: 2 })), undefined);
    assert.equal(parseHello(JSON.stringify({ ...hello, epoch: 0 })), undefined);
  });

  it('is given up when it is too long, late, or the socket ends', async () => {
    const long = new PassThrough();
    const reading = readLine(long as unknown as Socket, 1_000);
    long.write('x'.repeat(maxHandshakeBytes + 1));
    await assert.rejects(reading, /too long/);
    await assert.rejects(readLine(new PassThrough() as unknown as Socket, 10), /no answer within 10 ms/);
    const ending = new PassThrough();
    const ended = readLine(ending as unknown as Socket, 1_000);
    ending.end();
    await assert.rejects(ended, /hung up/);
  });
});

it('a newer session of the same member takes the place of its older ones, other purposes stay apart', () => {
  const fresh = { ...hello, session: 'ffffffffffffffff' };
  assert.equal(competes(hello, fresh), true);
  assert.equal(competes({ ...hello, purpose: 'basebackup' }, fresh), true);
  assert.equal(competes(hello, { ...hello }), false, 'two connections of one copy');
  assert.equal(competes({ ...hello, purpose: 'slotsync' }, fresh), false);
  assert.equal(competes({ ...hello, from: third }, fresh), false);
});
