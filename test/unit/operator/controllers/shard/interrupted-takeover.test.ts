/**
 * Takeovers that end in the middle, at every step, with the shard's controller at work before, in between and after: by what it
 * sees, by what it saw before the takeover began, and dying itself between any two of its actions. The world asserts after
 * every one of them that nothing acknowledged is lost and that one primary at most is open; here that the shard gets well.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Operator } from './simulated-operator.ts';
import { takeover } from './simulated-takeover.ts';
import { World } from './world.ts';

const names = ['a-eu-0', 'a-us-0', 'a-ap-0', 'a-us-1'] as const;

interface Scenario {
  readonly behaviour: string;
  readonly members: number;
  readonly acknowledgements: number;
  readonly isPlanned: boolean;
  /** Before the takeover begins. */
  readonly prepare: (world: World) => void;
}

const lost = (world: World): void => world.crash('a-eu-0');
/** Its followers lack the last of its log. */
const lostAhead = (world: World): void => {
  for (const name of ['a-us-0', 'a-ap-0']) world.member(name).stalled = true;
  world.tick();
  for (const name of ['a-us-0', 'a-ap-0']) world.member(name).stalled = false;
  lost(world);
};
/** It runs on, and can't be asked; its lease ends where the takeover waits it out. */
const cutOff = (world: World): void => {
  world.member('a-eu-0').reachable = false;
};

const scenarios: readonly Scenario[] = [
  { behaviour: 'a lost primary of two', members: 2, acknowledgements: 1, isPlanned: false, prepare: lost },
  { behaviour: 'a lost primary of three', members: 3, acknowledgements: 1, isPlanned: false, prepare: lost },
  { behaviour: 'a lost primary that had more', members: 3, acknowledgements: 1, isPlanned: false, prepare: lostAhead },
  { behaviour: 'a lost primary of four', members: 4, acknowledgements: 2, isPlanned: false, prepare: lostAhead },
  { behaviour: 'a primary that is cut off', members: 3, acknowledgements: 1, isPlanned: false, prepare: cutOff },
  { behaviour: 'a handover', members: 3, acknowledgements: 1, isPlanned: true, prepare: () => undefined },
  { behaviour: 'a handover of two', members: 2, acknowledgements: 1, isPlanned: true, prepare: () => undefined },
  {
    behaviour: 'a handover to one that is behind',
    members: 3,
    acknowledgements: 1,
    isPlanned: true,
    prepare: (world) => Object.assign(world.member('a-us-0'), { stalled: true }),
  },
];

function ready({ members, acknowledgements }: Scenario): World {
  const world = new World({ durability: { acknowledgements, scope: 'AnyMember', onLoss: 'Block' } });
  for (const name of names.slice(0, members)) world.addMember(name);
  const operator = new Operator(world, 1);
  for (let round = 0; round < 20; round += 1) {
    world.tick();
    operator.round();
  }
  assert.equal(world.shard.status?.phase, 'Ready');
  return world;
}

function begin(world: World, { isPlanned }: Scenario): Generator<string, void> {
  const { name, incarnation } = world.member('a-us-0');
  return takeover(world, isPlanned ? { isPlanned, target: { name, incarnation } } : { isPlanned });
}

/** So many steps; false when there aren't so many. */
function advance(steps: Generator<string, void>, count: number): boolean {
  for (let step = 0; step < count; step += 1) if (steps.next().done === true) return false;
  return true;
}

/** Everybody is back, a replica settles what was left, and the leader goes on. */
function recover(world: World, leader: Operator): void {
  for (let round = 0; round < 6; round += 1) {
    world.tick();
    leader.round();
  }
  for (const member of world.members.values()) Object.assign(member, { down: false, reachable: true, stalled: false });
  const isLeft = [...world.members.values()].some(
    ({ promise }) => promise.epoch > (world.record?.authority.epoch ?? 0),
  );
  if (isLeft || world.record?.authority.state === 'Stopping') for (const _ of takeover(world, { isPlanned: false }));
  for (let round = 0; round < 60 && !(round > 5 && isWell(world)); round += 1) {
    world.tick();
    leader.round();
  }
}

const isWell = (world: World): boolean =>
  world.shard.status?.phase === 'Ready' && world.record?.membership.members.length === world.members.size;

for (const scenario of scenarios) {
  test(`${scenario.behaviour}: the takeover ends after any step, and the leader after any action`, () => {
    for (let steps = 0; ; steps += 1) {
      let isOver = false;
      // The first three keep budget and policies.
      for (const stopAfter of [0, 4, 5, 6, Number.POSITIVE_INFINITY]) {
        const world = ready(scenario);
        scenario.prepare(world);
        const ended = !advance(begin(world, scenario), steps);
        isOver ||= ended;
        // A new leader, which dies in the middle, and then another.
        new Operator(world, 2).round(undefined, stopAfter);
        recover(world, new Operator(world, 3));
        assert.ok(isWell(world), `after ${steps} steps and ${stopAfter} actions: ${world.shard.status?.phase}`);
      }
      if (isOver) break;
    }
  });

  test(`${scenario.behaviour}: a leader that was paused acts on what it saw before, at any step`, () => {
    for (let steps = 0; ; steps += 1) {
      const world = ready(scenario);
      const paused = new Operator(world, 2);
      const seen = paused.observe();
      scenario.prepare(world);
      const running = begin(world, scenario);
      const isOver = !advance(running, steps);
      paused.round(seen);
      // The takeover goes on; where the record was changed under it, it ends by itself.
      for (const _ of running);
      recover(world, new Operator(world, 3));
      assert.ok(isWell(world), `after ${steps} steps: ${world.shard.status?.phase}`);
      if (isOver) break;
    }
  });
}

test('two takeovers at once, at every step of the first: one decides, the other ends, and the shard gets well', () => {
  for (const scenario of scenarios.slice(1, 5)) {
    for (let steps = 0; ; steps += 1) {
      const world = ready(scenario);
      scenario.prepare(world);
      const first = begin(world, scenario);
      const isOver = !advance(first, steps);
      for (const _ of begin(world, scenario));
      for (const _ of first);
      recover(world, new Operator(world, 2));
      assert.ok(isWell(world), `${scenario.behaviour} after ${steps} steps: ${world.shard.status?.phase}`);
      if (isOver) break;
    }
  }
});
