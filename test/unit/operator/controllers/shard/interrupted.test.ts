/**
 * The shard's controller against a world in which operators die between any two lines, act on what they saw long ago, and
 * members are wiped, silent or slow. The world asserts safety after every action; here it is also asked to get somewhere.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { maxMembers } from '#core/authority/membership-change.ts';
import { plan } from '#operator/controllers/shard/plan.ts';
import { Operator } from './simulated-operator.ts';
import { takeover } from './simulated-takeover.ts';
import { World } from './world.ts';

const names = ['a-eu-0', 'a-us-0', 'a-ap-0'] as const;

function started(spec: ConstructorParameters<typeof World>[0] = {}, members: readonly string[] = names): World {
  const world = new World(spec);
  for (const name of members) world.addMember(name);
  return world;
}

function settle(world: World, operator: Operator, rounds = 40): void {
  for (let round = 0; round < rounds; round += 1) {
    world.tick();
    operator.round();
    const target = world.asked.pop();
    world.asked.length = 0;
    if (target !== undefined) for (const _ of takeover(world, { target, isPlanned: true }));
  }
}

/** Some replica ends what others left: a fence that nobody decided, or a handover that was announced. */
function settleTakeovers(world: World): void {
  world.tick();
  const isLeft = [...world.members.values()].some(
    ({ promise }) => promise.epoch > (world.record?.authority.epoch ?? 0),
  );
  if (isLeft || world.record?.authority.state === 'Stopping') for (const _ of takeover(world, { isPlanned: false }));
}

const durability = (
  acknowledgements: number,
  onLoss: 'Block' | 'ShrinkMembership' = 'Block',
  scope: 'AnyMember' | 'OtherRegion' = 'AnyMember',
) => ({
  // Without acknowledgements there is no other scope.
  durability: { acknowledgements, scope: acknowledgements === 0 ? ('AnyMember' as const) : scope, onLoss },
});

const anyScope = fc.constantFrom('AnyMember' as const, 'OtherRegion' as const);

const listed = (world: World): string[] => (world.record?.membership.members ?? []).map(({ name }) => name).toSorted();

test('an empty shard becomes ready, with everybody in the membership, and stays as it is', () => {
  const world = started();
  const operator = new Operator(world, 1);
  settle(world, operator);
  assert.equal(world.record?.authority.member, 'a-eu-0');
  assert.equal(world.record?.authority.state, 'Active');
  assert.deepEqual(listed(world), names.toSorted());
  assert.equal(world.shard.status?.phase, 'Ready');
  const version = world.shard.metadata.resourceVersion;
  settle(world, operator);
  assert.equal(world.shard.metadata.resourceVersion, version, 'nothing more is recorded');
});

test('acknowledgements rise and fall, each in its order', () => {
  const world = started();
  const operator = new Operator(world, 1);
  settle(world, operator);
  world.change(durability(2));
  settle(world, operator, 10);
  assert.equal(world.record?.membership.acknowledgements, 2);
  world.change(durability(0));
  settle(world, operator, 10);
  assert.equal(world.record?.membership.acknowledgements, 0);
  world.change(durability(1));
  settle(world, operator, 10);
  assert.equal(world.record?.membership.acknowledgements, 1);
});

test('acknowledgements that cannot be had do not begin: commits go on with what there is', () => {
  const world = started();
  const operator = new Operator(world, 1);
  settle(world, operator);
  world.change(durability(3));
  settle(world, operator, 10);
  assert.equal(world.record?.membership.acknowledgements, 1);
  assert.equal(world.member('a-eu-0').inForce.acknowledgements, 1);
});

test('a member is not removed while it alone has what was acknowledged', () => {
  const world = started();
  const operator = new Operator(world, 1);
  settle(world, operator);
  world.member('a-ap-0').stalled = true;
  world.tick();
  assert.ok(world.acknowledged > world.member('a-ap-0').flushed, 'only a-us-0 has the last commits');
  world.member('a-us-0').declared = false;
  settle(world, operator, 10);
  assert.deepEqual(listed(world), names.toSorted());
  assert.equal(world.member('a-eu-0').inForce.members.length, 1, 'Postgres counts it no more, the record does');
  world.member('a-ap-0').stalled = false;
  settle(world, operator, 10);
  assert.deepEqual(listed(world), ['a-ap-0', 'a-eu-0']);
});

