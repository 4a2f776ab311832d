/**
 * The takeover service in the model world, where a replica dies, or stands still, at every call that it makes. What must
 * never happen is checked by the world itself; here also that it always ends well.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Replica, type ReplicaFault } from './replica.ts';
import { identityOf, World } from './world.ts';

const settle = async (world: World): Promise<void> => {
  assert.ok(await world.time.run(5_000, () => world.isWell), 'the shard comes up');
  await world.time.run(3_000);
};

const describeWorld = (world: World): string =>
  JSON.stringify({
    authority: world.record.authority,
    members: [...world.members.values()].map(({ log, grants, ...member }) => ({
      ...member,
      length: log.length,
      grants: grants.size,
    })),
  });

/** Until all is well again; also that something was written since. */
const recovers = async (world: World, withinMs: number, what = ''): Promise<void> => {
  const before = world.acknowledged.length;
  const isOver = await world.time.run(withinMs, () => world.isWell && world.acknowledged.length > before);
  assert.ok(isOver, `${what} ${describeWorld(world)}`);
};

/** A replica that acts first and has the fault, and one that goes on, later by its rank. */
const pair = (world: World, fault: ReplicaFault): readonly [Replica, Replica] => [
  new Replica(world, { fault }),
  new Replica(world, { rank: () => 1 }),
];

/** How many calls a replica makes for this when nothing goes wrong with it. */
async function callsOf(scenario: (world: World, replica: Replica) => Promise<void>): Promise<readonly string[]> {
  const world = new World();
  const replica = new Replica(world);
  await settle(world);
  await scenario(world, replica);
  await world.time.run(2_000);
  return replica.calls;
}

const kinds = ['DiesBefore', 'DiesAfter', 'StandsStill'] as const;

