import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { tenantKeyProblem } from '#operator/controllers/tenant/key.ts';

const good = {
  text: ['acme', '007', 'Über & Söhne'],
  uuid: ['0b7f7c9e-2f0f-4d53-9b6a-0f3e8b1c2d4e'],
  integer: ['0', '-1', '2147483647', '-2147483648'],
  bigint: ['0', '9223372036854775807', '-9223372036854775808'],
} as const;
const wrong = {
  text: [],
  uuid: [
    '0B7F7C9E-2F0F-4D53-9B6A-0F3E8B1C2D4E',
    '{0b7f7c9e-2f0f-4d53-9b6a-0f3e8b1c2d4e}',
    '0b7f7c9e2f0f4d539b6a0f3e8b1c2d4e',
    'acme',
  ],
  integer: ['007', '+1', '-0', '1.0', '1e3', '2147483648', '-2147483649', 'one'],
  bigint: ['9223372036854775808', '-9223372036854775809', '1_000'],
} as const;

describe('the key of a tenant', () => {
  for (const type of ['text', 'uuid', 'integer', 'bigint'] as const) {
    for (const key of good[type])
      test(`${JSON.stringify(key)} is a ${type}`, () => {
        assert.equal(tenantKeyProblem(key, type), undefined);
      });
    for (const key of wrong[type])
      test(`${JSON.stringify(key)} is no canonical ${type}`, () => {
        assert.match(tenantKeyProblem(key, type) ?? '', /^spec\.key must be a/);
      });
  }
});
