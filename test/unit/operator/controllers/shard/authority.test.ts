/** A shard whose authority moves: after failovers, and by switchovers of every reason. The world asserts safety all the while. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { annotations } from '#core/names.ts';
import { plan } from '#operator/controllers/shard/plan.ts';
import { Operator } from './simulated-operator.ts';
import { type TakeoverWish, takeover } from './simulated-takeover.ts';
import { World } from './world.ts';

const names = ['a-eu-0', 'a-us-0', 'a-ap-0'] as const;

function ready(spec: ConstructorParameters<typeof World>[0] = {}, members: readonly string[] = names) {
  const world = new World(spec);
  for (const name of members) world.addMember(name);
  const operator = new Operator(world, 1);
  settle(world, operator);
  assert.equal(world.shard.status?.phase, 'Ready');
  return { world, operator };
}

/** Whatever the takeover service is asked for, it does at once and whole. */
function settle(world: World, operator: Operator, rounds = 40): void {
  for (let round = 0; round < rounds; round += 1) {
    world.tick();
    operator.round();
    const target = world.asked.pop();
    world.asked.length = 0;
    if (target !== undefined) run(world, { target, isPlanned: true });
  }
}

function run(world: World, wish: TakeoverWish): string[] {
  return [...takeover(world, wish)];
}

function failOver(world: World, lost: string): void {
  world.crash(lost);
  run(world, { isPlanned: false });
  assert.notEqual(world.record?.authority.member, lost);
}

const listed = (world: World): string[] => (world.record?.membership.members ?? []).map(({ name }) => name).toSorted();
const find = (world: World, type: string) =>
  world.shard.status?.conditions?.find((condition) => condition.type === type);
const primaryOf = (world: World): string | undefined => world.record?.authority.member;
const durability = (acknowledgements: number) => ({
  durability: { acknowledgements, scope: 'AnyMember' as const, onLoss: 'Block' as const },
});

describe('the first start', () => {
  test('the record is active while the gate is shut, and nobody is let in before a follower has joined', () => {
    const world = new World();
    world.addMember('a-eu-0');
    const operator = new Operator(world, 1);
    settle(world, operator, 10);
    assert.equal(world.record?.authority.state, 'Active');
    assert.equal(world.member('a-eu-0').open, false);
    assert.equal(world.shard.status?.phase, 'Opening');
    assert.equal(find(world, 'PrimaryAvailable')?.reason, 'Opening');
    assert.equal(find(world, 'Ready')?.status, 'False');
    world.addMember('a-us-0');
    settle(world, operator, 10);
    assert.deepEqual(listed(world), ['a-eu-0', 'a-us-0']);
    assert.equal(world.member('a-eu-0').open, true);
    assert.equal(world.shard.status?.phase, 'Ready');
  });

  test('while a gate is shut nobody is taken out of the membership, whatever asks for it', () => {
    const { world, operator } = ready();
    world.crash('a-eu-0');
    Object.assign(world.member('a-eu-0'), { down: false, stalled: false });
    for (const name of ['a-us-0', 'a-ap-0']) world.member(name).stalled = true;
    world.member('a-ap-0').declared = false;
    settle(world, operator, 10);
    assert.equal(world.shard.status?.phase, 'Opening');
    assert.deepEqual(listed(world), names.toSorted());
    world.member('a-us-0').stalled = false;
    settle(world, operator, 10);
    assert.deepEqual(listed(world), ['a-eu-0', 'a-us-0']);
  });

  test('without acknowledgements the primary opens by itself', () => {
    const world = new World(durability(0));
    world.addMember('a-eu-0');
    settle(world, new Operator(world, 1), 10);
    assert.equal(world.shard.status?.phase, 'Ready');
  });
});

