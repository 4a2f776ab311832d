/** Tokens: what goes in comes out, and nothing that wasn't signed goes in. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Position } from '#core/consistency/position.ts';
import {
  decodeToken,
  encodeToken,
  maxShards,
  mergePositions,
  type Positions,
  shardIdentity,
} from '#core/consistency/token.ts';
import type { Lsn } from '#core/lsn.ts';

const keys = { keyspace: 'shop', keys: new Map([[1, randomBytes(32)]]) };

const positionArbitrary = fc.record(
  {
    epoch: fc.oneof(fc.integer({ min: 0, max: 300 }), fc.maxSafeNat()),
    lsn: fc.oneof(fc.bigInt(0n, 1n << 20n), fc.bigInt(0n, (1n << 64n) - 1n)).map((lsn) => lsn as Lsn),
    mayBeLost: fc.constant(true as const),
    isAhead: fc.constant(true as const),
  },
  { noNullPrototype: true, requiredKeys: ['epoch', 'lsn'] },
);
const positionsArbitrary: fc.Arbitrary<Positions> = fc
  .array(fc.tuple(fc.string({ minLength: 1 }), positionArbitrary), { maxLength: 20 })
  .map((entries) => new Map(entries.map(([shard, position]) => [shardIdentity(shard), position])));

test('what was encoded is decoded', () => {
  fc.assert(
    fc.property(positionsArbitrary, (positions) => {
      assert.deepEqual(decodeToken(encodeToken(positions, keys), keys), positions);
    }),
  );
});

test('a token with any bit changed is no token', () => {
  fc.assert(
    fc.property(positionsArbitrary, fc.nat(), (positions, at) => {
      const bytes = Buffer.from(encodeToken(positions, keys), 'base64url');
      const bit = at % (bytes.length * 8);
      bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
      assert.equal(decodeToken(bytes.toString('base64url'), keys), undefined);
    }),
  );
});

test('a text that is no token is refused whatever it is', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.base64String(),
        fc.uint8Array().map((b) => Buffer.from(b).toString('base64url')),
      ),
      (text) => {
        assert.equal(decodeToken(text, keys), undefined);
      },
    ),
  );
});

test('a signed text in another spelling is refused', () => {
  const text = encodeToken(new Map([[shardIdentity('one'), { epoch: 1, lsn: 5n as Lsn }]]), keys);
  assert.notEqual(decodeToken(text, keys), undefined);
  for (const other of [`${text}=`, `${text}A`, ` ${text}`, text.slice(0, -1)])
    assert.equal(decodeToken(other, keys), undefined, other);
});

test("another keyspace's token is none, whether or not it has the same key", () => {
  const positions: Positions = new Map([[shardIdentity('one'), { epoch: 3, lsn: 77n as Lsn }]]);
  const text = encodeToken(positions, keys);
  assert.equal(decodeToken(text, { ...keys, keyspace: 'shops' }), undefined);
  assert.equal(decodeToken(text, { keyspace: 'shop', keys: new Map([[1, randomBytes(32)]]) }), undefined);
});

test('the highest key signs, and those that are still there are accepted', () => {
  const [first, second] = [randomBytes(32), randomBytes(32)];
  const positions: Positions = new Map([[shardIdentity('one'), { epoch: 3, lsn: 77n as Lsn }]]);
  const before = { keyspace: 'shop', keys: new Map([[1, first]]) };
  const between = {
    keyspace: 'shop',
    keys: new Map([
      [1, first],
      [2, second],
    ]),
  };
  const after = { keyspace: 'shop', keys: new Map([[2, second]]) };
  assert.deepEqual(decodeToken(encodeToken(positions, before), between), positions);
  assert.deepEqual(decodeToken(encodeToken(positions, between), after), positions);
  assert.equal(decodeToken(encodeToken(positions, before), after), undefined);
});

test('a token of one shard is short', () => {
  const positions: Positions = new Map([[shardIdentity('one'), { epoch: 12, lsn: 0x16b374d848n as Lsn }]]);
  assert.ok(encodeToken(positions, keys).length <= 40);
});

test('a session that was at as many shards as there may be has a token that is accepted', () => {
  const position: Position = { epoch: 2 ** 40, lsn: ((1n << 64n) - 1n) as Lsn };
  const positions = new Map(Array.from({ length: maxShards }, (_, index) => [shardIdentity(`${index}`), position]));
  assert.deepEqual(decodeToken(encodeToken(positions, keys), keys), positions);
});

test('merging keeps the later position of each shard', () => {
  const at = (epoch: number, lsn: bigint): Position => ({ epoch, lsn: lsn as Lsn });
  assert.deepEqual(
    mergePositions(
      new Map([
        ['a', at(1, 115n)],
        ['b', at(2, 5n)],
      ]),
      new Map([
        ['a', at(2, 105n)],
        ['b', at(2, 4n)],
        ['c', at(1, 1n)],
      ]),
    ),
    new Map([
      ['a', at(2, 105n)],
      ['b', at(2, 5n)],
      ['c', at(1, 1n)],
    ]),
  );
});