describe('a lost primary', () => {
  it('is failed over in seconds, and each step is told with its time', async () => {
    const world = new World();
    const replica = new Replica(world);
    await settle(world);
    assert.equal(replica.calls.length, 0, 'nothing but watching while all is well');
    const beganMs = world.time.nowMs;
    world.kill('a-eu-0');
    await recovers(world, 8_000);
    assert.equal(world.record.authority.epoch, 2);
    assert.ok(world.time.nowMs - beganMs < 6_000, `${world.time.nowMs - beganMs} ms`);
    await world.time.run(1_000);
    assert.deepEqual(replica.reasons, ['Suspected', 'Fenced', 'WaitedOut', 'Decided', 'Promoted', 'Opened']);
    for (const { message } of replica.events) assert.match(message, /after \d+\.\d\d s/);
    const orders = replica.calls.filter((call) => call.startsWith('order'));
    assert.equal(orders[0], `order ${world.record.authority.member}`, 'the chosen one is ordered first');
    assert.match(await replica.metrics.metrics(), /meridian_takeovers_total\{kind="Failover",outcome="Done"\} 1/);
    assert.equal(world.shard.status?.lastFailover?.from, 'a-eu-0');
    assert.equal(world.shard.status?.lastFailover?.epoch, 2);
  });

  it('is failed over whatever becomes of the replica that does it, at any of its calls', async () => {
    const calls = await callsOf(async (world) => {
      world.kill('a-eu-0');
      await recovers(world, 8_000);
    });
    assert.ok(calls.length >= 8, calls.join(', '));
    for (const kind of kinds)
      for (let atCall = 1; atCall <= calls.length; atCall += 1) {
        const world = new World();
        pair(world, { atCall, kind });
        await settle(world);
        world.kill('a-eu-0');
        await recovers(world, 25_000, `${kind} at ${atCall} (${calls[atCall - 1]})`);
        // Whoever stood still wakes with what it knew, and changes nothing.
        await world.time.run(25_000);
        assert.ok(world.isWell, `${kind} at ${atCall}: ${describeWorld(world)}`);
        assert.equal(world.decided.length, world.record.authority.epoch - 1);
        assert.ok(world.record.authority.epoch <= 3, `${kind} at ${atCall}: epoch ${world.record.authority.epoch}`);
      }
  });

  it('is failed over once, however many replicas see it at the same moment', async () => {
    for (let seed = 1; seed <= 20; seed += 1) {
      const random = randomOf(seed);
      const world = new World(seed % 2 === 0 ? 3 : 5);
      const replicas = [1, 2, 3].map(() => new Replica(world, { latencyMs: () => 1 + random() * 120 }));
      await settle(world);
      world.kill('a-eu-0');
      await recovers(world, 30_000, `seed ${seed}`);
      assert.ok(world.decided.length <= 2, `seed ${seed}: ${world.decided.length} decisions`);
      await world.time.run(10_000);
      assert.ok(world.isWell, `seed ${seed}: ${describeWorld(world)}`);
      assert.ok(replicas.some(({ reasons }) => reasons.includes('Decided')));
    }
  });

  it('comes back as a follower, and its successor too, when two are lost in a row', async () => {
    const world = new World();
    Replica.start(world);
    await settle(world);
    world.kill('a-eu-0');
    await recovers(world, 8_000);
    world.revive('a-eu-0');
    await recovers(world, 8_000);
    const second = world.primary.name;
    world.kill(second);
    await recovers(world, 8_000);
    assert.notEqual(world.primary.name, second);
    assert.equal(world.record.authority.epoch, 3);
  });

  it('is waited for while too few answer to end its epoch; it is said who is missing', async () => {
    const world = new World(5, { durability: { acknowledgements: 1, scope: 'AnyMember', onLoss: 'Block' } });
    const replica = new Replica(world);
    await settle(world);
    for (const name of ['a-eu-0', 'a-us-0', 'a-ap-0']) world.kill(name);
    await world.time.run(20_000);
    assert.deepEqual(replica.reasons, ['TakeoverWaits'], 'told once');
    assert.deepEqual(replica.service.reportOf('shard-uid')?.missing, ['a-eu-0', 'a-us-0', 'a-ap-0']);
    assert.equal(world.record.authority.epoch, 1);
    assert.ok(!replica.calls.some((call) => call.startsWith('fence')), 'nobody is fenced who would be left so');
    world.revive('a-us-0');
    world.revive('a-ap-0');
    await recovers(world, 20_000);
    assert.equal(world.record.authority.epoch, 2);
  });

  it('is not failed over while its followers hear it, whoever else does not', async () => {
    const world = new World();
    const replica = new Replica(world);
    await settle(world);
    world.member('a-eu-0').hidden = true;
    await world.time.run(30_000);
    assert.equal(world.record.authority.epoch, 1);
    assert.equal(replica.calls.length, 0);
  });

  it('is left alone in mode Manual, until somebody names who is to lead', async () => {
    const world = new World(3, { failover: { mode: 'Manual', priority: 0 } });
    const replica = new Replica(world);
    await settle(world);
    world.kill('a-eu-0');
    await world.time.run(20_000);
    assert.equal(world.record.authority.epoch, 1);
    const report = replica.service.reportOf('shard-uid');
    assert.match(report?.message ?? '', /Manual/);
    assert.deepEqual(report?.missing, ['a-eu-0']);
    replica.service.handOver(world.shard, { target: identityOf(world.member('a-ap-0')), why: 'asked for' });
    await recovers(world, 8_000);
    assert.equal(world.primary.name, 'a-ap-0');
  });

  it('is left alone where people keep it down', async () => {
    const world = new World();
    const { shard } = world;
    world.shard = { ...shard, metadata: { ...shard.metadata, annotations: { 'meridian.db/fence': 'a-eu-0' } } };
    const replica = new Replica(world);
    await settle(world);
    world.kill('a-eu-0');
    await world.time.run(20_000);
    assert.equal(world.record.authority.epoch, 1);
    assert.match(replica.service.reportOf('shard-uid')?.message ?? '', /kept down/);
  });

  it('has a successor that may lead, which first gets what only another has', async () => {
    const world = new World();
    const replica = new Replica(world);
    await settle(world);
    const [us, ap] = [world.member('a-us-0'), world.member('a-ap-0')];
    us.promotable = false;
    // What one follower lacks was acknowledged by the other.
    ap.source = undefined;
    await world.time.run(1_000);
    ap.source = 'a-eu-0';
    ap.heardMs = 0;
    world.kill('a-eu-0');
    ap.log = ap.log.slice(0, -3);
    await recovers(world, 10_000);
    assert.equal(world.primary.name, 'a-ap-0');
    assert.ok(replica.reasons.includes('Shipping'), replica.reasons.join(', '));
  });
});

