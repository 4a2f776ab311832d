import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { readRefusal, WAL_REMOVED } from '#agent/tunnel/refusal.ts';
import { fatalError } from '#agent/tunnel/startup-packet.ts';

function message(type: string, body: Buffer): Buffer {
  const packet = Buffer.alloc(5 + body.length);
  packet.write(type, 0, 'latin1');
  packet.writeInt32BE(4 + body.length, 1);
  body.copy(packet, 5);
  return packet;
}
const removed = fatalError(WAL_REMOVED, 'requested WAL segment 000000010000000000000007 has already been removed');

it('an error behind the start of a copy is found with its code and words', () => {
  const received = [
    message('Z', Buffer.from('I')),
    message('W', Buffer.alloc(3)),
    message('d', Buffer.alloc(18)),
    removed,
  ];
  assert.deepEqual(readRefusal(Buffer.concat(received)), {
    sqlState: '58P01',
    message: 'requested WAL segment 000000010000000000000007 has already been removed',
  });
});

it('an error inside the WAL that is carried is none', () => {
  assert.equal(readRefusal(message('d', removed)), undefined);
});

it('a piece of an error is none, and no bytes do harm', () => {
  fc.assert(
    fc.property(fc.nat({ max: removed.length - 1 }), fc.uint8Array({ maxLength: 100 }), (cut, bytes) => {
      assert.equal(readRefusal(removed.subarray(0, cut)), undefined);
      readRefusal(Buffer.from(bytes));
    }),
  );
});
