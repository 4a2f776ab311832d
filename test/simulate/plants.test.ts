/** The simulator finds what is planted; without plants the same walks find nothing. That is what shows that it looks. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { plants } from './plants.ts';
import { type RunOptions, run } from './random.ts';
import { realRules } from './rules.ts';
import { replay, shorten } from './shorten.ts';

/** Each is found in a small part of these. */
const maxWalks = 3_000;
/** Walks that the real rules go through with what a plant emphasises. */
const controlWalks = 25;

for (const plant of plants) {
  const options: RunOptions = {
    steps: 250,
    settles: false,
    shapes: plant.shapes,
    ...(plant.emphasis && { emphasis: plant.emphasis }),
    ...(plant.wish !== undefined && { wish: plant.wish }),
  };

  test(`without ${plant.breaks}: a violation is found`, () => {
    for (let seed = 1; seed <= maxWalks; seed += 1) {
      const { shape, actions, violation } = run(seed, plant.rules, options);
      if (violation === undefined) continue;
      const short = shorten(shape, plant.rules, actions, violation.kind, false);
      assert.equal(replay(shape, plant.rules, short, false)?.kind, violation.kind, 'the shortened trace shows it, too');
      assert.equal(replay(shape, realRules, short, false), undefined, 'the real rules stand the same trace');
      return;
    }
    assert.fail(`not found in ${maxWalks} walks`);
  });

  test(`with ${plant.breaks}: the same walks find nothing`, () => {
    for (let seed = 1; seed <= controlWalks; seed += 1)
      assert.equal(run(seed, realRules, options).violation, undefined, `seed ${seed}`);
  });
}
