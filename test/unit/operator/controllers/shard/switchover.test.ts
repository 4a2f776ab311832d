/** Planned switchovers of every reason, and those that are refused. The world asserts safety all the while. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { annotations } from '#core/names.ts';
import { plan } from '#operator/controllers/shard/plan.ts';
import { takeover } from './simulated-takeover.ts';
import { failOver, find, listed, names, primaryOf, ready, run, settle } from './stories.ts';
import type { World } from './world.ts';

describe('a switchover', () => {
  const ask = (world: World, value: string): void => world.annotate(annotations.switchover, value);

  for (const request of ['a-us-0', 'us'])
    test(`by hand, to ${request}: done once, and the annotation goes`, () => {
      const { world, operator } = ready();
      ask(world, request);
      settle(world, operator);
      assert.equal(primaryOf(world), 'a-us-0');
      assert.equal(world.record?.authority.epoch, 2);
      assert.equal(world.shard.metadata.annotations?.[annotations.switchover], undefined);
      assert.equal(world.shard.status?.switchover?.outcome, 'Done');
      assert.equal(world.shard.status?.phase, 'Ready');
      // The same words again are another wish.
      ask(world, 'a-eu-0');
      settle(world, operator);
      ask(world, request);
      settle(world, operator);
      assert.equal(primaryOf(world), 'a-us-0');
      assert.equal(world.record?.authority.epoch, 4);
    });

  const refusals: readonly {
    readonly behaviour: string;
    readonly request: string;
    readonly prepare: (world: World) => void;
    readonly reason: string;
    readonly message: RegExp;
  }[] = [
    {
      behaviour: 'to nobody that is known',
      request: 'mars',
      prepare: () => undefined,
      reason: 'TargetUnknown',
      message: /mars is neither a member of this shard nor a region/,
    },
    {
      behaviour: 'to a member that is not promotable',
      request: 'a-us-0',
      prepare: (world) => Object.assign(world.member('a-us-0'), { promotable: false }),
      reason: 'TargetNotPromotable',
      message: /promotable: false/,
    },
    {
      behaviour: 'to a member that is behind',
      request: 'a-us-0',
      prepare: (world) => Object.assign(world.member('a-us-0'), { stalled: true }),
      reason: 'TargetTooFarBehind',
      message: /bytes behind/,
    },
    {
      behaviour: 'to a member that does not answer',
      request: 'a-us-0',
      prepare: (world) => world.crash('a-us-0'),
      reason: 'TargetUnreachable',
      message: /a-us-0 does not answer/,
    },
    {
      behaviour: 'to a member that does not count yet',
      request: 'a-us-1',
      prepare: (world) => Object.assign(world.addMember('a-us-1'), { lacksLog: false }),
      reason: 'TargetNotAMember',
      message: /not in the membership/,
    },
    {
      behaviour: 'to a member that is kept down',
      request: 'a-us-0',
      prepare: (world) => world.annotate(annotations.fence, 'a-us-0'),
      reason: 'TargetFenced',
      message: /kept down/,
    },
    {
      behaviour: 'to a region that is drained',
      request: 'us',
      prepare: (world) => {
        world.regions = world.regions.map((region) => ({ ...region, drain: region.name === 'us' }));
      },
      reason: 'TargetRegionDrained',
      message: /us .*is drained/,
    },
    {
      behaviour: 'to a member whose volume goes',
      request: 'a-us-0',
      prepare: (world) => Object.assign(world.member('a-us-0'), { volumeGoing: true }),
      reason: 'TargetVolumeGoing',
      message: /marked for deletion/,
    },
  ];
  for (const { behaviour, request, prepare, reason, message } of refusals)
    test(`is refused ${behaviour}, with the reason, and not tried again`, () => {
      const { world, operator } = ready();
      prepare(world);
      ask(world, request);
      operator.round();
      assert.equal(find(world, 'SwitchoverPossible')?.status, 'False');
      assert.equal(find(world, 'SwitchoverPossible')?.reason, reason);
      assert.match(find(world, 'SwitchoverPossible')?.message ?? '', message);
      settle(world, operator, 5);
      assert.equal(world.shard.metadata.annotations?.[annotations.switchover], undefined);
      assert.equal(
        find(world, 'SwitchoverPossible')?.reason,
        reason,
        'it is still to be read when the annotation is gone',
      );
      assert.equal(primaryOf(world), 'a-eu-0');
    });

  test('is refused where the durability would not hold after it', () => {
    const { world, operator } = ready(
      {
        durability: { acknowledgements: 1, scope: 'OtherRegion', onLoss: 'Block' },
      },
      ['a-eu-0', 'a-eu-1', 'a-us-0'],
    );
    world.change({ durability: { acknowledgements: 1, scope: 'OtherRegion', onLoss: 'Block' } });
    world.member('a-eu-0').declared = false;
    ask(world, 'a-us-0');
    world.crash('a-eu-1');
    operator.round();
    assert.equal(find(world, 'SwitchoverPossible')?.reason, 'DurabilityWouldNotHold');
  });

  test('that was undone is over for who asked by hand', () => {
    const { world, operator } = ready();
    ask(world, 'a-us-0');
    operator.round();
    const target = world.asked.pop();
    assert.equal(target?.name, 'a-us-0');
    // It lost the connection a moment before, and lacks the end of the log.
    world.member('a-us-0').stalled = true;
    world.tick();
    run(world, { target, isPlanned: true });
    assert.deepEqual([primaryOf(world), world.record?.authority.epoch], ['a-eu-0', 2]);
    world.member('a-us-0').stalled = false;
    settle(world, operator);
    assert.deepEqual([primaryOf(world), world.record?.authority.epoch], ['a-eu-0', 2]);
    assert.equal(world.shard.status?.switchover?.outcome, 'Undone');
    assert.equal(world.shard.metadata.annotations?.[annotations.switchover], undefined);
    assert.equal(world.shard.status?.phase, 'Ready');
  });

  test('to a preferred region that was changed, once', () => {
    const { world, operator } = ready();
    world.change({ primaryRegion: 'us' });
    settle(world, operator);
    assert.equal(primaryOf(world), 'a-us-0');
    failOver(world, 'a-us-0');
    const after = primaryOf(world);
    settle(world, operator, 5);
    world.member('a-us-0').down = false;
    settle(world, operator);
    assert.equal(primaryOf(world), after, 'a failover is no change of the preference');
  });

  test('that could not be done in its epoch is settled by the failover that ended it', () => {
    const { world, operator } = ready();
    world.member('a-us-0').stalled = true;
    settle(world, operator, 3);
    world.change({ primaryRegion: 'us' });
    settle(world, operator, 5);
    assert.equal(find(world, 'SwitchoverPossible')?.reason, 'TargetTooFarBehind');
    assert.equal(primaryOf(world), 'a-eu-0');
    failOver(world, 'a-eu-0');
    assert.equal(primaryOf(world), 'a-ap-0');
    world.member('a-us-0').stalled = false;
    settle(world, operator);
    assert.equal(primaryOf(world), 'a-ap-0');
    assert.equal(find(world, 'InPreferredRegion')?.reason, 'Elsewhere');
  });

  test('out of a drained region, to one that is not, and not back when the drain ends', () => {
    const { world, operator } = ready();
    world.regions = world.regions.map((region) => ({ ...region, drain: region.name !== 'ap' }));
    settle(world, operator);
    assert.equal(primaryOf(world), 'a-ap-0');
    world.regions = world.regions.map((region) => ({ ...region, drain: false }));
    settle(world, operator);
    assert.equal(primaryOf(world), 'a-ap-0');
  });

  test('out of a drained region waits for its turn', () => {
    const { world, operator } = ready();
    world.regions = world.regions.map((region) => ({ ...region, drain: region.name === 'eu' }));
    const planned = plan({ ...operator.observe(), isDrainTurn: false }, new Date(world.now));
    assert.ok(!planned.actions.some(({ kind }) => kind === 'Handover'));
    const finding = planned.conditions?.find(({ type }) => type === 'SwitchoverPossible');
    assert.deepEqual([finding?.status, finding?.reason], ['True', 'Waiting']);
  });

  test('under way holds everything else: no change of the membership, no rolling change', () => {
    const { world, operator } = ready();
    world.annotate(annotations.switchover, 'us');
    world.addMember('a-us-1');
    world.member('a-ap-0').outdated = true;
    const kinds = (): string[] => plan(operator.observe(), new Date(world.now)).actions.map(({ kind }) => kind);
    world.tick();
    const begun = kinds();
    assert.ok(begun.includes('Handover') && !begun.includes('ReplacePod'), begun.join());
    const steps = takeover(world, { isPlanned: true, target: { ...world.member('a-us-0') } });
    steps.next();
    assert.equal(world.record?.authority.state, 'Stopping');
    assert.deepEqual(
      kinds().filter((kind) => ['Record', 'ReplacePod', 'Handover'].includes(kind)),
      [],
    );
  });

  test('out of the last region is refused', () => {
    const { world, operator } = ready();
    world.regions = world.regions.map((region) => ({ ...region, drain: true }));
    settle(world, operator, 5);
    assert.equal(primaryOf(world), 'a-eu-0');
    assert.equal(find(world, 'SwitchoverPossible')?.reason, 'TargetRegionDrained');
  });

  test('away from a primary that its RegionalReplica no longer asks for, which then leaves', () => {
    const { world, operator } = ready();
    world.member('a-eu-0').declared = false;
    settle(world, operator);
    assert.deepEqual(listed(world), ['a-ap-0', 'a-us-0']);
    assert.notEqual(primaryOf(world), 'a-eu-0');
  });

  test('away from a primary whose volume is marked for deletion, which then gets a new one', () => {
    const { world, operator } = ready();
    const { incarnation } = world.member('a-eu-0');
    world.member('a-eu-0').volumeGoing = true;
    settle(world, operator);
    assert.notEqual(primaryOf(world), 'a-eu-0');
    assert.notEqual(world.member('a-eu-0').incarnation, incarnation);
    assert.deepEqual(listed(world), names.toSorted());
  });

  test('at the end of a rolling change: followers first, then the switchover, then the old primary', () => {
    const { world, operator } = ready();
    for (const name of names) world.member(name).outdated = true;
    const order: string[] = [];
    for (let round = 0; round < 40; round += 1) {
      settle(world, operator, 1);
      for (const name of names) if (!world.member(name).outdated && !order.includes(name)) order.push(name);
      if (order.length < 2) assert.equal(world.record?.authority.epoch, 1, 'not before the followers have it');
    }
    assert.equal(order.at(-1), 'a-eu-0');
    assert.equal(world.record?.authority.epoch, 2, 'one switchover is enough');
    assert.equal(find(world, 'RolloutPending')?.status, 'False');
    assert.equal(world.shard.status?.phase, 'Ready');
  });

  test('that is undone again and again waits ever longer for the next try', () => {
    const { world, operator } = ready();
    world.member('a-eu-0').outdated = true;
    let tries = 0;
    for (let round = 0; round < 600; round += 1) {
      world.tick();
      operator.round();
      const target = world.asked.pop();
      world.asked.length = 0;
      if (target === undefined) continue;
      tries += 1;
      const member = world.member(target.name);
      member.stalled = true;
      world.tick();
      run(world, { target, isPlanned: true });
      member.stalled = false;
    }
    assert.equal(primaryOf(world), 'a-eu-0');
    assert.ok(tries >= 3 && tries <= 6, `${tries} tries in ten minutes`);
  });
});
