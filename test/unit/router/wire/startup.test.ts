/** Start-up packets: read exactly, bounded, and options split as Postgres splits them. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ProtocolViolation } from '#router/wire/protocol-violation.ts';
import {
  cancelRequest,
  readStartupPacket,
  settingsOfOptions,
  splitOptions,
  sslRequest,
  startupPacket,
  startupPacketBytes,
} from '#router/wire/startup.ts';
import { int32 } from '#router/wire/writer.ts';

describe('startup packets', () => {
  test('golden bytes of an SSL request and a cancel request', () => {
    assert.equal(sslRequest.toString('hex'), '0000000804d2162f');
    assert.deepEqual(readStartupPacket(sslRequest), { kind: 'ssl' });
    assert.deepEqual(readStartupPacket(Buffer.from('0000000804d21630', 'hex')), { kind: 'gss' });
    assert.equal(cancelRequest(0x01020304, 0x05060708).toString('hex'), '0000001004d2162e0102030405060708');
    assert.deepEqual(readStartupPacket(cancelRequest(7, -9)), { kind: 'cancel', processId: 7, secret: int32(-9) });
  });

  test('the key of a cancel request is one to 256 bytes', () => {
    const key = Buffer.alloc(256, 7);
    assert.deepEqual(readStartupPacket(cancelRequest(7, key)), { kind: 'cancel', processId: 7, secret: key });
    for (const wrong of [Buffer.alloc(0), Buffer.alloc(257)])
      assert.throws(() => readStartupPacket(cancelRequest(7, wrong)), ProtocolViolation);
  });

  test('parameters come back as they were sent, protocol options apart', () => {
    const packet = readStartupPacket(startupPacket({ user: 'ann', database: 'shop', '_pq_.x': '1' }));
    assert.ok(packet.kind === 'startup');
    assert.deepEqual(
      [...packet.parameters],
      [
        ['user', 'ann'],
        ['database', 'shop'],
      ],
    );
    assert.deepEqual(packet.protocolOptions, ['_pq_.x']);
  });

  test('lengths are unsigned and bounded', () => {
    for (const length of [0, 7, 10_001, 0x7fffffff, -1])
      assert.throws(() => startupPacketBytes(int32(length)), ProtocolViolation, `length ${length}`);
    assert.equal(startupPacketBytes(int32(10_000)), 10_000);
    assert.equal(startupPacketBytes(Buffer.from([0, 0])), undefined);
  });

  test('any bytes at all are either read or a violation', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 8, maxLength: 80 }), fc.boolean(), (bytes, isThree) => {
        const packet = Buffer.from(bytes);
        packet.writeUInt32BE(packet.length, 0);
        if (isThree) packet.writeUInt32BE(0x30000, 4);
        try {
          readStartupPacket(packet);
        } catch (error) {
          assert.ok(error instanceof ProtocolViolation, String(error));
        }
      }),
    );
  });
});

describe('options', () => {
  test('are split at white space, with the backslash taking the next character', () => {
    assert.deepEqual(splitOptions('  -c a=b\\ c  --x=y\\\\z '), ['-c', 'a=b c', '--x=y\\z']);
  });

  test('say settings in each of their three forms, and nothing else', () => {
    assert.deepEqual(settingsOfOptions('-c meridian.tenant=acme -cwork_mem=4MB --statement-timeout=5s'), [
      ['meridian.tenant', 'acme'],
      ['work_mem', '4MB'],
      ['statement_timeout', '5s'],
    ]);
    for (const wrong of ['-c', '-c novalue', '-E', '--=x', 'plain', '-p 5432'])
      assert.throws(() => settingsOfOptions(wrong), RangeError, wrong);
  });
});
