/** Kubernetes quantities as numbers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { quantityValue } from '#crds/index.ts';

test('quantities have the values that Kubernetes gives them', () => {
  const cases: readonly [string, number | null][] = [
    ['0', 0],
    ['500m', 0.5],
    ['2', 2],
    ['1.5Gi', 1.5 * 2 ** 30],
    ['1e3', 1000],
    ['12E6', 12_000_000],
    ['3E', 3e18],
    ['.5', 0.5],
    ['5.', 5],
    ['-1Mi', -(2 ** 20)],
    ['10G', 1e10],
    ['10GB', null],
    ['10 Gi', null],
    ['', null],
    ['Gi', null],
    ['1KI', null],
    ['0x10', null],
  ];
  for (const [text, value] of cases) assert.equal(quantityValue(text), value, text);
});
