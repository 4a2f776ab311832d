import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  fromPrimarySchema,
  LineReader,
  leaseGrantSchema,
  leaseHelloSchema,
  lineOf,
  MAX_LINE_BYTES,
  parseLine,
} from '#agent/lease/wire.ts';
import { a, b } from './keepers.ts';

describe('the words of the lease port', () => {
  it('come out as they went in', () => {
    const hello = { protocol: 1 as const, shardUid: 'uid', from: b, to: a, epoch: 4, generation: 0 };
    assert.deepEqual(parseLine(leaseHelloSchema, lineOf(hello)), hello);
    const request = { type: 'request' as const, epoch: 4, generation: 2, n: 9, serving: true };
    assert.deepEqual(parseLine(fromPrimarySchema, lineOf(request)), request);
    const grant = { type: 'grant' as const, epoch: 4, generation: 2, n: 9, leaseMs: 3_000 };
    assert.deepEqual(parseLine(leaseGrantSchema, lineOf(grant)), grant);
  });

  it('are nothing where anything is missing, too much, or of the wrong kind', () => {
    const grant = { type: 'grant', epoch: 4, generation: 2, n: 9, leaseMs: 3_000 };
    for (const wrong of [
      '',
      'grant',
      'null',
      '[]',
      '{"type":"grant"}',
      JSON.stringify({ ...grant, epoch: 0 }),
      JSON.stringify({ ...grant, n: 1.5 }),
      JSON.stringify({ ...grant, n: '9' }),
      JSON.stringify({ ...grant, leaseMs: 0 }),
      JSON.stringify({ ...grant, leaseMs: 1e9 }),
      JSON.stringify({ ...grant, type: 'request' }),
    ]) {
      assert.equal(parseLine(leaseGrantSchema, wrong), undefined, wrong);
    }
  });

  it('are cut at their ends, however they arrive', () => {
    const lines = fc.array(
      fc.string({ maxLength: 40 }).filter((line) => !line.includes('\n')),
      { maxLength: 20 },
    );
    fc.assert(
      fc.property(lines, fc.array(fc.integer({ min: 1, max: 17 }), { minLength: 1 }), (sent, sizes) => {
        const bytes = Buffer.from(sent.map((line) => `${line}\n`).join(''));
        const reader = new LineReader();
        const received: string[] = [];
        for (let at = 0, turn = 0; at < bytes.length; turn++) {
          const size = sizes[turn % sizes.length] ?? 1;
          received.push(...(reader.push(bytes.subarray(at, at + size)) ?? ['too long']));
          at += size;
        }
        assert.deepEqual(received, sent);
      }),
    );
  });

  it('end where a line is too long, finished or not', () => {
    assert.equal(new LineReader().push(Buffer.alloc(MAX_LINE_BYTES + 1, 'x')), undefined);
    assert.equal(new LineReader().push(Buffer.from(`${'x'.repeat(MAX_LINE_BYTES + 1)}\n`)), undefined);
    const reader = new LineReader();
    assert.deepEqual(reader.push(Buffer.alloc(MAX_LINE_BYTES, 'x')), []);
    assert.equal(reader.push(Buffer.from('x')), undefined);
  });
});
