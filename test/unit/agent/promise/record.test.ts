import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import {
  decodeSlot,
  encodeSlot,
  FILE_BYTES,
  newestSlot,
  type PromiseRecord,
  PromiseVersionError,
  SLOT_BYTES,
} from '#agent/promise/record.ts';

const hex = (length: number) =>
  fc
    .array(fc.constantFrom(...'0123456789abcdef'.split('')), { minLength: length, maxLength: length })
    .map((d) => d.join(''));
const counter = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const record: fc.Arbitrary<PromiseRecord> = fc.record(
  {
    incarnation: hex(16),
    shardUid: fc.string({ maxLength: 80 }),
    systemIdentifier: fc.string({ maxLength: 30 }),
    epoch: counter,
    grantee: fc.string({ maxLength: 120 }),
    generation: counter,
    leaderTerm: counter,
    sequence: counter,
    longestLeaseMs: counter,
  },
  { noNullPrototype: true },
);
const writeNumber = fc.bigInt({ min: 1n, max: (1n << 63n) - 1n });

/** The file after a series of whole writes, as PromiseFile makes them: slot by slot in turn. */
function fileAfter(records: readonly PromiseRecord[]): Buffer {
  const file = Buffer.alloc(FILE_BYTES);
  records.forEach((written, index) => {
    encodeSlot({ writeNumber: BigInt(index + 1), record: written }).copy(file, (index % 2) * SLOT_BYTES);
  });
  return file;
}

describe('a slot of the promise', () => {
  it('reads back what was written, in a slot of constant size', () => {
    fc.assert(
      fc.property(record, writeNumber, (written, number) => {
        const bytes = encodeSlot({ writeNumber: number, record: written });
        assert.equal(bytes.length, SLOT_BYTES);
        assert.deepEqual(decodeSlot(bytes), { writeNumber: number, record: written });
      }),
    );
  });

  it('is not believed when a bit of it is wrong', () => {
    fc.assert(
      fc.property(record, fc.nat(), fc.nat({ max: 7 }), (written, at, bit) => {
        const bytes = encodeSlot({ writeNumber: 7n, record: written });
        const used = 16 + bytes.readUInt16LE(6) + 4;
        const index = at % used;
        bytes[index] = (bytes[index] ?? 0) ^ (1 << bit);
        assert.equal(decodeSlot(bytes), undefined);
      }),
    );
  });

  it('is not found in any other bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        assert.equal(decodeSlot(Buffer.from(bytes)), undefined);
      }),
    );
  });

  it('of another version that is intact is no empty one: reading it fails', () => {
    const bytes = encodeSlot({ writeNumber: 7n, record: decodable() });
    const end = 16 + bytes.readUInt16LE(6);
    bytes.writeUInt16LE(2, 4);
    assert.equal(decodeSlot(bytes), undefined, 'its checksum is wrong');
    bytes.writeUInt32LE(crc32(bytes.subarray(0, end)), end);
    assert.throws(() => decodeSlot(bytes), PromiseVersionError);
    const file = fileAfter([decodable()]);
    bytes.copy(file, SLOT_BYTES);
    assert.throws(() => newestSlot(file), PromiseVersionError);
  });

  it('refuses a record that fits no slot', () => {
    const long = { ...decodable(), shardUid: 'x'.repeat(SLOT_BYTES) };
    assert.throws(() => encodeSlot({ writeNumber: 1n, record: long }), RangeError);
  });
});

describe('the two slots', () => {
  it('give the last whole write, however the next one is torn', () => {
    fc.assert(
      fc.property(
        fc.array(record, { minLength: 1, maxLength: 6 }),
        record,
        fc.nat({ max: SLOT_BYTES }),
        fc.boolean(),
        (written, next, cut, isScattered) => {
          const file = fileAfter(written);
          const slot = encodeSlot({ writeNumber: BigInt(written.length + 1), record: next });
          const offset = (written.length % 2) * SLOT_BYTES;
          // A torn write leaves some sectors new and some old: a prefix, or every other 512 bytes.
          for (let at = 0; at < SLOT_BYTES; at += 1) {
            const isNew = isScattered ? Math.floor(at / 512) % 2 === cut % 2 : at < cut;
            if (isNew) file[offset + at] = slot[at] ?? 0;
          }
          const found = newestSlot(file);
          const isWhole = file.subarray(offset, offset + SLOT_BYTES).equals(slot);
          // Where the cut lies behind the checksum the new record is whole although the padding isn't all written.
          const isReadable = isWhole || found?.writeNumber === BigInt(written.length + 1);
          assert.deepEqual(found?.record, isReadable ? next : written.at(-1));
        },
      ),
    );
  });

  it('give nothing when both are bad', () => {
    assert.equal(newestSlot(Buffer.alloc(FILE_BYTES)), undefined);
    assert.equal(newestSlot(Buffer.alloc(10)), undefined);
  });
});

function decodable(): PromiseRecord {
  return {
    incarnation: '0123456789abcdef',
    shardUid: '',
    systemIdentifier: '',
    epoch: 0,
    grantee: '',
    generation: 0,
    leaderTerm: 0,
    sequence: 0,
    longestLeaseMs: 0,
  };
}
