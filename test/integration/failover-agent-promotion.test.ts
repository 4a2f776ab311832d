/**
 * The inside of a promotion, with a real Postgres: what is in force before it, and a lease that is lost in the middle of it
 * (docs/design-traps.md, A27 and ambiguity 7). What replays the log is stopped for as long as the promotion has to last.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '#cluster/process.ts';
import { parseLsn } from '#core/lsn.ts';
import { type ThreeRegions, threeRegions } from './three-regions.ts';

describe('a promotion', { timeout: 300_000 }, () => {
  let all: ThreeRegions;

  before(async () => {
    all = await threeRegions('promoted');
    await all.shard.bringUp();
  });
  after(() => all?.keyspace.stop());

  it('that loses its lease in the middle ends with nothing left, and is begun again when there is one', async () => {
    const { shard, eu, us, ap } = all;
    const client = await eu.connect();
    await client.query('create table notes (id int primary key)');
    await client.query('insert into notes values (1)');
    await client.end();
    await us.until('caught up', ({ upstream }) => upstream?.caughtUp === true);
    await eu.kill();
    const [left] = await Promise.all([us.fence(2), ap.fence(2)]);
    const replaying = await us.local("select pid from pg_stat_activity where backend_type = 'startup'");
    await us.exec('kill', '-STOP', replaying);
    await shard.decide(us, 2, left.position?.lsn ?? '');
    await shard.takeOver([ap]);
    // Everything is asked and prepared; Postgres has been told, and what replays doesn't hear it.
    const promoting =
      "select count(*) from pg_stat_activity where query like '%pg_promote%' and pid <> pg_backend_pid()";
    const giveUpAt = performance.now() + 20_000;
    while ((await us.local(promoting)) !== '1') {
      assert.ok(performance.now() < giveUpAt, `it is not promoted: ${await us.log()}`);
      await sleep(50);
    }
    const { primary } = await us.authority();
    assert.ok((primary?.leaseRemainingMs ?? 0) > 0, 'begun under a lease');
    // The list of the new primary is in force before it can take a write.
    const list = await us.local('show synchronous_standby_names');
    assert.match(list, /ANY 1.*main-ap-0/);
    assert.equal(await us.local('select pg_is_in_recovery()'), 't');

    await ap.kill();
    // What stands still doesn't end by itself: process 1 ends all of it, in time.
    assert.equal((await run(['docker', 'wait', us.container.getId()])).trim(), '75');
    const log = await us.log(400);
    assert.match(log, /lease lost: Postgres is stopped/);
    assert.match(log, /SIGKILL to everything \d+ ms before it runs out, all gone \d+ ms before it runs out/);
    assert.doesNotMatch(log, /selected new timeline ID/, 'it was never promoted');

    await us.startAgain();
    await ap.startAgain();
    // Their addresses may be others now.
    await shard.follow(ap);
    await us.until('open', ({ phase, postgres }) => phase === 'Primary' && postgres?.open === true);
    const again = await us.connect();
    const { rows } = await again.query<{ rows: number; timeline: number }>(
      'select (select count(*)::int from notes) as rows, timeline::int from meridian.authority',
    );
    assert.deepEqual(rows, [{ rows: 1, timeline: 2 }]);
    await again.end();
    assert.match(await us.log(400), /selected new timeline ID: 2/);
  });

  it('has its list in force before it is begun', async () => {
    const { shard, us, ap } = all;
    // In the order of Postgres' own words: what it has read, and then what it was told.
    const client = await us.connect();
    await client.query('insert into notes values (2)');
    const { rows } = await client.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn');
    await client.end();
    await ap.until(
      'has it',
      ({ postgres }) => parseLsn(postgres?.lsn.flushed ?? '0/0') >= parseLsn(rows[0]?.lsn ?? ''),
    );
    const left = await us.fence(3, true);
    await ap.fence(3);
    assert.ok(left.stopped);
    await shard.decide(ap, 3, left.position?.lsn ?? '');
    await shard.takeOver([us]);
    await ap.until('open', ({ phase, postgres }) => phase === 'Primary' && postgres?.open === true);
    const log = await ap.log(2_000);
    const [listed, told] = [
      log.lastIndexOf('parameter "synchronous_standby_names" changed to'),
      log.lastIndexOf('received promote request'),
    ];
    assert.ok(listed >= 0 && told > listed, `list at ${listed}, promotion at ${told}`);
    assert.match(log.slice(listed, listed + 200), /main-us-0/);
  });
});