describe('a planned handover', () => {
  const handOver = async (world: World, replica: Replica): Promise<void> => {
    replica.service.handOver(world.shard, { target: identityOf(world.member('a-us-0')), why: 'asked for' });
    await recovers(world, 10_000);
  };

  it('moves the primary within a second or so, and tells its story', async () => {
    const world = new World();
    const replica = new Replica(world);
    await settle(world);
    const beganMs = world.time.nowMs;
    await handOver(world, replica);
    assert.equal(world.primary.name, 'a-us-0');
    assert.equal(world.record.authority.target, undefined);
    assert.ok(world.time.nowMs - beganMs < 2_000, `${world.time.nowMs - beganMs} ms`);
    assert.equal(world.shard.status?.lastFailover, undefined, 'it is no failover');
    await world.time.run(1_000);
    assert.deepEqual(
      replica.reasons.filter((reason) => reason !== 'WaitedOut'),
      ['HandoverAnnounced', 'HandoverBegan', 'Fenced', 'Decided', 'Promoted', 'Opened'],
    );
  });

  it('is done or undone, whatever becomes of the replica that does it, at any of its calls', async () => {
    const calls = await callsOf(handOver);
    assert.ok(calls.length >= 8, calls.join(', '));
    for (const kind of kinds)
      for (let atCall = 1; atCall <= calls.length; atCall += 1) {
        const what = `${kind} at ${atCall} (${calls[atCall - 1]})`;
        const world = new World();
        const [first] = pair(world, { atCall, kind });
        await settle(world);
        first.service.handOver(world.shard, { target: identityOf(world.member('a-us-0')), why: 'asked for' });
        await world.time.run(500);
        await recovers(world, 30_000, what);
        await world.time.run(25_000);
        assert.ok(world.isWell, `${what}: ${describeWorld(world)}`);
        assert.ok(['a-us-0', 'a-eu-0'].includes(world.primary.name), what);
      }
  });

  it('is brought to its end by a replica that is told to end meanwhile', async () => {
    for (const afterMs of [10, 30, 60, 200]) {
      const world = new World();
      const replica = new Replica(world);
      await settle(world);
      replica.service.handOver(world.shard, { target: identityOf(world.member('a-us-0')), why: 'asked for' });
      await world.time.run(afterMs);
      replica.end();
      await recovers(world, 3_000, `after ${afterMs} ms`);
      assert.equal(world.primary.name, 'a-us-0');
      await world.time.run(2_000);
      const calls = replica.calls.length;
      world.kill('a-us-0');
      await world.time.run(10_000);
      assert.equal(replica.calls.length, calls, 'it begins nothing any more');
      assert.equal(world.record.authority.epoch, 2);
    }
  });

  it('is left to the leader that began it, for as long as a primary may take to stop', async () => {
    const world = new World();
    const leader = new Replica(world);
    const other = new Replica(world, { rank: () => 1, isLedByAnother: true });
    await settle(world);
    world.primary.stopsAtMs = world.time.nowMs + 7_000;
    leader.service.handOver(world.shard, { target: identityOf(world.member('a-us-0')), why: 'asked for' });
    await world.time.run(6_900);
    assert.equal(world.record.authority.state, 'Stopping');
    await recovers(world, 5_000);
    assert.equal(world.primary.name, 'a-us-0');
    assert.equal(other.calls.length, 0);
  });

  it('becomes a failover where the primary is lost on the way', async () => {
    for (const afterMs of [10, 20, 30, 40, 60, 100]) {
      const world = new World();
      const replica = new Replica(world);
      await settle(world);
      replica.service.handOver(world.shard, { target: identityOf(world.member('a-us-0')), why: 'asked for' });
      await world.time.run(afterMs);
      world.kill('a-eu-0');
      await recovers(world, 25_000, `after ${afterMs} ms`);
      assert.notEqual(world.primary.name, 'a-eu-0');
    }
  });

  it('to somebody who cannot lead changes nothing, and says why', async () => {
    const world = new World();
    const replica = new Replica(world);
    await settle(world);
    world.member('a-us-0').promotable = false;
    replica.service.handOver(world.shard, { target: identityOf(world.member('a-us-0')), why: 'asked for' });
    await world.time.run(2_000);
    assert.equal(world.record.authority.epoch, 1);
    assert.ok(world.isWell);
    assert.deepEqual(replica.service.reportOf('shard-uid')?.outcome, 'Stopped');
    assert.match(replica.service.reportOf('shard-uid')?.message ?? '', /not promotable/);
  });
});

