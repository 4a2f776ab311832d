/** Hints in the comment that a statement begins with. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseHints } from '#router/plan/index.ts';
import { plan } from './fixture.ts';

const cases: readonly (readonly [sql: string, hints: object])[] = [
  ["/* tenant='acme',consistency='eventual' */ select 1", { tenant: 'acme', consistency: 'eventual' }],
  ["/*tenant='acme'*/select 1", { tenant: 'acme' }],
  ["  \n/* tenant = 'acme' , traceparent='00-1' */ select 1", { tenant: 'acme' }],
  ["/* tenant='a%20b%27c' */ select 1", { tenant: "a b'c" }],
  ["/* tenant='it\\'s' */ select 1", { tenant: "it's" }],
  ["/* tenant='100%' */ select 1", { tenant: '100%' }],
  ["/* tenant='é' */ select 1", { tenant: 'é' }],
  ["select 1 /* tenant='acme' */", {}],
  ["-- tenant='acme'\nselect 1", {}],
  ["select '/* tenant=''acme'' */'", {}],
  ["/* note */ /* tenant='acme' */ select 1", {}],
  ["/* /* tenant='acme' */ */ select 1", {}],
  ['/* tenant="acme" */ select 1', {}],
  ["/* my_tenant='acme' */ select 1", {}],
  ["/* tenant='acme' select 1", {}],
  ['/**/ select 1', {}],
  ['', {}],
];

for (const [sql, hints] of cases)
  test(`hints of: ${JSON.stringify(sql)}`, () => assert.deepEqual(parseHints(sql), hints));

test('any key survives being written as a hint', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1, maxLength: 40, unit: 'grapheme' }), (key) => {
      const encoded = encodeURIComponent(key).replaceAll("'", '%27').replaceAll('*', '%2A');
      assert.equal(parseHints(`/* tenant='${encoded}' */ select 1`).tenant, key);
    }),
  );
});

test('a comment is read in time that does not grow faster than it is long', () => {
  const before = process.cpuUsage();
  parseHints(`/* ${'a'.repeat(2_000_000)} */ select 1`);
  parseHints(`/*${" '=".repeat(1_300)}*/ select 1`);
  assert.ok(process.cpuUsage(before).user < 10_000_000);
});

test('the comment ahead of a later statement is part of its text', () => {
  assert.deepEqual(parseHints(plan("/* tenant='acme' */ select 1").text), { tenant: 'acme' });
});
