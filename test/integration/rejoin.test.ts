/**
 * Members of a shard that come back after a failover: real agents, real tunnels. Nothing acknowledges here (k = 0), so that
 * whatever the chosen one hasn't got is lost, and has to be counted and taken back.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { parseLsn } from '#core/lsn.ts';
import { memberPaths, ports } from '#core/names.ts';
import type { AgentStatus } from '#core/protocol/status.ts';
import type { KeyspaceFixture, MemberFixture, ShardFixture } from './member-fixture.ts';
import { threeRegions } from './three-regions.ts';

describe('a shard after a failover', { timeout: 300_000 }, () => {
  let keyspace: KeyspaceFixture;
  let shard: ShardFixture;
  let eu: MemberFixture;
  let us: MemberFixture;
  let ap: MemberFixture;

  before(async () => {
    ({ keyspace, shard, eu, us, ap } = await threeRegions('back', {
      acknowledgements: 0,
      // Its transactions have ids and commits, too.
      parameters: { autovacuum: 'off' },
    }));
    await shard.bringUp();
    await run(eu, 'create table t (id int primary key, word text)');
    await run(eu, "insert into t select i, repeat('x', 100) from generate_series(1, 20000) i");
    await caughtUp(us, eu);
  });
  after(() => keyspace?.stop());

  const run = async (member: MemberFixture, ...statements: string[]): Promise<unknown[]> => {
    const client = await member.connect();
    try {
      let rows: unknown[] = [];
      for (const statement of statements) rows = (await client.query(statement)).rows;
      return rows;
    } finally {
      await client.end();
    }
  };
  const caughtUp = async (member: MemberFixture, primary: MemberFixture): Promise<void> => {
    // Of this moment: what a status shows may be a quarter of a second old, and without the last commits.
    const lsn = parseLsn(await primary.local('select pg_current_wal_flush_lsn()'));
    await member.until(
      'caught up',
      ({ postgres, upstream }) => upstream?.streaming === true && parseLsn(postgres?.lsn.replayed ?? '0/0') >= lsn,
    );
  };
  const rowsOf = (member: MemberFixture): Promise<unknown[]> =>
    run(member, 'select count(*)::int as rows, sum(hashtext(t::text)) as hash from t');
  const becomePrimary = async (member: MemberFixture, epoch: number, fork: string): Promise<void> => {
    await shard.decide(member, epoch, fork);
    await shard.takeOver([]);
    await member.until('open', ({ phase, postgres }) => phase === 'Primary' && postgres?.open === true);
  };
  const isBack = ({ phase, upstream, postgres }: AgentStatus): boolean =>
    phase === 'Following' && upstream?.streaming === true && postgres?.timeline === shard.timeline;
  const sameAsPrimary = async (member: MemberFixture): Promise<void> => {
    await caughtUp(member, shard.primary);
    assert.deepEqual(await rowsOf(member), await rowsOf(shard.primary));
  };

  it('waits with a follower that went past the fork until it may be rewound, then counts, keeps and takes back', async () => {
    const { position } = await us.fence(2);
    await run(eu, "update t set word = 'lost' where id % 2 = 0", "insert into t values (-1, 'lost')");
    await caughtUp(ap, eu);
    await eu.kill();
    await becomePrimary(us, 2, position?.lsn ?? '');
    await run(us, "update t set word = 'new' where id % 3 = 0");
    await shard.follow(ap, { takeover: true });
    const { diverged } = await ap.until('diverged', (status) => status.diverged !== undefined);
    assert.deepEqual({ fork: diverged?.forkLsn, waiting: diverged?.waiting }, { fork: position?.lsn, waiting: true });
    await shard.follow(ap, { mayRewind: true });
    const { rejoined } = await ap.until('back', isBack);
    assert.deepEqual([rejoined?.how, rejoined?.epoch, rejoined?.transactions], ['Rewind', 2, 2]);
    await sameAsPrimary(ap);
    const kept = await ap.exec('sh', '-c', `cat ${memberPaths.kept}/*/kept.json`);
    assert.match(kept.output, /"transactions":2.*"complete":true/);
    assert.ok(kept.output !== '' && rejoined?.keptIn?.startsWith(`${memberPaths.kept}/timeline-1-from-`));
  });

  it('takes the former primary back, also when it dies in the middle of its rewind', async () => {
    await eu.startAgain();
    await shard.follow(eu, { mayRewind: true });
    await eu.until('rewinding', ({ phase, diverged }) => phase === 'Rewinding' || diverged?.keptIn !== undefined);
    await eu.kill();
    await eu.startAgain();
    const { rejoined } = await eu.until('back', isBack);
    // Where it had ended already it is back by that; a rewind that was ended is begun again.
    if (rejoined !== undefined) assert.deepEqual([rejoined.how, rejoined.transactions], ['Rewind', 2]);
    await sameAsPrimary(eu);
  });

  it('lets a fenced member take what it lacks from another one at the same promise', async () => {
    const behind = (await ap.fence(3)).position;
    await run(us, "insert into t values (-3, 'late')");
    await caughtUp(eu, us);
    const ahead = (await eu.fence(3)).position;
    assert.ok(behind !== null && ahead !== null && parseLsn(ahead.lsn) > parseLsn(behind.lsn));
    const source = { ...(await eu.identity()), address: await eu.address(), tunnelPort: ports.tunnel };
    await shard.order(ap, { role: 'Follower', takeover: true, ship: true, epoch: 3, source });
    const giveUpAt = Date.now() + 20_000;
    for (;;) {
      const { position } = await ap.fence(3);
      if (position !== null && parseLsn(position.lsn) >= parseLsn(ahead.lsn)) break;
      assert.ok(Date.now() < giveUpAt, `nothing came: ${JSON.stringify(position)} ${await ap.log()}`);
    }
    // Its log goes on past the fork, for the test after this one.
    await run(us, "insert into t values (-4, 'gone')");
    await us.kill();
    await becomePrimary(ap, 3, ahead.lsn);
    assert.deepEqual(await run(ap, 'select word from t where id = -3'), [{ word: 'late' }]);
    await shard.follow(eu, { takeover: true });
    await eu.until('back', isBack);
    await sameAsPrimary(eu);
  });

  it('copies a member anew whose rewind is impossible', async () => {
    await us.startAgain();
    const before = (await us.identity()).incarnation;
    // A rewind has to read where its timeline came from.
    await us.exec('rm', `${memberPaths.pgdata}/pg_wal/00000002.history`);
    await shard.recordMembership([await ap.identity(), await eu.identity()]);
    await shard.follow(us, { mayRewind: true });
    await us.until('another member', ({ member }) => member.incarnation !== before);
    us.forgetIdentity();
    // The primary's orders name the new one, as those who may come.
    await shard.order(ap, { role: 'Primary' });
    await shard.follow(us);
    await us.until('back', isBack);
    await sameAsPrimary(us);
  });
});
