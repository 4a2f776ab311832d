/** What lies on a member's volume is one container's at a time, and nothing on it is believed that the promise outdates. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '#cluster/process.ts';
import { KeyspaceFixture, type MemberFixture, type ShardFixture } from './member-fixture.ts';

describe("a member's volume", { timeout: 300_000 }, () => {
  let keyspace: KeyspaceFixture;
  let shard: ShardFixture;
  let primary: MemberFixture;
  let follower: MemberFixture;

  before(async () => {
    keyspace = await KeyspaceFixture.start('volumes');
    shard = await keyspace.shard({
      members: [
        { name: 'main-eu-0', region: 'eu' },
        { name: 'main-us-0', region: 'us' },
      ],
    });
    primary = shard.primary;
    follower = shard.member('main-us-0');
    await shard.initialise();
    await shard.order(primary, { role: 'Primary' });
  });
  after(async () => {
    await keyspace?.stop();
  });

  const processes = async (member: MemberFixture): Promise<string> =>
    (await member.exec('sh', '-c', 'cat /proc/[0-9]*/comm')).output;

  it('is worked on by one container at a time: a second one waits, says so, and goes on when the first is gone', async () => {
    const identity = await primary.identity();
    const client = await primary.connect();
    await client.query('create table notes (note text)');
    await client.query("insert into notes values ('kept')");
    const first = await primary.startSecond();
    try {
      // The first hangs, as on a node that does; it holds the volume all the same.
      await run(['docker', 'pause', first.getId()]);
      await sleep(3_000);
      assert.match(await primary.log(), /waiting for the lock on \/var\/lib\/meridian\/lock/);
      assert.doesNotMatch(await processes(primary), /node|postgres/);
      const probe = `http://${await primary.address()}:8422`;
      assert.equal((await fetch(`${probe}/livez`)).status, 200);
      assert.equal((await fetch(`${probe}/readyz`)).status, 503);
      // It goes on, and nobody was there meanwhile.
      await run(['docker', 'unpause', first.getId()]);
      await client.query("insert into notes values ('thawed')");
      // Agent and init gone, Postgres with them: only now is the volume free.
      await run(['docker', 'kill', '--signal', 'KILL', first.getId()]);
      await primary.until('open', (status) => status.postgres?.open === true);
      assert.deepEqual((await primary.status()).member, identity);
      const again = await primary.connect();
      const { rows } = await again.query<{ note: string }>('select note from notes');
      assert.deepEqual(
        rows.map(({ note }) => note),
        ['kept', 'thawed'],
      );
      await again.end();
    } finally {
      await client.end().catch(() => undefined);
      await first.stop({ remove: true, removeVolumes: false, timeout: 1 });
    }
  });

  it('stays locked through every process of Postgres', async () => {
    const { output } = await primary.exec(
      'sh',
      '-c',
      'for p in /proc/[0-9]*; do [ "$(cat $p/comm)" = postgres ] && readlink $p/fd/3; done',
    );
    const held = output.trim().split('\n');
    assert.ok(held.length > 3, output);
    assert.deepEqual(new Set(held), new Set(['/var/lib/meridian/lock']));
  });

  it('has a primary that no limit of the Shard keeps from its work, and that leaves out what Postgres refuses', async () => {
    await shard.follow(follower);
    await follower.until('caught up', (status) => status.upstream?.caughtUp === true);
    const parameters = { statement_timeout: '1', work_mem: 'nonsense' };
    await shard.order(primary, { role: 'Primary', parameters });
    const { problem } = await primary.until('applied', (status) => status.orders?.applied === true);
    assert.match(problem, /parameter work_mem is left out: invalid value/);
    // From no acknowledgers to one takes a checkpoint: longer than a millisecond.
    const synchronous = { acknowledgements: 1, members: [await follower.identity()] };
    await shard.order(primary, { role: 'Primary', parameters, synchronous });
    await primary.until('applied', (status) => status.orders?.applied === true, 15_000);
    await shard.order(primary, { role: 'Primary' });
    await primary.until('applied', (status) => status.orders?.applied === true);
  });

  it('keeps data that nothing can be added to for as long as the record lists its member, whatever its orders say', async () => {
    await shard.follow(follower);
    await follower.until('caught up', (status) => status.upstream?.caughtUp === true);
    const identity = await follower.identity();
    await shard.recordMembership([await primary.identity(), identity]);
    await follower.kill();
    // The WAL that it needs goes with its slot, which its primary makes anew, and then holds what is there by then.
    const client = await primary.connect();
    const { rows } = await client.query<{ file: string }>('select pg_walfile_name(pg_current_wal_lsn()) as file');
    const needed = rows[0]?.file;
    let isThere = true;
    for (let round = 0; isThere && round < 60; round += 1) {
      await primary.until('its slot is free', ({ slots }) => slots.every(({ active }) => !active));
      await client.query(
        'select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and not active',
        [`member_${identity.incarnation}`],
      );
      await client.query("insert into notes values ('more')");
      await client.query('select pg_switch_wal()');
      await client.query('checkpoint');
      const left = await client.query('select from pg_ls_waldir() where name = $1', [needed]);
      isThere = left.rowCount !== 0;
    }
    assert.equal(isThere, false, `${needed} is still there`);
    await client.end();
    await follower.startAgain();
    // Its orders list no acknowledgers at all: by them alone it would go.
    const kept = await follower.until('kept', (status) => status.problem.includes('it is kept'));
    assert.deepEqual([kept.member, kept.hasData, kept.upstream?.needsCopy], [identity, true, true]);
    await shard.recordMembership([await primary.identity()]);
    const renewed = await follower.until('a new member', (status) => !status.hasData);
    assert.notEqual(renewed.member.incarnation, identity.incarnation);
    follower.forgetIdentity();
  });

  it('that loses its data under a running agent is a new member’s from then on', async () => {
    await shard.order(primary, { role: 'Primary' });
    await shard.follow(follower);
    await follower.until('caught up', (status) => status.upstream?.caughtUp === true);
    const { incarnation } = await follower.identity();
    await follower.exec('sh', '-c', 'rm -rf /var/lib/meridian/pgdata');
    const renewed = await follower.until('a new member', ({ member }) => member.incarnation !== incarnation);
    assert.equal(renewed.orders, undefined);
    await follower.until('waiting', (status) => status.phase === 'Waiting' && !status.hasData);
  });
});