describe('a fence that somebody left', () => {
  it('is ended by a decision, with the same primary where that is well', async () => {
    const world = new World();
    Replica.start(world);
    await settle(world);
    world.fence('a-us-0', identityOf(world.member('a-us-0')), 2);
    await world.time.run(3_000);
    assert.equal(world.record.authority.epoch, 1, 'its owner may still be deciding');
    await recovers(world, 20_000);
    assert.equal(world.primary.name, 'a-eu-0');
    assert.equal(world.record.authority.epoch, 2);
    assert.equal(world.member('a-us-0').promise.epoch, 2);
  });
});

describe('a member that was fenced, and then removed', () => {
  it('is brought back by a decision at its epoch', async () => {
    const world = new World();
    Replica.start(world);
    await settle(world);
    const { status } = world.shard;
    assert.ok(status?.membership !== undefined);
    const members = status.membership.members.filter(({ name }) => name !== 'a-ap-0');
    world.write({
      ...world.shard,
      status: { ...status, membership: { ...status.membership, members, generation: 2 } },
    });
    world.fence('a-ap-0', identityOf(world.member('a-ap-0')), 3);
    await recovers(world, 20_000);
    assert.equal(world.member('a-ap-0').promise.epoch, world.record.authority.epoch);
    assert.ok(world.record.authority.epoch >= 3);
  });
});

describe('the API server', () => {
  it('may lose the answer to the decision: it is read again, and gone on with', async () => {
    const world = new World();
    const replica = new Replica(world);
    await settle(world);
    world.loseAnswers = 1;
    world.kill('a-eu-0');
    await recovers(world, 10_000);
    assert.equal(world.decided.length, 1);
    await world.time.run(1_000);
    assert.ok(replica.reasons.includes('Opened'));
  });

  it('may be busy with other writes to the Shard: the decision is made over the newest version', async () => {
    const world = new World();
    const replica = new Replica(world);
    await settle(world);
    world.kill('a-eu-0');
    const writing = async (): Promise<void> => {
      for (let n = 0; n < 50; n += 1) {
        world.touch();
        await world.time.sleep(150);
      }
    };
    void writing();
    await recovers(world, 10_000);
    assert.equal(world.decided.length, 1);
    assert.ok(replica.calls.filter((call) => call === 'write').length >= 1);
  });

  it('may be away: nobody is fenced without it, and it goes on when it is back', async () => {
    const world = new World();
    const replica = new Replica(world);
    await settle(world);
    world.apiIsAway = true;
    world.kill('a-eu-0');
    await world.time.run(20_000);
    assert.ok(!replica.calls.some((call) => call.startsWith('fence')));
    world.apiIsAway = false;
    await recovers(world, 10_000);
  });

  it('may go away after the fence: the shard waits, and is decided when it is back', async () => {
    const world = new World();
    const replica = new Replica(world);
    await settle(world);
    world.kill('a-eu-0');
    assert.ok(await world.time.run(8_000, () => replica.calls.some((call) => call.startsWith('fence'))));
    world.apiIsAway = true;
    await world.time.run(20_000);
    assert.equal(world.record.authority.epoch, 1);
    world.apiIsAway = false;
    await recovers(world, 20_000);
    assert.equal(world.record.authority.epoch, 2);
  });

  it('may show its watchers an old Shard for ever: nothing is fenced twice for that', async () => {
    const world = new World();
    const replica = new Replica(world);
    await settle(world);
    replica.staleShard = world.shard;
    world.kill('a-eu-0');
    await recovers(world, 10_000);
    const { epoch } = world.record.authority;
    await world.time.run(20_000);
    assert.equal(world.record.authority.epoch, epoch);
    assert.ok(world.isWell);
  });
});