describe('after a failover', () => {
  test('followers follow the new primary, and the old one comes back as it is where it had nothing else', () => {
    const { world, operator } = ready();
    // All that the primary has is on its followers.
    run(world, { isPlanned: false, target: { name: 'a-us-0', incarnation: world.member('a-us-0').incarnation } });
    assert.equal(primaryOf(world), 'a-us-0');
    settle(world, operator);
    assert.equal(world.shard.status?.phase, 'Ready');
    assert.deepEqual(listed(world), names.toSorted());
    assert.equal(world.member('a-eu-0').orders?.role, 'Follower');
    assert.equal(world.isStreaming(world.member('a-eu-0')), true);
    assert.equal(world.shard.status?.lastFailover?.exact, true);
    assert.equal(world.shard.status?.lastFailover?.transactions, 0);
  });

  test('an old primary with more than the shard has leaves the membership, is rewound, and joins again; what it had is counted', () => {
    const { world, operator } = ready();
    for (const name of ['a-us-0', 'a-ap-0']) world.member(name).stalled = true;
    world.tick();
    world.tick();
    failOver(world, 'a-eu-0');
    for (const name of ['a-us-0', 'a-ap-0']) world.member(name).stalled = false;
    settle(world, operator, 5);
    assert.equal(find(world, 'NothingLost')?.status, 'True', 'nobody was told that those were safe');
    world.member('a-eu-0').down = false;
    const sizes = new Set<number>();
    for (let round = 0; round < 30; round += 1) {
      settle(world, operator, 1);
      sizes.add(listed(world).length);
      if (world.member('a-eu-0').rewinding) assert.ok(!listed(world).includes('a-eu-0'), 'it does not count meanwhile');
    }
    assert.ok(sizes.has(2));
    assert.deepEqual(listed(world), names.toSorted());
    assert.equal(world.shard.status?.phase, 'Ready');
    assert.equal(find(world, 'Diverged')?.status, 'False');
    const last = world.shard.status?.lastFailover;
    assert.deepEqual([last?.exact, last?.transactions, last?.keptIn], [true, 20, 'kept/1']);
  });

  test('an old primary that does not come back is taken out, so that the next fence does not need it', () => {
    const { world, operator } = ready();
    failOver(world, 'a-eu-0');
    settle(world, operator, 5);
    assert.ok(listed(world).includes('a-eu-0'), 'not before it has had its time');
    settle(world, operator, 20);
    assert.deepEqual(listed(world), ['a-ap-0', 'a-us-0']);
    failOver(world, primaryOf(world) ?? '');
    assert.equal(world.record?.authority.epoch, 3);
  });

  test('of two members the old primary is rewound as a member, since the gate needs it', () => {
    const { world, operator } = ready({}, ['a-eu-0', 'a-us-0']);
    world.member('a-us-0').stalled = true;
    world.tick();
    failOver(world, 'a-eu-0');
    world.member('a-us-0').stalled = false;
    settle(world, operator, 5);
    assert.equal(world.shard.status?.phase, 'Opening');
    world.member('a-eu-0').down = false;
    settle(world, operator, 10);
    assert.deepEqual(listed(world), ['a-eu-0', 'a-us-0']);
    assert.equal(world.shard.status?.phase, 'Ready');
    assert.equal(primaryOf(world), 'a-us-0');
  });

  test('with a new volume it is nobody that was known: it is copied, and joins as a new member', () => {
    const { world, operator } = ready();
    failOver(world, 'a-eu-0');
    world.wipe('a-eu-0');
    settle(world, operator);
    assert.deepEqual(listed(world), names.toSorted());
    assert.equal(world.shard.status?.phase, 'Ready');
    assert.equal(world.shard.status?.lastFailover?.exact, false);
  });

  test('without acknowledgements the loss is an interval until the old primary is back, and then exact', () => {
    const { world, operator } = ready(durability(0));
    for (const name of ['a-us-0', 'a-ap-0']) world.member(name).stalled = true;
    world.tick();
    failOver(world, 'a-eu-0');
    for (const name of ['a-us-0', 'a-ap-0']) world.member(name).stalled = false;
    settle(world, operator, 5);
    assert.equal(find(world, 'NothingLost')?.status, 'Unknown');
    assert.equal(find(world, 'NothingLost')?.reason, 'Interval');
    world.member('a-eu-0').down = false;
    settle(world, operator);
    assert.equal(find(world, 'NothingLost')?.reason, 'Lost');
    assert.match(
      find(world, 'NothingLost')?.message ?? '',
      /lost 10 transactions from 0\/.* kept in kept\/1 on a-eu-0/,
    );
  });

  test('nothing goes back by itself, and the condition says how it could', () => {
    const { world, operator } = ready();
    failOver(world, 'a-eu-0');
    settle(world, operator, 5);
    world.member('a-eu-0').down = false;
    settle(world, operator);
    assert.notEqual(primaryOf(world), 'a-eu-0');
    assert.match(
      find(world, 'InPreferredRegion')?.message ?? '',
      /kubectl annotate shard a meridian.db\/switchover=eu/,
    );
    assert.equal(find(world, 'SwitchoverPossible')?.status, 'True');
  });
});

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

