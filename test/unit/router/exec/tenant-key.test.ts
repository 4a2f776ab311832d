/** Keys of every type have one spelling, and are read from parameters as Postgres reads them, or not at all. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { canonicalKey, keyOfParameter } from '#router/exec/tenant-key.ts';

const binary = (value: Buffer): { format: number; value: Buffer } => ({ format: 1, value });
const text = (value: string): { format: number; value: Buffer } => ({ format: 0, value: Buffer.from(value) });

describe('canonical keys', () => {
  test('of each type', () => {
    assert.equal(canonicalKey(' 007 ', 'bigint'), '7');
    assert.equal(canonicalKey('-0', 'integer'), '0');
    assert.equal(canonicalKey('1.5', 'bigint'), undefined);
    assert.equal(canonicalKey('0x10', 'bigint'), undefined);
    assert.equal(
      canonicalKey('{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}', 'uuid'),
      'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
    );
    assert.equal(canonicalKey('a0eebc99', 'uuid'), undefined);
    assert.equal(canonicalKey(' Acme ', 'text'), ' Acme ');
  });
});

describe('keys in parameters', () => {
  test('integers in every width', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (value) => {
        const bytes = Buffer.alloc(8);
        bytes.writeBigInt64BE(value);
        assert.equal(keyOfParameter(binary(bytes), 20, 'bigint'), value.toString());
        assert.equal(keyOfParameter(binary(bytes), 0, 'bigint'), value.toString());
        assert.equal(keyOfParameter(text(value.toString()), 0, 'bigint'), value.toString());
      }),
    );
    assert.equal(keyOfParameter(binary(Buffer.from([0, 0, 0, 5])), 23, 'bigint'), '5');
    assert.equal(keyOfParameter(binary(Buffer.from([0, 5])), 21, 'integer'), '5');
    assert.equal(keyOfParameter(binary(Buffer.from([5])), 23, 'integer'), undefined);
  });

  test('uuids and texts', () => {
    const bytes = Buffer.from('a0eebc999c0b4ef8bb6d6bb9bd380a11', 'hex');
    assert.equal(keyOfParameter(binary(bytes), 2950, 'uuid'), 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11');
    assert.equal(keyOfParameter(binary(Buffer.from('ä')), 25, 'text'), 'ä');
  });

  test('what is missing, NULL, or of a type with another text is no key', () => {
    assert.equal(keyOfParameter(undefined, 0, 'text'), undefined);
    assert.equal(keyOfParameter({ format: 0, value: null }, 0, 'text'), undefined);
    assert.equal(keyOfParameter(text('1.0'), 701, 'text'), undefined);
    assert.equal(keyOfParameter(text('acme  '), 1042, 'text'), undefined);
    assert.equal(keyOfParameter(binary(Buffer.alloc(8)), 701, 'bigint'), undefined);
    // Postgres would compare 9007199254740992, and 16777216.
    assert.equal(keyOfParameter(text('9007199254740993'), 701, 'bigint'), undefined);
    assert.equal(keyOfParameter(text('16777217'), 700, 'integer'), undefined);
    assert.equal(keyOfParameter(text('16777217'), 1700, 'integer'), '16777217');
  });
});
