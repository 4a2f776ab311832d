import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { readRefusal, readSystemIdentifier, WAL_REMOVED } from '#agent/tunnel/refusal.ts';
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

/** As a walsender of Postgres 17 answers IDENTIFY_SYSTEM on a physical connection: dbname is null. */
function identified(systemIdentifier: string): Buffer {
  const columns = [systemIdentifier, '1', '0/3000060'].map((text) => {
    const column = Buffer.alloc(4 + text.length);
    column.writeInt32BE(text.length, 0);
    column.write(text, 4, 'latin1');
    return column;
  });
  return message('D', Buffer.concat([Buffer.from([0, 4]), ...columns, Buffer.alloc(4, 0xff)]));
}

it('the system identifier is read from the first row of four columns', () => {
  const before = [message('R', Buffer.alloc(4)), message('Z', Buffer.from('I')), message('T', Buffer.alloc(20))];
  assert.equal(
    readSystemIdentifier(Buffer.concat([...before, identified('7711283796970909729')])),
    '7711283796970909729',
  );
  assert.equal(readSystemIdentifier(Buffer.concat(before)), undefined);
  assert.equal(readSystemIdentifier(identified('on')), undefined);
  assert.equal(readSystemIdentifier(message('D', Buffer.from([0, 4]))), undefined);
  assert.equal(readSystemIdentifier(message('D', Buffer.from([0, 1, 0, 0, 0, 1, 0x37]))), undefined);
});
