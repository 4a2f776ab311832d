/** Everything that can happen next, in every order, from where things can go wrong; how far, each test says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { explore, situations } from './breadth.ts';
import { shapes } from './random.ts';
import { realRules } from './rules.ts';
import { trace } from './shorten.ts';
import type { Shape } from './world.ts';

const statesOfASituation = 6_000;

for (const [members, k] of shapes)
  for (const situation of situations)
    test(`${members} members, k = ${k}, ${situation.name}: no order of what may follow breaks an invariant`, (context) => {
      const shape: Shape = { members, k, operators: 1, delays: false, onLoss: 'Block', drift: 0, wish: k };
      const { states, transitions, depth, found } = explore(shape, realRules, situation, statesOfASituation);
      assert.equal(
        found,
        undefined,
        found && `${found.violation.message}\n${trace(shape, realRules, found.actions).join('\n')}`,
      );
      assert.ok(states >= statesOfASituation && depth >= 2, `only ${states} states to depth ${depth}`);
      context.diagnostic(`${states} states, ${transitions} transitions, all to depth ${depth}`);
    });