describe('a shard whose commits nobody acknowledges', () => {
  const alone = { durability: { acknowledgements: 0, scope: 'AnyMember', onLoss: 'Block' } } as const;

  it('is failed over once its Lease has been seen unchanged for its whole time', async () => {
    const world = new World(3, alone);
    const replica = new Replica(world);
    await settle(world);
    const beganMs = world.time.nowMs;
    world.kill('a-eu-0');
    await recovers(world, 25_000);
    const tookMs = world.time.nowMs - beganMs;
    assert.ok(tookMs > 13_000 && tookMs < 20_000, `${tookMs} ms`);
    assert.ok(replica.reasons.includes('LeaseHanded'), replica.reasons.join(', '));
    assert.equal(world.shard.status?.lastFailover?.acknowledgements, 0);
    assert.equal(world.shard.status?.lastFailover?.exact, false);
    assert.match(world.shard.status?.lastFailover?.lostFrom ?? '', /^0\//);
  });

  it('is not failed over from a primary that its operators cannot reach, but that renews its Lease', async () => {
    const world = new World(3, alone);
    Replica.start(world);
    await settle(world);
    world.member('a-eu-0').hidden = true;
    for (const name of ['a-us-0', 'a-ap-0']) world.member(name).source = undefined;
    await world.time.run(40_000);
    assert.equal(world.record.authority.epoch, 1);
  });

  it('goes on while all others grant though the API server is away from its primary, and never beside another', async () => {
    const world = new World(3, alone);
    Replica.start(world);
    await settle(world);
    Object.assign(world.member('a-eu-0'), { cut: true, hidden: true });
    await world.time.run(40_000);
    assert.equal(world.record.authority.epoch, 1);
    assert.ok(world.primary.open, 'its followers hear it');
    // Two of three lose it: the Lease is long over, one grant is to be waited out.
    world.member('a-us-0').source = undefined;
    world.member('a-ap-0').source = undefined;
    assert.ok(await world.time.run(20_000, () => world.openings.some(({ epoch }) => epoch === 2)));
    Object.assign(world.member('a-eu-0'), { cut: false, hidden: false });
    await recovers(world, 5_000);
    assert.notEqual(world.primary.name, 'a-eu-0');
  });

  it('is handed over as planned, Lease and all', async () => {
    const world = new World(3, alone);
    const replica = new Replica(world);
    await settle(world);
    const beganMs = world.time.nowMs;
    replica.service.handOver(world.shard, { target: identityOf(world.member('a-us-0')), why: 'asked for' });
    await recovers(world, 10_000);
    assert.equal(world.primary.name, 'a-us-0');
    assert.ok(world.time.nowMs - beganMs < 3_000, `${world.time.nowMs - beganMs} ms`);
  });

  it('ends well whatever becomes of the replica that fails it over, at any of its calls', async () => {
    for (const kind of ['DiesAfter', 'StandsStill'] as const)
      for (const atCall of [1, 2, 5, 12, 18, 20, 22, 24, 26]) {
        const world = new World(3, alone);
        pair(world, { atCall, kind });
        await settle(world);
        world.kill('a-eu-0');
        await recovers(world, 60_000, `${kind} at ${atCall}`);
      }
  });
});

describe('a leader that cannot reach what it must fence', () => {
  it('gives the leadership up where another can', async () => {
    const world = new World();
    const replica = new Replica(world, { othersReaching: () => ['other'] });
    await settle(world);
    for (const member of world.members.values()) member.hidden = true;
    await world.time.run(2_000);
    assert.equal(replica.resigned, 0);
    await world.time.run(4_000);
    assert.ok(replica.resigned > 0);
  });

  it('keeps it where nobody else can either', async () => {
    const world = new World();
    const replica = new Replica(world);
    await settle(world);
    for (const member of world.members.values()) member.hidden = true;
    await world.time.run(20_000);
    assert.equal(replica.resigned, 0);
  });
});

/** Mulberry32: small, and the same everywhere. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