describe('members that are kept down', () => {
  test('a fenced primary stops and is not handed over; let go, it leads on', () => {
    const { world, operator } = ready();
    world.annotate(annotations.fence, 'a-eu-0');
    settle(world, operator, 5);
    assert.equal(world.member('a-eu-0').running, false);
    assert.equal(world.shard.status?.phase, 'Fenced');
    assert.equal(find(world, 'Fenced')?.status, 'True');
    assert.equal(find(world, 'FailoverPossible')?.reason, 'Fenced');
    world.annotate(annotations.fence, undefined);
    settle(world, operator, 5);
    assert.deepEqual([primaryOf(world), world.record?.authority.epoch], ['a-eu-0', 1]);
    assert.equal(world.shard.status?.phase, 'Ready');
    assert.equal(find(world, 'Fenced')?.status, 'False');
  });

  test('a fenced follower stops; one that is no member is named', () => {
    const { world, operator } = ready();
    world.annotate(annotations.fence, 'a-us-0, a-us-7');
    settle(world, operator, 3);
    assert.equal(world.member('a-us-0').orders?.role, 'Hold');
    assert.equal(find(world, 'Fenced')?.reason, 'UnknownMember');
    assert.equal(world.shard.status?.phase, 'Ready');
  });
});

describe('a record that was edited', () => {
  const edits: readonly {
    readonly behaviour: string;
    readonly reason: string;
    readonly edit: (status: NonNullable<World['shard']['status']>) => Partial<NonNullable<World['shard']['status']>>;
  }[] = [
    {
      behaviour: 'to a lower epoch',
      reason: 'EpochWentBack',
      edit: ({ authority, history }) => ({
        authority: authority && { ...authority, epoch: 1, timeline: 1 },
        history: history?.slice(0, 1),
      }),
    },
    {
      behaviour: 'to another primary at the same epoch',
      reason: 'AnotherPrimary',
      edit: ({ authority, membership }) => ({
        authority: authority && {
          ...authority,
          ...membership?.members.find(({ name }) => name === 'a-ap-0'),
          member: 'a-ap-0',
        },
      }),
    },
    { behaviour: 'to no history', reason: 'HistoryBroken', edit: () => ({ history: [] }) },
    {
      behaviour: 'to an older membership',
      reason: 'GenerationWentBack',
      edit: ({ membership }) => ({ membership: membership && { ...membership, generation: 1 } }),
    },
    {
      behaviour: 'to a membership without the primary',
      reason: 'PrimaryNotListed',
      edit: ({ membership, authority }) => ({
        membership: membership && {
          ...membership,
          generation: membership.generation + 1,
          members: membership.members.filter(({ name }) => name !== authority?.member),
        },
      }),
    },
  ];
  for (const { behaviour, reason, edit } of edits)
    test(`${behaviour} is not believed: nobody is ordered anything, and the condition says what to do`, () => {
      const { world, operator } = ready();
      failOver(world, 'a-eu-0');
      world.member('a-eu-0').down = false;
      settle(world, operator);
      const sound = world.shard.status;
      assert.ok(sound !== undefined);
      world.shard = { ...world.shard, status: { ...sound, ...edit(sound) } };
      const planned = plan(operator.observe(), new Date(world.now));
      const trust = planned.conditions?.find(({ type }) => type === 'RecordTrusted');
      assert.deepEqual([trust?.status, trust?.reason], ['False', reason]);
      assert.match(trust?.message ?? '', /[Rr]estore|Add it/);
      assert.equal(planned.status?.phase, 'Distrusted');
      assert.equal(planned.conditions?.find(({ type }) => type === 'Ready')?.reason, reason);
      assert.ok(!planned.actions.some(({ kind }) => !['ApplyBudget', 'ApplyPolicy'].includes(kind)));
      world.shard = { ...world.shard, status: sound };
      settle(world, operator);
      assert.equal(world.shard.status?.phase, 'Ready');
    });

  test('a fence that nobody has decided yet is no contradiction, and the member takes no orders', () => {
    const { world, operator } = ready();
    const us = world.member('a-us-0');
    us.promise = { ...us.promise, epoch: 2, grantee: '', generation: 0 };
    us.orders = undefined;
    const planned = plan(operator.observe(), new Date(world.now));
    assert.ok(!planned.actions.some((action) => action.kind === 'SendOrders' && action.member === 'a-us-0'));
    operator.round();
    assert.equal(find(world, 'RecordTrusted')?.status, 'True');
    assert.equal(find(world, 'OrdersTaken')?.reason, 'EpochPromised');
  });

  test('what was decided while agents were asked is waited for', () => {
    const { operator } = ready();
    const planned = plan({ ...operator.observe(), isOutdated: true }, new Date());
    assert.deepEqual([planned.actions, planned.status, planned.conditions], [[], undefined, undefined]);
  });
});
