/** Ranges of sequence values of different shards never meet and stay exact in a double. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { sequenceRange } from '#operator/postgres/ownership/sequence-range.ts';

const ordinal = fc.integer({ min: 0, max: 8191 });

test('ranges of two shards do not meet', () => {
  fc.assert(
    fc.property(ordinal, ordinal, (a, b) => {
      fc.pre(a < b);
      assert.ok(sequenceRange(a).maximum < sequenceRange(b).minimum);
    }),
  );
});

test('every range begins above its ordinal times 2^40, ends below the next, and fits a double', () => {
  fc.assert(
    fc.property(ordinal, (n) => {
      const { minimum, maximum } = sequenceRange(n);
      assert.equal(minimum, BigInt(n) * 2n ** 40n + 1n);
      assert.equal(maximum, BigInt(n + 1) * 2n ** 40n - 1n);
      assert.ok(maximum <= BigInt(Number.MAX_SAFE_INTEGER));
    }),
  );
});

test('an ordinal out of bounds is refused', () => {
  for (const wrong of [-1, 8192, 1.5, Number.NaN]) assert.throws(() => sequenceRange(wrong), RangeError);
});
