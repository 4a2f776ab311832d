/**
 * Leases between whole members: what a fenced follower says of its grants, also after its restart, is what its primary still
 * has of them at most.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { bootTimeMs } from '#clock/boot-time.ts';
import { leaseMs } from '#core/authority/timing.ts';
import { KeyspaceFixture, type MemberFixture, type ShardFixture } from './member-fixture.ts';

describe('members and their leases', { timeout: 300_000 }, () => {
  let keyspace: KeyspaceFixture;
  let shard: ShardFixture;
  let primary: MemberFixture;
  let follower: MemberFixture;

  before(async () => {
    keyspace = await KeyspaceFixture.start();
    shard = await keyspace.shard({
      members: [
        { name: 'lease-eu-0', region: 'eu' },
        { name: 'lease-us-0', region: 'us' },
      ],
      acknowledgements: 1,
    });
    await shard.bringUp();
    ({ primary } = shard);
    const [only] = shard.followers;
    assert.ok(only !== undefined);
    follower = only;
  });
  after(() => keyspace.stop());

  /** What is left of the primary's lease, and the follower's word for the grant behind it, in this order. */
  const leftMs = async (): Promise<{ leaseMs: number; grantMs: number }> => {
    const { primary: said } = await primary.authority();
    const { follower: granting } = await follower.authority();
    return { leaseMs: said?.leaseRemainingMs ?? 0, grantMs: granting?.grantRemainingMs ?? 0 };
  };
  const untilOpen = (): Promise<unknown> =>
    primary.until('open', ({ phase, postgres }) => phase === 'Primary' && postgres?.open === true);

  it('a follower that has just started again answers for the grants of its life before (A7)', async () => {
    await untilOpen();
    assert.ok((await leftMs()).leaseMs > 0);
    await follower.kill();
    const diedMs = bootTimeMs();
    await follower.startAgain();
    const { follower: granting, agentAgeMs } = await answerOf(follower);
    const answeredMs = bootTimeMs();
    assert.ok(
      (granting?.grantRemainingMs ?? 0) >= Math.min(leaseMs - agentAgeMs - 20, leaseMs - (answeredMs - diedMs)),
      `${granting?.grantRemainingMs} ms left, ${agentAgeMs} ms old`,
    );
    await untilOpen();
  });

  it('a fenced follower grants no more, says for how long its grants run, and the primary is gone by then', async (t) => {
    await untilOpen();
    const client = await primary.connect();
    await client.query('select 1');
    const ended = new Promise<number>((resolve) => client.once('end', () => resolve(bootTimeMs())));
    const askedMs = bootTimeMs();
    const { leaseRemainingMs } = await follower.fence(2);
    const untilMs = askedMs + leaseRemainingMs;
    assert.ok(leaseRemainingMs > 0 && leaseRemainingMs <= leaseMs + 20, `${leaseRemainingMs}`);
    const endedMs = await ended;
    t.diagnostic(`fenced; the primary's sessions ended ${untilMs - endedMs} ms before the last grant did`);
    assert.ok(endedMs < untilMs + 2_000, 'the machine may be busy; the times are measured elsewhere');
    for (let turn = 0; turn < 10; turn++) {
      const { follower: granting } = await follower.authority();
      assert.ok(
        (granting?.grantRemainingMs ?? 0) <= Math.max(0, untilMs - bootTimeMs() + 500),
        'nothing more is granted',
      );
      await sleep(300);
    }
    const { primary: said } = await answerOf(primary);
    assert.equal(said?.leaseRemainingMs ?? 0, 0);
  });
});

async function answerOf(member: MemberFixture): ReturnType<MemberFixture['authority']> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await member.authority();
    } catch (error) {
      if (attempt > 600) throw error;
      await sleep(20);
    }
  }
}
