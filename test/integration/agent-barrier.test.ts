/** Steps that fail halfway (a walsender that doesn't end, a disk that takes nothing): what is believed is what is so. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { memberPaths } from '#core/names.ts';
import { KeyspaceFixture, type MemberFixture, type ShardFixture } from './member-fixture.ts';

describe('a step that fails halfway', { timeout: 300_000 }, () => {
  let keyspace: KeyspaceFixture;
  let shard: ShardFixture;
  let primary: MemberFixture;
  let follower: MemberFixture;
  let other: MemberFixture;

  before(async () => {
    keyspace = await KeyspaceFixture.start('halfway');
    shard = await keyspace.shard({
      members: [
        { name: 'main-eu-0', region: 'eu' },
        { name: 'main-us-0', region: 'us' },
        { name: 'main-ap-0', region: 'ap' },
      ],
      acknowledgements: 1,
    });
    primary = shard.primary;
    follower = shard.member('main-us-0');
    other = shard.member('main-ap-0');
    await shard.bringUp();
  });
  after(async () => {
    await keyspace?.stop();
  });

  it('leaves no list believed to be in force: going back to the former one passes the barrier, too', async () => {
    const client = await primary.connect();
    const { rows } = await client.query<{ pid: number }>(
      "select pid from pg_stat_replication where application_name like 'main-us-0/%'",
    );
    const walsender = String(rows[0]?.pid);
    const both = [await follower.identity(), await other.identity()];
    await primary.exec('sh', '-c', `kill -STOP ${walsender}`);
    try {
      await shard.order(primary, { role: 'Primary', synchronous: { acknowledgements: 1, members: both.slice(1) } });
      await primary.until('held up', (status) => status.problem.includes('does not end'));
      await shard.order(primary, { role: 'Primary', synchronous: { acknowledgements: 1, members: both } });
      // The walsender that hangs has one list, the files another: nothing that is ordered is in effect.
      for (let look = 0; look < 20; look += 1) {
        assert.equal((await primary.status()).orders?.applied, false);
        await sleep(100);
      }
    } finally {
      await primary.exec('sh', '-c', `kill -CONT ${walsender}`);
    }
    await primary.until('applied', (status) => status.orders?.applied === true);
    const shown = await client.query<{ synchronous_standby_names: string }>('show synchronous_standby_names');
    assert.match(shown.rows[0]?.synchronous_standby_names ?? '', /main-us-0.*main-ap-0/);
    await client.end();
  });

  it('counts a list that begins only once the checkpointer has told everybody: until then commits do not wait (A9)', async () => {
    const none = { acknowledgements: 0, members: [] };
    await shard.order(primary, { role: 'Primary', synchronous: none });
    await primary.until('without acknowledgements', (status) => status.orders?.applied === true);
    const client = await primary.connect();
    await client.query('create table if not exists begun (id int primary key)');
    const receivers = await Promise.all(
      [follower, other].map((member) => member.local('select pid from pg_stat_wal_receiver')),
    );
    const checkpointer = await primary.local("select pid from pg_stat_activity where backend_type = 'checkpointer'");
    const both = [await follower.identity(), await other.identity()];
    await primary.exec('kill', '-STOP', checkpointer);
    try {
      await shard.order(primary, { role: 'Primary', synchronous: { acknowledgements: 1, members: both } });
      await waitFor(async () => (await shown(client)) !== '');
      // Every session has the list by now, and waits for nobody: this is why the list isn't believed to be in force.
      await Promise.all([follower, other].map((member, at) => member.exec('kill', '-STOP', String(receivers[at]))));
      await client.query('insert into begun values (1)');
      for (let look = 0; look < 10; look += 1) {
        assert.equal((await primary.status()).orders?.applied, false);
        await sleep(100);
      }
    } finally {
      await primary.exec('kill', '-CONT', checkpointer);
    }
    // Those who stood still are let go again only once the next commit is seen to wait for them.
    const waiting = waitFor(async () => {
      const sql =
        "select count(*) from pg_stat_activity where wait_event = 'SyncRep' and query like 'insert into begun%'";
      return (await primary.local(sql)) === '1';
    });
    await sleep(1_000);
    const insert = client.query('insert into begun values (2)');
    await waiting;
    await Promise.all([follower, other].map((member, at) => member.exec('kill', '-CONT', String(receivers[at]))));
    await insert;
    await primary.until('applied', (status) => status.orders?.applied === true);
    await client.end();
  });

  it('leaves no orders that the promise outdates: a fence holds though its orders could not be written', async () => {
    await follower.until('streaming', (status) => status.upstream?.streaming === true);
    // In the place of the file that the orders are written to first.
    const obstacle = `${memberPaths.orders}.new`;
    await follower.exec('mkdir', obstacle);
    const fence = await shard.orders(follower, { role: 'Hold', epoch: 2 });
    assert.equal((await follower.put(fence)).status, 500);
    await primary.until('no stream', ({ standbys }) => !standbys.some(({ name }) => name === 'main-us-0'));
    const fenced = await follower.until('fenced', (status) => status.phase === 'Fenced');
    assert.deepEqual([fenced.promise?.epoch, fenced.orders], [2, undefined]);
    // Those of the first epoch are still in the file.
    await follower.kill();
    await follower.startAgain();
    const again = await follower.until('fenced again', (status) => status.phase === 'Fenced');
    assert.deepEqual([again.promise?.epoch, again.orders, again.upstream], [2, undefined, undefined]);
    await primary.until('no stream', ({ standbys }) => !standbys.some(({ name }) => name === 'main-us-0'));
    await follower.exec('rmdir', obstacle);
    await shard.order(follower, { role: 'Hold', epoch: 2 });
    await follower.until('holding', (status) => status.phase === 'Holding');
  });
});

const shown = async (client: pg.Client): Promise<string> => {
  const { rows } = await client.query<{ list: string }>("select current_setting('synchronous_standby_names') as list");
  return rows[0]?.list ?? '';
};

async function waitFor(isSo: () => Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + 20_000;
  while (!(await isSo())) {
    if (performance.now() > giveUpAt) throw new Error('it does not come');
    await sleep(50);
  }
}
