/** A region that is lost with the primaries of many shards: who is failed over, in which order, and how many at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Replica } from './replica.ts';
import { VirtualTime } from './virtual-time.ts';
import { identityOf, World } from './world.ts';

const lost = 20;
const elsewhere = 4;
const atOnce = 8;

test('a lost region fails over just the shards that it led, all fenced at once, eight promoted at a time, the most important first', async () => {
  const time = new VirtualTime();
  const priorityOf = (index: number): number => (index * 7) % lost;
  const worlds = Array.from({ length: lost + elsewhere }, (_, index) => {
    const failover = { mode: 'Automatic', priority: priorityOf(index) } as const;
    return new World(3, { failover }, `s${index}`, time);
  });
  const replica = new Replica(worlds);
  const areWell = (of: readonly World[]): boolean => of.every(({ isWell }) => isWell);
  assert.ok(await time.run(5_000, () => areWell(worlds)));
  await time.run(3_000);
  const [led, others] = [worlds.slice(0, lost), worlds.slice(lost)];
  for (const { shard, members } of others) {
    const target = members.get(`${shard.metadata.name}-us-0`);
    assert.ok(target !== undefined);
    replica.service.handOver(shard, { target: identityOf(target), why: 'asked for' });
  }
  assert.ok(await time.run(10_000, () => areWell(others) && others.every(({ primary }) => primary.region === 'us')));
  await time.run(5_000);

  const callsBefore = replica.calls.length;
  for (const world of worlds) world.kill(`${world.shard.metadata.name}-eu-0`);
  const decided: World[] = [];
  let most = 0;
  let waitedAtMs: number | undefined;
  const watch = (): boolean => {
    for (const world of led) if (world.record.authority.epoch === 2 && !decided.includes(world)) decided.push(world);
    if (decided.length === atOnce) waitedAtMs ??= time.nowMs;
    most = Math.max(most, decided.filter(({ openings }) => !openings.some(({ epoch }) => epoch === 2)).length);
    return areWell(worlds);
  };
  assert.ok(await time.run(30_000, watch), 'all serve again');
  await time.run(10_000, () => {
    watch();
    return false;
  });

  assert.equal(decided.length, lost);
  for (const world of led) assert.equal(world.record.authority.epoch, 2);
  for (const { record, primary } of others) assert.deepEqual([record.authority.epoch, primary.region], [2, 'us']);
  assert.equal(most, atOnce);
  const fences = replica.calls
    .map((call, at) => ({ call, atMs: replica.calledAtMs[at] ?? 0 }))
    .slice(callsBefore)
    .filter(({ call }) => call.startsWith('fence'));
  const fenced = new Set(fences.map(({ call }) => call.split(/[ -]/)[1]));
  assert.deepEqual(fenced, new Set(led.map(({ shard }) => shard.metadata.name)));
  const [first, last] = [fences[0]?.atMs ?? 0, fences.at(-1)?.atMs ?? 0];
  assert.ok(last - first < 1_000, `fences took ${last - first} ms: no fence waits for a promotion`);
  assert.ok(last < (waitedAtMs ?? 0));
  // The first eight found room; whoever had to wait came in the order of importance.
  const waited = decided.slice(atOnce).map(({ shard }) => shard.spec.failover.priority);
  assert.deepEqual(
    waited,
    waited.toSorted((a, b) => b - a),
  );
});
