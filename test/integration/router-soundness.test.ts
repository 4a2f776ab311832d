/**
 * The short part of `npm run fuzz:routing`: random statements through a router and on one plain Postgres give the same rows, or a
 * refusal. `MERIDIAN_FUZZ_SEED` says which.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Laboratory } from '#test/fuzz/routing/laboratory.ts';
import { minimumAnswered, runFuzz } from '#test/fuzz/routing/run.ts';

const seed = Number(process.env['MERIDIAN_FUZZ_SEED'] ?? Date.now() % 100_000);

let laboratory: Laboratory;

before(async () => {
  laboratory = await Laboratory.start();
});
after(() => laboratory?.stop());

test(`no statement is answered wrongly (seed ${seed})`, { timeout: 120_000 }, async (context) => {
  const result = await runFuzz(laboratory, { seed, count: 3_000, untilMs: 12_000, lanes: 4 });
  for (const line of result.lines) context.diagnostic(line);
  assert.deepEqual(result.failures, []);
  const decided = result.answered + result.refused;
  assert.ok(result.answered > decided * minimumAnswered, `only ${result.answered} of ${decided} were answered`);
  assert.ok(result.answered > 50, `only ${result.answered} were compared: nothing is shown by that`);
  assert.ok(result.undecided < result.ran / 50, `${result.undecided} of ${result.ran} can't be compared`);
});
