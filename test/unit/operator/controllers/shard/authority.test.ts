/** A shard whose authority moves by failovers, or is meddled with. The world asserts safety all the while. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { annotations } from '#core/names.ts';
import { plan } from '#operator/controllers/shard/plan.ts';
import { Operator } from './simulated-operator.ts';
import { durability, failOver, find, listed, names, primaryOf, ready, run, settle } from './stories.ts';
import { World } from './world.ts';

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

describe('before a failover', () => {
  test('two members would survive it, and then writes wait: said while one more still helps (A15)', () => {
    const world = new World();
    for (const name of ['a-eu-0', 'a-us-0']) world.addMember(name);
    const operator = new Operator(world, 1);
    settle(world, operator, 10);
    const warned = find(world, 'FailoverPossible');
    assert.deepEqual([warned?.status, warned?.reason], ['True', 'ThenWritesWait'], warned?.message);
    assert.match(warned?.message ?? '', /a-us-0 could take over from a-eu-0.*wait/);
    world.addMember('a-ap-0');
    settle(world, operator, 10);
    assert.equal(find(world, 'FailoverPossible')?.reason, 'Possible');
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

  /** Four with k = 2: one of the three others has diverged, and the gate needs two of them. */
  const divergedOfFour = () => {
    const story = ready(durability(2), [...names, 'a-sa-0']);
    const { world } = story;
    world.crash('a-sa-0');
    world.member('a-sa-0').flushed += 1_000n;
    failOver(world, 'a-eu-0');
    world.member('a-sa-0').down = false;
    return story;
  };

  test('of more members a diverged one is rewound where the gate would wait for the lost one for ever, and not before', () => {
    const { world, operator } = divergedOfFour();
    settle(world, operator, 6);
    assert.equal(world.shard.status?.phase, 'Opening');
    assert.equal(world.member('a-sa-0').rejoined, undefined, 'the old primary may only be restarting');
    settle(world, operator, 30);
    assert.equal(find(world, 'PrimaryAvailable')?.status, 'True');
    assert.equal(world.member('a-sa-0').rejoined?.how, 'Rewind');
  });

  test('nor does the gate wait for one whose name answers with another volume: that one is known to be gone at once', () => {
    const { world, operator } = divergedOfFour();
    world.wipe('a-eu-0');
    world.member('a-eu-0').declared = false;
    settle(world, operator, 8);
    assert.equal(world.shard.status?.phase, 'Ready');
    assert.equal(world.member('a-sa-0').rejoined?.how, 'Rewind');
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
