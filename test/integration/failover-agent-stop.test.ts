/**
 * A primary that is stopped in order and stays in authority, with a commit that still waits for its followers: a session
 * that ends makes its commit visible, and nobody may see it before a follower has it (docs/design-traps.md, ambiguity 23).
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { MemberFixture } from './member-fixture.ts';
import { type ThreeRegions, threeRegions } from './three-regions.ts';

const READERS = 12;

describe('a primary that is stopped while a commit waits', { timeout: 300_000 }, () => {
  let all: ThreeRegions;
  let sql: pg.Client;

  before(async () => {
    all = await threeRegions('halting');
    await all.shard.bringUp();
    sql = await all.eu.connect();
    await sql.query('create table notes (id int primary key)');
  });
  after(async () => {
    await sql?.end().catch(() => undefined);
    await all?.keyspace.stop();
  });

  const openAsPrimary = (member: MemberFixture): Promise<unknown> =>
    member.until('open', ({ phase, postgres }) => phase === 'Primary' && postgres?.open === true);
  /** What followers receive stands still; their agents go on granting. */
  const holdFollowers = async (): Promise<() => Promise<void>> => {
    const followers = [all.us, all.ap];
    const receivers = await Promise.all(
      followers.map((member) => member.local('select pid from pg_stat_wal_receiver')),
    );
    const signal = async (name: string): Promise<void> => {
      await Promise.all(followers.map((member, at) => member.exec('sh', '-c', `kill -${name} ${receivers[at]}`)));
    };
    await signal('STOP');
    return () => signal('CONT');
  };
  const insert = (id: number): Promise<string> =>
    sql.query('insert into notes values ($1)', [id]).then(
      () => 'acknowledged',
      () => 'cut',
    );
  const restart = async (nonce: string): Promise<void> => {
    const { shard } = all;
    const synchronous = {
      acknowledgements: 1,
      members: await Promise.all(shard.followers.map((one) => one.identity())),
    };
    const lease = await shard.lease(shard.followers);
    await shard.order(shard.primary, { role: 'Primary', synchronous, lease, restartNonce: nonce });
  };
  /** Asks without a pause until it is cut. Says whether it ever saw the row, and how often it looked. */
  const reader = async (id: number): Promise<() => Promise<{ readonly saw: boolean; readonly looks: number }>> => {
    const client = await all.eu.connect();
    let [saw, looks] = [false, 0];
    const done = (async () => {
      for (;;) {
        const { rowCount } = await client.query('select from notes where id = $1', [id]);
        looks += 1;
        if ((rowCount ?? 0) > 0) saw = true;
      }
    })().catch(() => undefined);
    return async () => {
      await done;
      return { saw, looks };
    };
  };

  it('tells it its outcome where a follower has it in time', async () => {
    const release = await holdFollowers();
    const waiting = insert(1);
    await sleep(200);
    await restart('one');
    await all.eu.until('shut', ({ postgres }) => postgres?.open !== true, 5_000);
    await release();
    assert.equal(await waiting, 'acknowledged');
    await all.eu.until('started again', ({ postgres }) => postgres?.restartNonce === 'one');
    await openAsPrimary(all.eu);
    sql = await all.eu.connect();
    assert.equal((await sql.query('select from notes')).rowCount, 1);
    // In order, not as a crash.
    assert.match(await all.eu.log(200), /database system was shut down at/);
  });

  it('shows it to nobody where none has it, and only once one has to those who come afterwards', async () => {
    const readers = await Promise.all(Array.from({ length: READERS }, () => reader(2)));
    const release = await holdFollowers();
    const waiting = insert(2);
    await sleep(200);
    assert.equal(
      await all.eu.local(
        "select count(*) from pg_stat_activity where query like 'insert into notes%' and wait_event = 'SyncRep'",
      ),
      '1',
    );
    await restart('two');
    const seen = await Promise.all(readers.map((end) => end()));
    assert.equal(await waiting, 'cut');
    assert.deepEqual(
      seen.filter(({ saw }) => saw),
      [],
    );
    assert.ok(seen.every(({ looks }) => looks > 0));
    await all.eu.until(
      'behind its gate',
      ({ phase, postgres }) => phase === 'Opening' && postgres?.restartNonce === 'two',
    );
    // It is in the log, and Postgres itself shows it; nobody comes in.
    assert.equal(await all.eu.local('select count(*) from notes where id = 2'), '1');
    await assert.rejects(all.eu.connect());
    await release();
    await openAsPrimary(all.eu);
    sql = await all.eu.connect();
    assert.equal((await sql.query('select from notes where id = 2')).rowCount, 1);
  });

  it('shows it to nobody either where it is shut down in order all the same, for a handover', async () => {
    const { shard, eu, us, ap } = all;
    const readers = await Promise.all(Array.from({ length: READERS }, () => reader(3)));
    const release = await holdFollowers();
    const waiting = insert(3);
    await sleep(200);
    const left = await eu.fence(2, true);
    const seen = await Promise.all(readers.map((end) => end()));
    assert.equal(await waiting, 'cut');
    assert.deepEqual(
      seen.filter(({ saw }) => saw),
      [],
    );
    assert.equal(left.stopped, true);
    await release();
    await Promise.all([us.fence(2), ap.fence(2)]);
    await shard.decide(eu, 2, left.position?.lsn ?? '');
    await shard.takeOver();
    await openAsPrimary(eu);
    sql = await eu.connect();
    assert.equal((await sql.query('select from notes where id = 3')).rowCount, 1);
  });
});
