/**
 * A primary behind its opening gate, in the small world: whatever made the gate wait for somebody who can't come, there is a
 * way out by what people ask for, or by itself.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Operator } from './simulated-operator.ts';
import { failOver, find, listed, names, primaryOf, ready, run, settle } from './stories.ts';
import { World } from './world.ts';

const wish = (acknowledgements: number, scope: 'AnyMember' | 'OtherRegion' = 'AnyMember') => ({
  durability: { acknowledgements, scope, onLoss: 'Block' as const },
});

function opening(members: readonly string[], acknowledgements: number): { world: World; operator: Operator } {
  const world = new World(wish(acknowledgements));
  for (const name of members) world.addMember(name);
  const operator = new Operator(world, 1);
  // The first primary is named: it goes on by what was wished at that moment.
  operator.round();
  assert.equal(world.record?.authority.state, 'Initialising');
  return { world, operator };
}

for (const [members, before, after] of [
  [names, 3, 2],
  [names, 3, 1],
  [names, 3, 0],
  [names.slice(0, 1), 1, 0],
] as const) {
  test(`${members.length} members, and a gate that waits for ${before} followers: it opens once ${after} are asked for`, () => {
    const { world, operator } = opening(members, before);
    settle(world, operator);
    assert.equal(world.shard.status?.phase, 'Opening');
    assert.equal(listed(world).length, members.length);
    world.change(wish(after));
    settle(world, operator, 10);
    assert.equal(world.record?.membership.acknowledgements, after);
    assert.equal(world.shard.status?.phase, 'Ready');
  });
}

for (const marked of [['a-us-0'], ['a-us-0', 'a-ap-0']]) {
  test(`a gate that waits for three opens for fewer, and all join, though the volumes of ${marked.length} were marked before they did`, () => {
    const members = [...names, 'a-us-1'];
    const { world, operator } = opening(members, 3);
    for (const name of marked) world.member(name).volumeGoing = true;
    world.change(wish(1));
    settle(world, operator);
    assert.deepEqual(listed(world), ['a-ap-0', 'a-eu-0', 'a-us-0', 'a-us-1']);
    assert.equal(world.record?.membership.acknowledgements, 1);
    assert.equal(world.shard.status?.phase, 'Ready');
  });
}

test('after a failover too: fewer acknowledgements open the gate that waits for the lost primary', () => {
  const { world, operator } = ready(wish(2));
  failOver(world, 'a-eu-0');
  settle(world, operator, 20);
  assert.equal(world.shard.status?.phase, 'Opening');
  assert.deepEqual(listed(world), names.toSorted(), 'nobody is removed before');
  world.change(wish(1));
  settle(world, operator, 20);
  assert.equal(world.shard.status?.phase, 'Joining');
  assert.deepEqual(listed(world), ['a-ap-0', 'a-us-0'], 'then the lost one is');
});

test('followers whose volumes are marked before they ever joined get new ones, and the gate opens', () => {
  const { world, operator } = opening(names, 2);
  const incarnation = world.member('a-us-0').incarnation;
  for (const name of ['a-us-0', 'a-ap-0']) world.member(name).volumeGoing = true;
  settle(world, operator);
  assert.deepEqual(listed(world), names.toSorted());
  assert.equal(world.shard.status?.phase, 'Ready');
  assert.notEqual(world.member('a-us-0').incarnation, incarnation);
});

test('a copy that does not count keeps its pod while those who count may yet open the gate, and goes when they may not', () => {
  const { world, operator } = ready(wish(1), [...names, 'a-us-1']);
  const { incarnation } = world.member('a-us-1');
  world.crash('a-ap-0');
  world.member('a-us-1').volumeGoing = true;
  settle(world, operator, 5);
  assert.deepEqual(listed(world), names.toSorted(), 'it does not count any more, and waits for its turn');
  assert.equal(world.member('a-us-1').incarnation, incarnation);
  world.member('a-ap-0').down = false;
  failOver(world, 'a-eu-0');
  for (const name of names) if (name !== primaryOf(world)) world.crash(name);
  settle(world, operator, 8);
  assert.equal(world.shard.status?.phase, 'Opening');
  assert.equal(world.member('a-us-1').incarnation, incarnation, 'one of the others may only be restarting');
  settle(world, operator, 20);
  assert.notEqual(world.member('a-us-1').incarnation, incarnation);
  assert.equal(find(world, 'PrimaryAvailable')?.status, 'True');
  assert.ok(listed(world).includes('a-us-1'));
});

test('scope OtherRegion: where only one that diverged could open the gate, it is rewound as a member', () => {
  const members = ['a-eu-0', 'a-eu-1', 'a-us-0'];
  const { world, operator } = ready(wish(1, 'OtherRegion'), members);
  const { name, incarnation } = world.member('a-us-0');
  run(world, { target: { name, incarnation }, isPlanned: true });
  settle(world, operator);
  assert.equal(primaryOf(world), 'a-us-0');
  for (const follower of ['a-eu-0', 'a-eu-1']) world.member(follower).stalled = true;
  world.tick();
  failOver(world, 'a-us-0');
  Object.assign(world.member('a-us-0'), { down: false });
  for (const follower of ['a-eu-0', 'a-eu-1']) world.member(follower).stalled = false;
  settle(world, operator);
  assert.equal(world.shard.status?.phase, 'Ready');
  assert.deepEqual(listed(world), members.toSorted());
  assert.equal(world.member('a-us-0').rejoined?.how, 'Rewind');
});
