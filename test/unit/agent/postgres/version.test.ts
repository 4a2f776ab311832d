import assert from 'node:assert/strict';
import { it } from 'node:test';
import { versionProblem } from '#agent/postgres/version.ts';

const cases: readonly [string, RegExp | undefined][] = [
  ['postgres (PostgreSQL) 17.11 (Debian 17.11-0+deb13u1)\n', undefined],
  ['postgres (PostgreSQL) 17.5', undefined],
  ['postgres (PostgreSQL) 17.4', /17\.4 is too old: 17\.5/],
  ['postgres (PostgreSQL) 18.0', undefined],
  ['postgres (PostgreSQL) 18beta1', /too old/],
  ['postgres (PostgreSQL) 19.0', undefined],
  ['postgres (PostgreSQL) 16.13', /16 is too old/],
  ['something else', /not a version/],
];

for (const [text, problem] of cases) {
  it(`${text.trim()} ${problem === undefined ? 'may run' : 'may not run'}`, () => {
    if (problem === undefined) assert.equal(versionProblem(text), undefined);
    else assert.match(versionProblem(text) ?? '', problem);
  });
}
