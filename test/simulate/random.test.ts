/** Random walks over the real rules, with the return to service at the end of each; more of them with `npm run simulate`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type RunOptions, run, shapes } from './random.ts';
import { realRules } from './rules.ts';

const walksOfAShape = 200;

for (const [members, k] of shapes)
  test(`${members} members, k = ${k}: ${walksOfAShape} random walks keep the invariants, and service comes back after each`, () => {
    const options: RunOptions = { steps: 250, settles: true, shapes: [[members, k]] };
    for (let seed = 1; seed <= walksOfAShape; seed += 1) {
      const { violation } = run(seed, realRules, options);
      assert.equal(
        violation,
        undefined,
        `${violation?.message}\n  npm run simulate -- --seed ${seed} --runs 1 --steps 250 --shape ${members}/${k}`,
      );
    }
  });

test('a walk is the same for the same seed', () => {
  const options: RunOptions = { steps: 250, settles: true };
  for (const seed of [3, 14, 159]) assert.deepEqual(run(seed, realRules, options), run(seed, realRules, options));
});

test('walks get somewhere: authority changes hands, members come and go, clients get answers', () => {
  let decided = 0;
  let changed = 0;
  let written = 0;
  for (let seed = 1; seed <= 150; seed += 1)
    run(
      seed,
      {
        ...realRules,
        decideTakeover: (input) => {
          const action = realRules.decideTakeover(input);
          if (action.kind === 'Decide') decided += 1;
          return action;
        },
        changedMembership: (membership, change) => {
          changed += 1;
          return realRules.changedMembership(membership, change);
        },
        whyShut: (opening) => {
          const obstacle = realRules.whyShut(opening);
          if (obstacle === undefined) written += 1;
          return obstacle;
        },
      },
      { steps: 250, settles: false },
    );
  assert.ok(decided >= 40, `${decided} decisions`);
  assert.ok(changed >= 40, `${changed} changes of membership`);
  assert.ok(written >= 40, `${written} openings`);
});