test('orders that were taken, and are not in force yet, let nothing be recorded', () => {
  const world = started();
  const operator = new Operator(world, 1);
  settle(world, operator);
  const generation = world.record?.membership.generation;
  world.change(durability(2));
  for (let round = 0; round < 5; round += 1) operator.round();
  assert.equal(world.record?.membership.generation, generation);
  settle(world, operator, 5);
  assert.equal(world.record?.membership.acknowledgements, 2);
});

test('a wiped follower leaves the record as who it was, and joins as who it is', () => {
  const world = started();
  const operator = new Operator(world, 1);
  settle(world, operator);
  world.wipe('a-us-0');
  settle(world, operator);
  assert.deepEqual(listed(world), names.toSorted());
  const { incarnation } = world.member('a-us-0');
  assert.ok(world.record?.membership.members.some((member) => member.incarnation === incarnation));
});

test('a wiped follower of two is added before the old one goes', () => {
  const world = started({}, ['a-eu-0', 'a-us-0']);
  const operator = new Operator(world, 1);
  settle(world, operator);
  world.wipe('a-us-0');
  let most = 0;
  for (let round = 0; round < 20; round += 1) {
    world.tick();
    operator.round();
    most = Math.max(most, listed(world).length);
    assert.ok(listed(world).length >= 2);
  }
  assert.equal(most, 3, 'both lives stand in the record for a while');
  assert.equal(listed(world).length, 2);
});

test('a follower whose log is gone leaves the record first, and then joins anew as a new member', () => {
  const world = started();
  const operator = new Operator(world, 1);
  settle(world, operator);
  const { incarnation } = world.member('a-us-0');
  world.member('a-us-0').lacksLog = true;
  settle(world, operator);
  assert.notEqual(world.member('a-us-0').incarnation, incarnation);
  assert.deepEqual(listed(world), names.toSorted());
});

test('the last follower that has what was acknowledged keeps it, though its log is gone', () => {
  const world = started({}, ['a-eu-0', 'a-us-0']);
  const operator = new Operator(world, 1);
  settle(world, operator);
  const { incarnation } = world.member('a-us-0');
  world.member('a-us-0').lacksLog = true;
  settle(world, operator);
  assert.equal(world.member('a-us-0').incarnation, incarnation);
  assert.deepEqual(listed(world), ['a-eu-0', 'a-us-0']);
});

test('a follower whose volume is marked for deletion leaves the record first, then gets its new volume, and joins anew', () => {
  const world = started();
  const operator = new Operator(world, 1);
  settle(world, operator);
  const { incarnation } = world.member('a-us-0');
  world.member('a-us-0').volumeGoing = true;
  world.member('a-us-0').outdated = true;
  settle(world, operator);
  assert.notEqual(world.member('a-us-0').incarnation, incarnation);
  assert.deepEqual(listed(world), names.toSorted());
  assert.ok(!world.record?.membership.members.some((member) => member.incarnation === incarnation));
});

test('a follower that cannot be spared keeps its pod, and with it the volume that is marked for deletion', () => {
  const world = started({}, ['a-eu-0', 'a-us-0']);
  const operator = new Operator(world, 1);
  settle(world, operator);
  const { incarnation } = world.member('a-us-0');
  Object.assign(world.member('a-us-0'), { volumeGoing: true, outdated: true });
  settle(world, operator);
  assert.equal(world.member('a-us-0').incarnation, incarnation);
  world.addMember('a-ap-0');
  settle(world, operator);
  assert.notEqual(world.member('a-us-0').incarnation, incarnation);
  assert.deepEqual(listed(world), names.toSorted());
});

