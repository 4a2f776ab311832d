/** Members that are killed, stopped and robbed of their data at bad moments: they go on, start over, or stay down. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { memberPaths } from '#core/names.ts';
import { KeyspaceFixture, type MemberFixture, type ShardFixture } from './member-fixture.ts';

describe('an interrupted member', { timeout: 300_000 }, () => {
  let keyspace: KeyspaceFixture;
  let shard: ShardFixture;
  let primary: MemberFixture;
  let follower: MemberFixture;

  before(async () => {
    keyspace = await KeyspaceFixture.start('interrupted');
    shard = await keyspace.shard({
      members: [
        { name: 'main-eu-0', region: 'eu' },
        { name: 'main-us-0', region: 'us' },
      ],
    });
    primary = shard.primary;
    follower = shard.member('main-us-0');
  });
  after(async () => {
    await keyspace?.stop();
  });

  const folders = async (member: MemberFixture): Promise<string[]> =>
    (await member.exec('ls', memberPaths.volume)).output.split('\n').filter((name) => name.startsWith('pgdata'));

  /** Makes a base copy last for seconds, however fast the machine: a file of zeros among the data, which costs no disk here. */
  const prolongCopies = async (member: MemberFixture): Promise<() => Promise<unknown>> => {
    const filler = `${memberPaths.pgdata}/base/filler`;
    await member.exec('truncate', '--size=1G', filler);
    return () => member.exec('rm', filler);
  };

  it('that is killed while it initialises has no data or all of it, and goes on by itself', async () => {
    const identity = await primary.identity();
    await shard.authorise(primary, 1, 'Initialising');
    await shard.order(primary, { role: 'Initialise' });
    // Each round is killed a little later: in initdb, in the SQL, at the rename, at the start, after the opening.
    for (const afterMs of [150, 700, 1_400]) {
      await sleep(afterMs);
      await primary.kill();
      await primary.startAgain();
      const { hasData, member } = await primary.status();
      assert.deepEqual(member, identity);
      const present = await folders(primary);
      assert.ok(!hasData || present.includes('pgdata'));
    }
    await primary.until('open', (status) => status.phase === 'Primary' && status.postgres?.open === true);
    assert.deepEqual(await folders(primary), ['pgdata']);
    const client = await primary.connect();
    const { rows } = await client.query<{ owner: string }>(
      'select pg_get_userbyid(datdba) as owner from pg_database where datname = current_database()',
    );
    assert.deepEqual(rows, [{ owner: 'meridian_owner' }]);
    const roles = await client.query("select from pg_roles where rolname like 'meridian\\_%'");
    assert.equal(roles.rowCount, 8);
    await client.end();
    await shard.order(primary, { role: 'Primary' });
  });

  it('that is killed in the middle of a copy starts over, and follows', async () => {
    const client = await primary.connect();
    await client.query(
      'create table big as select i, repeat(md5(i::text), 30) as filling from generate_series(1, 150000) i',
    );
    const shorten = await prolongCopies(primary);
    await shard.follow(follower);
    await follower.until('copying', (status) => (status.clone?.receivedBytes ?? 0) > 5_000_000);
    assert.ok((await folders(follower)).includes('pgdata.cloning'));
    await follower.kill();
    await shorten();
    await follower.startAgain();
    assert.equal((await follower.status()).hasData, false);
    await follower.until('caught up', (status) => status.upstream?.caughtUp === true);
    assert.deepEqual(await folders(follower), ['pgdata']);
    const reader = await follower.connect();
    const { rows } = await reader.query<{ count: string }>('select count(*) from big');
    assert.equal(rows[0]?.count, '150000');
    await reader.end();
    await client.end();
  });

  it('that loses its primary in the middle of a copy tries again when it is back', async () => {
    // A second follower, so that the first copy stays what it is.
    const other = await keyspace.shard({
      name: 'second',
      members: [
        { name: 'second-eu-0', region: 'eu' },
        { name: 'second-us-0', region: 'us' },
      ],
    });
    await other.initialise();
    const client = await other.primary.connect();
    await client.query(
      'create table big as select i, repeat(md5(i::text), 30) as filling from generate_series(1, 150000) i',
    );
    const late = other.member('second-us-0');
    const shorten = await prolongCopies(other.primary);
    await other.follow(late);
    await late.until('copying', (status) => (status.clone?.receivedBytes ?? 0) > 5_000_000);
    await other.primary.kill();
    const failing = await late.until('failing', (status) => status.problem !== '');
    assert.equal(failing.hasData, false);
    await other.primary.startAgain();
    await shorten();
    // In a cluster a pod that is started again has another address, and the operator says so.
    await other.follow(late);
    await late.until('caught up', (status) => status.upstream?.caughtUp === true);
    assert.deepEqual(await folders(late), ['pgdata']);
    await other.stop();
  });

  it('that is stopped ends cleanly in time and goes on with the orders it had', async () => {
    const before = await follower.status();
    const startedAt = Date.now();
    await follower.terminate();
    assert.ok(Date.now() - startedAt < 15_000);
    assert.match(await follower.log(200), /agent stops/);
    await follower.startAgain();
    const after = await follower.until('caught up', (status) => status.upstream?.caughtUp === true);
    assert.deepEqual(
      [after.member, after.promise, after.orders?.digest],
      [before.member, before.promise, before.orders?.digest],
    );
  });

  it('that was primary stays down until the record names it again', async () => {
    await shard.recordAuthority({ epoch: 2, member: 'main-us-0', incarnation: '0000000000000002', state: 'Active' });
    await primary.kill();
    await primary.startAgain();
    const waiting = await primary.until('waiting at the gate', (status) => status.problem.includes('main-us-0'));
    assert.equal(waiting.phase, 'Confirming');
    assert.equal((await primary.exec('sh', '-c', 'cat /proc/[0-9]*/comm')).output.includes('postgres'), false);
    await assert.rejects(primary.connect());
    await shard.recordAuthority(undefined);
    await primary.until('still waiting', (status) => status.problem.includes('no authority'));
    await shard.authorise(primary);
    await primary.until('open', (status) => status.postgres?.open === true);
    // Docker may have given it another address.
    await shard.follow(follower);
    await follower.until('following again', (status) => status.upstream?.streaming === true);
  });

  it('that is fenced off by a newer epoch is not streamed to, and takes nothing older any more', async () => {
    // What a fence will do: the follower promises a higher epoch, so its stream ends at once and stays ended.
    await shard.order(follower, { role: 'Hold', epoch: 2 });
    await follower.until('down', (status) => status.phase === 'Holding' && status.orders?.applied === true);
    await primary.until('no stream', (status) => status.standbys.length === 0);
    const { status, body } = await follower.put(await shard.orders(follower, { role: 'Hold', epoch: 1 }));
    assert.equal(status, 409);
    assert.equal((body as { code: string }).code, 'StaleEpoch');
    // At the newer epoch the primary of the older one is not followed.
    await shard.follow(follower, { epoch: 2 });
    await follower.until('refused', (seen) => seen.problem.includes('StaleEpoch'));
    assert.equal((await follower.status()).upstream?.streaming, false);
  });

  it('whose primary has no longer what it needs becomes a new member with a new copy', async () => {
    await shard.order(follower, { role: 'Hold', epoch: 2 });
    await shard.authorise(primary, 2);
    await shard.recordMembership([await primary.identity()]);
    await shard.order(primary, { role: 'Primary', epoch: 2 });
    await primary.until('open at the newer epoch', (status) => status.orders?.applied === true);
    await shard.follow(follower, { epoch: 2 });
    await follower.until('caught up', (status) => status.upstream?.caughtUp === true);
    // As when a replica is scaled away and back: its volume stays, its slot doesn't, and the primary goes on.
    await shard.order(follower, { role: 'Hold', epoch: 2 });
    await follower.until('down', (status) => status.orders?.applied === true);
    await shard.order(primary, { role: 'Primary', epoch: 2, slots: [] });
    await primary.until('no slot', (status) => status.orders?.applied === true && status.slots.length === 0);
    const client = await primary.connect();
    for (let round = 0; round < 3; round += 1) {
      await client.query("select pg_logical_emit_message(false, 'fill', repeat('x', 20000000)), pg_switch_wal()");
      await client.query('checkpoint');
      // The primary keeps its log from its last checkpoint on for rewinds, and moves that along once a second.
      await sleep(1_500);
    }
    await client.query('checkpoint');
    await client.end();
    const before = await follower.identity();
    await shard.order(primary, { role: 'Primary', epoch: 2 });
    await shard.follow(follower, { epoch: 2 });
    const renewed = await follower.until(
      'another identity',
      (status) => status.member.incarnation !== before.incarnation,
    );
    assert.deepEqual([renewed.promise?.epoch, renewed.orders], [2, undefined]);
    follower.forgetIdentity();
    await follower.until('no data', (status) => !status.hasData && status.phase === 'Waiting');
    await shard.order(primary, { role: 'Primary', epoch: 2 });
    await shard.follow(follower, { epoch: 2 });
    await follower.until('caught up again', (status) => status.upstream?.caughtUp === true);
    assert.deepEqual(await folders(follower), ['pgdata']);
  });

  it('that has lost its data is a new member, and waits for orders of its own', async () => {
    const { name, incarnation } = await follower.identity();
    await shard.order(follower, { role: 'Hold', epoch: 2 });
    await follower.until('down', (status) => status.phase === 'Holding' && status.orders?.applied === true);
    await follower.exec('rm', '-rf', memberPaths.pgdata);
    await follower.kill();
    await follower.startAgain();
    const status = await follower.status();
    assert.equal(status.member.name, name);
    assert.notEqual(status.member.incarnation, incarnation);
    assert.deepEqual([status.phase, status.hasData, status.promise?.epoch], ['Waiting', false, 2]);
    const old = await shard.orders(follower, { role: 'Hold', epoch: 2 });
    const answer = await follower.put(old);
    assert.deepEqual([answer.status, (answer.body as { code: string }).code], [409, 'WrongIncarnation']);
    follower.forgetIdentity();
  });
});
