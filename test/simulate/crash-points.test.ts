/** Every step of every workflow × what happens to its operator there × what the successor knows: nothing breaks, service comes back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crashAt, fates, views, workflows } from './crash-points.ts';
import { Violation } from './invariants.ts';
import { realRules } from './rules.ts';

/** More than any workflow has. */
const maxPoints = 300;

for (const workflow of workflows)
  test(`${workflow.name}: interrupted anywhere, it is finished or undone`, (context) => {
    let tried = 0;
    for (const fate of fates)
      for (const view of views)
        for (let point = 0; point < maxPoints; point += 1) {
          try {
            if (!crashAt(workflow, realRules, point, fate, view)) break;
          } catch (error) {
            if (!(error instanceof Violation)) throw error;
            assert.fail(`step ${point}, ${fate}, successor's view ${view}: ${error.message}`);
          }
          tried += 1;
        }
    assert.ok(tried >= 9 * 5, `only ${tried} interruptions were tried`);
    context.diagnostic(`${tried} interruptions`);
  });
