/** Primaries that can't go on though somebody still hears them: what the service makes of it, and how often it says so. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Replica } from './replica.ts';
import { World } from './world.ts';

const settle = async (world: World): Promise<void> => {
  assert.ok(await world.time.run(5_000, () => world.isWell), 'the shard comes up');
  await world.time.run(3_000);
};

for (const [members, acknowledgements] of [
  [3, 1],
  [4, 1],
  [4, 2],
  [5, 2],
] as const)
  test(`a primary whose followers cannot hear it is replaced by one of them: ${members} members, k = ${acknowledgements}`, async () => {
    const world = new World(members, { durability: { acknowledgements, scope: 'AnyMember', onLoss: 'Block' } });
    const replica = new Replica(world);
    await settle(world);
    const beganMs = world.time.nowMs;
    world.member('a-eu-0').unheard = true;
    assert.ok(await world.time.run(30_000, () => world.isWell && world.record.authority.epoch > 1));
    assert.notEqual(world.primary.name, 'a-eu-0');
    assert.equal(world.record.authority.epoch, 2, 'at the first go');
    assert.ok(world.time.nowMs - beganMs < 6_000, `${world.time.nowMs - beganMs} ms`);
    assert.deepEqual(
      replica.reasons.filter((reason) => reason === 'TakeoverWaits'),
      [],
    );
  });

test('a successor that is lost before it opens is followed by another, whatever becomes of the replica that chose it', async () => {
  const five = { durability: { acknowledgements: 2, scope: 'AnyMember', onLoss: 'Block' } } as const;
  for (let atCall = 1; atCall <= 20; atCall += 1) {
    const world = new World(5, five);
    const replica = new Replica(world, { fault: { atCall, kind: 'DiesAfter' } });
    Replica.start(world, { rank: () => 1 });
    await settle(world);
    world.kill('a-eu-0');
    assert.ok(await world.time.run(25_000, () => world.decided.length === 1), `${atCall}: nobody was chosen`);
    const chosen = world.primary.name;
    assert.ok(!world.primary.open, `${atCall}: it opened already`);
    world.kill(chosen);
    const what = `dies at ${atCall} (${replica.calls[atCall - 1]})`;
    assert.ok(await world.time.run(25_000, () => world.openings.some(({ epoch }) => epoch >= 3)), what);
    assert.ok(!['a-eu-0', chosen].includes(world.primary.name), what);
  }
});

test('why a failover waits is told once in half a minute, however often one reason takes turns with another', async () => {
  const five = { durability: { acknowledgements: 1, scope: 'AnyMember', onLoss: 'Block' } } as const;
  const world = new World(5, five);
  const replica = new Replica(world);
  await settle(world);
  for (const name of ['a-eu-0', 'a-us-0']) world.kill(name);
  const flap = async (): Promise<void> => {
    for (;;) {
      await world.time.sleep(2_000);
      const ap = world.member('a-ap-0');
      ap.hidden = !ap.hidden;
    }
  };
  void flap();
  const told = (): number => replica.events.filter(({ reason }) => reason === 'TakeoverWaits').length;
  await world.time.run(25_000);
  const reasons = new Set(replica.events.map(({ message }) => message));
  assert.equal(told(), reasons.size, [...reasons].join('; '));
  assert.ok(reasons.size >= 2 && reasons.size <= 3, [...reasons].join('; '));
  await world.time.run(25_000);
  assert.equal(told(), 2 * reasons.size);
});
