import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { fatalError, MAX_STARTUP_BYTES, readStartupPacket, writeStartupPacket } from '#agent/tunnel/startup-packet.ts';

const word = fc.string({ minLength: 1, maxLength: 40, unit: 'grapheme' }).filter((text) => !text.includes('\0'));
const parameters = fc
  .uniqueArray(
    fc.tuple(
      word,
      fc.string({ maxLength: 40 }).filter((text) => !text.includes('\0')),
    ),
    {
      selector: ([name]) => name,
      maxLength: 12,
    },
  )
  .map((pairs) => new Map(pairs));

function request(code: number, length = 8): Buffer {
  const packet = Buffer.alloc(length);
  packet.writeInt32BE(length, 0);
  packet.writeInt32BE(code, 4);
  return packet;
}

describe('a first packet', () => {
  it('reads back as what was written, whatever follows it', () => {
    fc.assert(
      fc.property(parameters, fc.uint8Array({ maxLength: 50 }), (written, behind) => {
        const packet = writeStartupPacket(written);
        const read = readStartupPacket(Buffer.concat([packet, behind]));
        assert.ok(read.kind === 'startup');
        assert.equal(read.bytes, packet.length);
        assert.deepEqual([...read.parameters], [...written]);
      }),
    );
  });

  it('is incomplete at every cut before its end', () => {
    fc.assert(
      fc.property(parameters, fc.nat(), (written, at) => {
        const packet = writeStartupPacket(written);
        assert.equal(readStartupPacket(packet.subarray(0, at % packet.length)).kind, 'incomplete');
      }),
    );
  });

  it('never throws, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const framed = Buffer.concat([request(0x00030000, 8), bytes]);
        framed.writeInt32BE(framed.length, 0);
        for (const packet of [Buffer.from(bytes), framed]) readStartupPacket(packet);
      }),
    );
  });

  it('may be a request for encryption, which is answered with no', () => {
    for (const code of [80877103, 80877104]) {
      assert.deepEqual(readStartupPacket(request(code)), { kind: 'encryption', bytes: 8 });
    }
  });

  const refused: readonly [string, Buffer][] = [
    ['a cancel request', request(80877102, 16)],
    ['another protocol', request(0x00020000)],
    ['a length below the header', request(0x00030000).fill(0, 0, 3).fill(4, 3, 4)],
    ['a length beyond the bound', Buffer.from([0, 0, 0x40, 0, 0, 3, 0, 0])],
    ['a negative length', Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0])],
    ['a list without its end', Buffer.from('\0\0\0\x0f\0\x03\0\0user\0ab', 'latin1')],
    ['a name without a value', Buffer.from('\0\0\0\x0e\0\x03\0\0user\0\0', 'latin1')],
    ['a name that comes twice', Buffer.from('\0\0\0\x11\0\x03\0\0u\0a\0u\0b\0\0', 'latin1')],
  ];
  for (const [what, packet] of refused) {
    it(`is refused when it is ${what}`, () => assert.equal(readStartupPacket(packet).kind, 'refused'));
  }

  it('cannot be written with a zero byte or beyond the bound', () => {
    assert.throws(() => writeStartupPacket(new Map([['user', 'a\0b']])), RangeError);
    assert.throws(() => writeStartupPacket(new Map([['user', 'a'.repeat(MAX_STARTUP_BYTES)]])), RangeError);
  });
});

it('a fatal error has its length right and its fields terminated', () => {
  const packet = fatalError('08001', 'no tunnel');
  assert.equal(packet.toString('latin1', 0, 1), 'E');
  assert.equal(packet.readInt32BE(1), packet.length - 1);
  assert.equal(packet.toString('utf8', 5), 'SFATAL\0VFATAL\0C08001\0Mno tunnel\0\0');
});
