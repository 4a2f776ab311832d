/** Frames come out whole and in order however the stream is cut, and lying lengths never get through. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FrameSplitter } from '#router/wire/frames.ts';
import { ProtocolViolation } from '#router/wire/protocol-violation.ts';
import { message } from '#router/wire/writer.ts';

const frames = fc.array(
  fc
    .tuple(fc.integer({ min: 1, max: 255 }), fc.uint8Array({ maxLength: 40 }))
    .map(([type, body]) => message(type, Buffer.from(body))),
  { maxLength: 12 },
);

/** Cuts a buffer at the given places. */
function cut(buffer: Buffer, places: readonly number[]): Buffer[] {
  const at = [...new Set(places.map((place) => place % (buffer.length + 1)))].toSorted((a, b) => a - b);
  return [0, ...at].map((from, index) => buffer.subarray(from, at[index] ?? buffer.length));
}

function split(chunks: readonly Buffer[], maxBytes = 1_000): Buffer[] {
  const splitter = new FrameSplitter(maxBytes);
  const found: Buffer[] = [];
  for (const chunk of chunks)
    splitter.push(chunk, (type, frame) => {
      assert.equal(type, frame[0]);
      found.push(Buffer.from(frame));
    });
  return found;
}

describe('FrameSplitter', () => {
  test('gives the same frames however the stream is cut', () => {
    fc.assert(
      fc.property(frames, fc.array(fc.nat()), (expected, places) => {
        assert.deepEqual(split(cut(Buffer.concat(expected), places)), expected);
      }),
    );
  });

  test('gives the same frames byte by byte', () => {
    fc.assert(
      fc.property(frames, (expected) => {
        const stream = Buffer.concat(expected);
        assert.deepEqual(split([...stream].map((byte) => Buffer.from([byte]))), expected);
      }),
      { numRuns: 50 },
    );
  });

  test('does not copy a frame that lies whole in one chunk', () => {
    const chunk = Buffer.concat([message(1, Buffer.from('abc')), message(2)]);
    new FrameSplitter(100).push(chunk, (_type, frame) => assert.equal(frame.buffer, chunk.buffer));
  });

  test('refuses every length below 4 and above the limit, read as unsigned', () => {
    for (const length of [0, 1, 3, 101, 0x7fffffff, 0x80000000, 0xffffffff]) {
      const header = Buffer.alloc(5, 0x51);
      header.writeUInt32BE(length, 1);
      assert.throws(() => split([header], 100), ProtocolViolation, `length ${length}`);
      assert.throws(() => split([header.subarray(0, 3), header.subarray(3)], 100), ProtocolViolation);
    }
  });

  test('hands over what it holds', () => {
    const splitter = new FrameSplitter(100);
    splitter.push(Buffer.from([1, 0, 0, 0]), () => assert.fail());
    assert.equal(splitter.heldBytes, 4);
    assert.deepEqual([...splitter.takeHeld()], [1, 0, 0, 0]);
    assert.equal(splitter.heldBytes, 0);
  });

  test('weighs what comes byte by byte by its parts, and nothing once it is whole or not wanted', () => {
    const splitter = new FrameSplitter(100);
    const frame = message(1, Buffer.alloc(20));
    const push = (count: number): void => {
      for (const byte of frame.subarray(0, count)) splitter.push(Buffer.from([byte]), () => {});
    };
    push(10);
    assert.ok(splitter.weight > 1_000, `${splitter.weight}`);
    splitter.clear();
    assert.equal(splitter.weight, 0);
    push(frame.length);
    assert.equal(splitter.weight, 0);
  });
});
