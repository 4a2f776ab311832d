/** A one-way cut between a primary and all of its followers costs seconds, and not as long as it lasts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Ping } from '#core/authority/suspicion.ts';
import type { TakeoverInput } from '#core/authority/takeover.ts';
import { Violation } from './invariants.ts';
import { cutOneWay, directions } from './one-way.ts';
import { type Rules, realRules } from './rules.ts';

/** Those where the others are enough for one another: k and one more besides the primary. */
const shapes = [
  [3, 1],
  [4, 1],
  [4, 2],
  [5, 1],
  [5, 2],
] as const;
const cuts = 60;
/** The lease (3 s), then 2 s until it is given up, and what the takeover takes with messages that are late or lost. */
const withinMs = 10_000;

for (const [members, k] of shapes)
  for (const direction of directions)
    test(`${members} members, k = ${k}, ${direction}: another opens within ${withinMs / 1000} s`, (context) => {
      const took: number[] = [];
      for (let seed = 1; seed <= cuts; seed += 1)
        took.push(cutOneWay({ members, k, direction, seed }, realRules, withinMs));
      const sorted = took.toSorted((a, b) => a - b);
      context.diagnostic(`median ${sorted[Math.floor(cuts / 2)]} ms, longest ${sorted.at(-1)} ms`);
      assert.ok((sorted[0] ?? 0) >= 3_000, 'nobody opens beside a lease that may still run');
    });

/** The word of a primary that has given up is taken for that of one that leads. */
const asIfItLed = (input: TakeoverInput): TakeoverInput['pings'] =>
  new Map(
    [...input.pings].map(([name, ping]): [string, Ping] => {
      if (ping.kind === 'Silent' || ping.answer.primary === undefined) return [name, ping];
      const primary = { ...ping.answer.primary, released: false, leaseRemainingMs: 1_000 };
      return [name, { ...ping, answer: { ...ping.answer, primary } }];
    }),
  );

test('without leaving aside a primary that has given up, nobody opens for as long as the cut lasts', () => {
  const broken: Rules = {
    ...realRules,
    decideTakeover: (input) => {
      const hasFenced = [...input.fences.values()].some(({ kind }) => kind === 'Fenced');
      return realRules.decideTakeover(hasFenced ? { ...input, pings: asIfItLed(input) } : input);
    },
  };
  let stuck = 0;
  for (let seed = 1; seed <= 20; seed += 1)
    try {
      cutOneWay({ members: 3, k: 1, direction: 'primary unheard by followers', seed }, broken, 20_000);
    } catch (error) {
      assert.ok(error instanceof Violation && error.kind === 'Stuck', String(error));
      stuck += 1;
    }
  assert.ok(stuck >= 5, `only ${stuck} of 20 are stuck`);
});