test('of more members than a shard may have, so many join as Postgres has slots for, and the others are named', () => {
  const many = Array.from({ length: maxMembers + 4 }, (_, index) => `a-eu-${index}`);
  const world = started({}, many);
  const operator = new Operator(world, 1);
  settle(world, operator, maxMembers + 12);
  assert.equal(listed(world).length, maxMembers);
  assert.equal(world.member('a-eu-0').orders?.slots.length, maxMembers - 1);
  const outside = many.filter((name) => !listed(world).includes(name));
  const settled = plan(operator.observe(), new Date(world.now)).conditions?.find(
    ({ type }) => type === 'MembershipSettled',
  );
  for (const name of outside)
    assert.match(settled?.message ?? '', new RegExp(`${name}\\b.*${maxMembers} members at most`));
  // One of those inside that gets a new volume takes its own place again.
  world.wipe(listed(world).at(-1) ?? '');
  settle(world, operator, 20);
  assert.deepEqual(listed(world), many.filter((name) => !outside.includes(name)).toSorted());
});

test('the first primary that loses its volume before it is open is named anew, at a higher epoch', () => {
  const world = started();
  const operator = new Operator(world, 1);
  operator.round();
  assert.equal(world.record?.authority.state, 'Initialising');
  world.wipe('a-eu-0');
  settle(world, operator);
  assert.equal(world.record?.authority.epoch, 2);
  assert.equal(world.shard.status?.phase, 'Ready');
});

test('the volume of an established primary is never made anew', () => {
  const world = started();
  const operator = new Operator(world, 1);
  settle(world, operator);
  world.wipe('a-eu-0');
  settle(world, operator);
  assert.equal(world.initialised, 1);
  assert.equal(world.member('a-eu-0').data, 'absent');
  assert.equal(world.shard.status?.phase, 'Unavailable');
});

test('a parameter that needs a restart restarts followers one at a time, and not the primary', () => {
  const world = started();
  const operator = new Operator(world, 1);
  settle(world, operator);
  const before = world.member('a-eu-0').restartNonce;
  world.change({ postgres: { version: '17', parameters: { max_connections: '300' } } });
  for (let round = 0; round < 20; round += 1) {
    operator.round();
    const restarting = names.filter((name) => {
      const { orders, restartNonce } = world.member(name);
      return orders !== undefined && orders.restartNonce !== restartNonce;
    });
    assert.ok(restarting.length <= 1, `${restarting.join(', ')} restart at once`);
    world.tick();
  }
  for (const name of ['a-us-0', 'a-ap-0']) assert.equal(world.member(name).pendingRestart, false, name);
  assert.equal(world.member('a-eu-0').pendingRestart, true);
  assert.equal(world.member('a-eu-0').restartNonce, before);
});

test('a new image replaces one follower at a time, while all others stream, and never the primary', () => {
  const world = started();
  const operator = new Operator(world, 1);
  settle(world, operator);
  for (const name of names) world.member(name).outdated = true;
  const order: string[] = [];
  for (let round = 0; round < 12; round += 1) {
    const before = names.filter((name) => !world.member(name).outdated).length;
    operator.round();
    const after = names.filter((name) => !world.member(name).outdated);
    assert.ok(after.length - before <= 1, 'one at a time');
    order.splice(0, order.length, ...after);
    world.tick();
  }
  assert.deepEqual(order.toSorted(), ['a-ap-0', 'a-us-0']);
});

test('while the primary does not answer, no follower is replaced or restarted, whatever is due', () => {
  const world = started();
  const operator = new Operator(world, 1);
  settle(world, operator);
  for (const name of names) world.member(name).outdated = true;
  world.change({ postgres: { version: '17', parameters: { max_connections: '300' } } });
  const running = names.map((name) => [world.member(name).podUid, world.member(name).restartNonce]);
  world.member('a-eu-0').reachable = false;
  settle(world, operator, 10);
  assert.deepEqual(
    names.map((name) => [world.member(name).podUid, world.member(name).restartNonce]),
    running,
  );
  world.member('a-eu-0').reachable = true;
  settle(world, operator, 20);
  assert.deepEqual(
    names.filter((name) => world.member(name).outdated),
    [],
  );
});

