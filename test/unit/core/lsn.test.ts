/** LSNs: Postgres' text form both ways, and what isn't one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatLsn, type Lsn, lsnDistanceBytes, parseLsn } from '#core/lsn.ts';

test('the text form of Postgres is read and written back', () => {
  assert.equal(parseLsn('16/B374D848'), 0x16b374d848n);
  assert.equal(formatLsn(0x16b374d848n as Lsn), '16/B374D848');
  assert.equal(formatLsn(parseLsn('0/0')), '0/0');
  assert.equal(formatLsn(parseLsn('ffffffff/ffffffff')), 'FFFFFFFF/FFFFFFFF');
});

test('every LSN survives a round trip, and order is numeric', () => {
  const lsn = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  fc.assert(
    fc.property(lsn, lsn, (a, b) => {
      assert.equal(parseLsn(formatLsn(a as Lsn)), a);
      assert.equal(lsnDistanceBytes(a as Lsn, b as Lsn), b - a);
    }),
  );
});

for (const text of ['', '/', '1', '1/', '/1', '1/2/3', 'g/0', '0/123456789', ' 0/0', '-1/0']) {
  test(`${JSON.stringify(text)} is refused, with what was expected`, () => {
    assert.throws(() => parseLsn(text), /not an LSN: .*expected two hexadecimal numbers/);
  });
}