/** What may happen between two rounds, and how a round ends. */
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('round' as const), by: fc.nat({ max: 1 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('die' as const), by: fc.nat({ max: 1 }), after: fc.nat({ max: 6 }) }),
  },
  { weight: 5, arbitrary: fc.constant({ kind: 'tick' as const }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('look' as const), by: fc.nat({ max: 1 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('actLate' as const), by: fc.nat({ max: 1 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('silence' as const), who: fc.nat({ max: 3 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('hear' as const), who: fc.nat({ max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('stall' as const), who: fc.nat({ max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('loseLog' as const), who: fc.nat({ max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('declare' as const), who: fc.nat({ max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('wish' as const), k: fc.nat({ max: 3 }) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'wipeFollower' as const }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('markVolume' as const), who: fc.nat({ max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('newTemplate' as const), who: fc.nat({ max: 3 }) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'hours' as const }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('crash' as const), who: fc.nat({ max: 3 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('start' as const), who: fc.nat({ max: 3 }) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('takeover' as const),
      to: fc.nat({ max: 3 }),
      isPlanned: fc.boolean(),
      /** After which whoever runs it dies. */
      steps: fc.nat({ max: 14 }),
    }),
  },
);

test('interrupted, outdated and raced in any way, the record stays sound, and the shard gets ready afterwards', () => {
  const four = [...names, 'a-us-1'];
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), fc.constantFrom(0, 1, 2), anyScope, (steps, k, scope) => {
      const world = started(durability(k, 'ShrinkMembership', scope), four);
      // Two processes, of which each believes at times that it leads; the second has the higher term.
      let operators = [new Operator(world, 1), new Operator(world, 2)];
      const seen: (ReturnType<Operator['observe']> | undefined)[] = [undefined, undefined];
      let wiped = false;
      for (const event of steps) {
        switch (event.kind) {
          case 'round':
            operators[event.by]?.round();
            break;
          case 'die':
            operators[event.by]?.round(undefined, event.after);
            operators = operators.map((operator, index) =>
              index === event.by ? new Operator(world, index + 1) : operator,
            );
            break;
          case 'tick':
            world.tick();
            break;
          case 'hours':
            world.tick(3_600_000);
            break;
          case 'look':
            seen[event.by] = operators[event.by]?.observe();
            break;
          case 'actLate':
            operators[event.by]?.round(seen[event.by] ?? operators[event.by]?.observe());
            break;
          case 'silence':
            world.member(four[event.who] ?? '').reachable = false;
            break;
          case 'hear':
            world.member(four[event.who] ?? '').reachable = true;
            break;
          case 'stall': {
            const member = world.member(four[event.who] ?? '');
            member.stalled = !member.stalled;
            break;
          }
          case 'loseLog':
            world.member(four[event.who] ?? '').lacksLog = true;
            break;
          case 'declare': {
            const member = world.member(four[event.who] ?? '');
            if (event.who > 0) member.declared = !member.declared;
            break;
          }
          case 'wish':
            world.change(durability(event.k, 'ShrinkMembership', scope));
            break;
          case 'wipeFollower':
            // One failure, of a member that isn't the primary: more than that k = 1 doesn't promise to survive.
            if (!wiped && world.record?.authority.member !== 'a-ap-0') {
              wiped = true;
              world.wipe('a-ap-0');
            }
            break;
          case 'markVolume':
            world.member(four[event.who] ?? '').volumeGoing = true;
            break;
          case 'crash':
            world.crash(four[event.who] ?? '');
            break;
          case 'start':
            world.member(four[event.who] ?? '').down = false;
            break;
          case 'takeover': {
            const { name, incarnation } = world.member(four[event.to] ?? '');
            const running = takeover(world, { target: { name, incarnation }, isPlanned: event.isPlanned });
            for (let count = 0; count < event.steps && running.next().done !== true; count += 1);
            break;
          }
          case 'newTemplate':
            world.member(four[event.who] ?? '').outdated = true;
            break;
          default:
            event satisfies never;
        }
      }
      for (const name of four)
        Object.assign(world.member(name), {
          reachable: true,
          down: false,
          declared: true,
          stalled: false,
          lacksLog: false,
        });
      world.change(durability(1, 'Block', scope));
      settleTakeovers(world);
      settle(world, new Operator(world, 3), 60);
      assert.deepEqual(listed(world), four.toSorted());
      assert.equal(world.record?.membership.acknowledgements, 1);
      assert.equal(world.shard.status?.phase, 'Ready');
      assert.equal(world.initialised, 1);
    }),
    { numRuns: 200 },
  );
});
