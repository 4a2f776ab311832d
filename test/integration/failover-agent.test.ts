/**
 * Members whose primary is lost: what a fence says, who may be promoted and how, what is seen of commits that nobody
 * acknowledged, and how the old primary comes back. Real Postgres in containers; the tests do what an operator does.
 */
import assert from 'node:assert/strict';
import { connect as connectTcp } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type pg from 'pg';
import { parseLsn } from '#core/lsn.ts';
import { ports } from '#core/names.ts';
import type { FenceRefusal } from '#core/protocol/authority.ts';
import type { KeyspaceFixture, MemberFixture, ShardFixture } from './member-fixture.ts';
import { threeRegions } from './three-regions.ts';

describe('a shard that loses its primary', { timeout: 300_000 }, () => {
  let keyspace: KeyspaceFixture;
  let shard: ShardFixture;
  let eu: MemberFixture;
  let us: MemberFixture;
  let ap: MemberFixture;
  let sql: pg.Client;

  before(async () => {
    ({ keyspace, shard, eu, us, ap } = await threeRegions('lost'));
  });
  after(async () => {
    await sql?.end().catch(() => undefined);
    await keyspace?.stop();
  });

  const local = (member: MemberFixture, statement: string): Promise<string> => member.local(statement);
  const signal = async (member: MemberFixture, name: 'STOP' | 'CONT' | 'KILL', pid: string): Promise<void> => {
    await member.exec('sh', '-c', `kill -${name} ${pid}`);
  };
  const receiverOf = (member: MemberFixture): Promise<string> => local(member, 'select pid from pg_stat_wal_receiver');
  const isOpen = (member: MemberFixture): Promise<boolean> =>
    member.connect().then(
      async (client) => {
        await client.end();
        return true;
      },
      () => false,
    );
  const openAsPrimary = (member: MemberFixture): Promise<unknown> =>
    member.until('open', ({ phase, postgres }) => phase === 'Primary' && postgres?.open === true);

  it('was closed at its first start until a follower had joined', async () => {
    await shard.initialise();
    assert.equal(await isOpen(eu), false);
    const { state, primary } = await eu.authority();
    assert.deepEqual([state, primary?.leaseRemainingMs], ['opening', null]);
    await Promise.all(shard.followers.map((follower) => shard.follow(follower)));
    await Promise.all(
      shard.followers.map((follower) => follower.until('caught up', (status) => status.upstream?.caughtUp === true)),
    );
    assert.equal(await isOpen(eu), false);
    await shard.setSynchronous(shard.followers);
    sql = await eu.connect();
    await sql.query('create table notes (id int primary key)');
    await sql.query("create role person login password 'secret' in role meridian_direct");
    const [answer, heard] = [await eu.authority(), (await us.authority()).follower];
    assert.equal(answer.state, 'open');
    assert.ok((answer.primary?.leaseRemainingMs ?? 0) > 1_500);
    assert.equal(answer.primary?.serving, true);
    assert.ok(heard !== undefined && (heard.servingHeardMs ?? Infinity) < 1_000 && heard.grantRemainingMs > 1_500);
    const metrics = await (await fetch(`http://${await eu.address()}:${ports.memberHttp}/metrics`)).text();
    for (const { name, incarnation } of [await us.identity(), await ap.identity()]) {
      assert.match(
        metrics,
        new RegExp(`lease_grant_remaining_seconds\\{follower="${name}/${incarnation}",.*\\} [12]\\.\\d+`),
      );
    }
  });

  it('answers who waits for a change when there is one, and not before', async () => {
    const { version } = await us.authority();
    const begunAt = performance.now();
    assert.equal((await us.authority({ after: version, waitMs: 300 })).version, version);
    assert.ok(performance.now() - begunAt >= 290);
    const waiting = us.authority({ after: version, waitMs: 2_000 });
    await shard.follow(us, { generation: shard.generation + 1, synchronous: { acknowledgements: 1, members: [] } });
    assert.notEqual((await waiting).version, version);
  });

  it('shows nothing after a crash that no follower has, until one has it', async () => {
    const receivers = await Promise.all([receiverOf(us), receiverOf(ap)]);
    await Promise.all([signal(us, 'STOP', receivers[0] ?? ''), signal(ap, 'STOP', receivers[1] ?? '')]);
    const insert = sql.query('insert into notes values (1)').then(
      () => 'acknowledged',
      () => 'cut',
    );
    await sleep(300);
    const backend = await local(eu, "select pid from pg_stat_activity where query like 'insert into notes%'");
    await signal(eu, 'KILL', backend);
    assert.equal(await insert, 'cut');
    await eu.until('behind its gate', ({ phase }) => phase === 'Opening');
    // Postgres itself shows the row by now; nobody comes in to see it.
    assert.equal(await local(eu, 'select count(*) from notes'), '1');
    for (let look = 0; look < 5; look += 1) {
      assert.equal(await isOpen(eu), false);
      await sleep(50);
    }
    // A wait that something else ends is no acknowledgement.
    await local(
      eu,
      "select pg_cancel_backend(pid) from pg_stat_activity where query like '%into meridian.authority%' and wait_event = 'SyncRep'",
    );
    await eu.until('seen to be cancelled', ({ problem }) => problem.includes('ended by something else'));
    assert.equal(await isOpen(eu), false);
    assert.equal((await eu.authority()).primary?.serving, true, 'only followers are missing');
    await Promise.all([signal(us, 'CONT', receivers[0] ?? ''), signal(ap, 'CONT', receivers[1] ?? '')]);
    const resumedAt = performance.now();
    await openAsPrimary(eu);
    console.log(`  opened ${Math.round(performance.now() - resumedAt)} ms after its followers went on`);
    sql = await eu.connect();
    assert.equal((await sql.query('select from notes')).rowCount, 1);
    assert.ok(
      (await Promise.all([local(us, 'select count(*) from notes'), local(ap, 'select count(*) from notes')])).includes(
        '1',
      ),
    );
  });

  it('refuses a fence at the epoch that it follows', async () => {
    const { status, body } = await us.askFence(1);
    assert.deepEqual([status, (body as FenceRefusal).code], [409, 'Active']);
  });

  it('goes on with the same primary, without a restart, where a fence came to nothing', async () => {
    await ap.fence(2);
    const started = await sql.query('select pg_postmaster_start_time()::text as at');
    shard.epoch = 2;
    shard.generation += 1;
    shard.history = [...shard.history, { epoch: 2, timeline: 1, member: eu.name, forkLsn: '0/0' }];
    await shard.authorise(eu, 2);
    await shard.takeOver();
    await eu.until('serving epoch 2', ({ orders }) => orders?.epoch === 2 && orders.applied === true);
    // The session of before is still there, and acknowledges.
    await sql.query('insert into notes values (2)');
    assert.deepEqual((await sql.query('select pg_postmaster_start_time()::text as at')).rows, started.rows);
    await ap.until('streaming', ({ upstream }) => upstream?.streaming === true);
    const { rows } = await sql.query<{ epoch: string }>('select epoch from meridian.authority');
    assert.deepEqual(rows, [{ epoch: '2' }]);
  });

  it('has a fenced follower that says all it has, replayed or not, and streams no more, also after a restart', async () => {
    await local(ap, 'select pg_wal_replay_pause()');
    await sql.query('insert into notes select generate_series(10, 500)');
    const { rows } = await sql.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn');
    const end = parseLsn(rows[0]?.lsn ?? '');
    await eu.until('flushed by all', ({ standbys }) =>
      standbys.every(({ name, flushed }) => name !== ap.name || parseLsn(flushed) >= end),
    );
    const begunAt = performance.now();
    const first = await ap.fence(3);
    console.log(`  fenced in ${Math.round(performance.now() - begunAt)} ms`);
    assert.ok(
      first.position !== null && parseLsn(first.position.lsn) >= end,
      `${first.position?.lsn} before ${rows[0]?.lsn}`,
    );
    assert.equal(first.position.timeline, 1);
    assert.ok(first.leaseRemainingMs > 0 && first.leaseRemainingMs <= 3_000);
    assert.deepEqual((await ap.fence(3)).position, first.position);
    await ap.kill();
    await ap.startAgain();
    const again = await ap.fence(3);
    assert.deepEqual(again.position, first.position);
    assert.ok(again.leaseRemainingMs > 0, 'it has forgotten what it granted');
    await sql.query('insert into notes values (3)');
    await ap.until('fenced', ({ phase, postgres }) => phase === 'Fenced' && postgres?.inRecovery === true);
    assert.ok((await eu.status()).standbys.every(({ name }) => name !== ap.name));
    assert.deepEqual((await ap.fence(3)).position, first.position);
    const { state, follower } = await ap.authority();
    assert.deepEqual([state, follower], ['fenced', undefined]);
  });

  it('goes on with another: chosen by position, on the recorded timeline, with nobody inside who came before', async () => {
    const reader = await us.connect();
    const asking = await authenticating(us);
    const begunAt = performance.now();
    const answers = await Promise.all([us.fence(3), ap.fence(3)]);
    const fencedAt = performance.now();
    // The old side goes on for as long as its lease does, and nothing of that is acknowledged any more.
    const lost = sql.query('insert into notes values (999)').then(
      () => 'acknowledged',
      () => 'cut',
    );
    await sleep(200);
    await eu.kill();
    assert.equal(await lost, 'cut');
    const [ofUs, ofAp] = answers.map(({ position }) => parseLsn(position?.lsn ?? '0/0'));
    assert.ok(ofUs !== undefined && ofAp !== undefined && ofUs > ofAp, 'the one that went on streaming has more');
    await shard.decide(us, 3, answers[0]?.position?.lsn ?? '');
    const other = { role: 'Primary', takeover: true, member: await ap.identity() } as const;
    const ordered = performance.now();
    await shard.takeOver([ap]);
    await openAsPrimary(us);
    console.log(
      `  fenced in ${Math.round(fencedAt - begunAt)} ms, open ${Math.round(performance.now() - ordered)} ms after the orders`,
    );
    assert.equal(asking.destroyed || (await ended(asking)), true, 'it was let in after the promotion');
    await assert.rejects(reader.query('select'));
    sql = await us.connect();
    const { rows } = await sql.query(
      'select epoch::int, timeline::int, (select count(*)::int from notes where id = 999) as lost from meridian.authority',
    );
    assert.deepEqual(rows, [{ epoch: 3, timeline: 2, lost: 0 }]);
    assert.equal((await sql.query('select from notes where id in (1, 2, 3)')).rowCount, 3);
    assert.equal((await us.status()).postgres?.timeline, 2);
    await sql.query('insert into notes values (4)');
    // Whoever else would have this epoch comes too late (A21), and so does what was meant for an older one (A22).
    const source = { ...(await ap.identity()), address: await ap.address(), tunnelPort: ports.tunnel };
    assert.equal(
      (await us.put({ ...(await shard.orders(us, { role: 'Follower', takeover: true, source })) })).status,
      409,
    );
    assert.equal((await ap.put({ ...(await shard.orders(ap, other)) })).status, 409);
    const stale = await shard.orders(ap, { role: 'Hold', epoch: 2, leaderTerm: 9, sequence: 9_999 });
    assert.equal(((await ap.put(stale)).body as { code: string }).code, 'StaleEpoch');
  });

  it('has an old primary that stays down, and comes back by a rewind when it may', async () => {
    await eu.startAgain();
    const waiting = await eu.until('at the gate', ({ problem }) => problem.includes(us.name));
    assert.equal(waiting.phase, 'Confirming');
    await shard.follow(eu, { takeover: true });
    const diverged = await eu.until('seen to have diverged', (status) => status.diverged?.waiting === true);
    assert.equal(diverged.postgres, undefined);
    await shard.follow(eu, { mayRewind: true });
    const back = await eu.until(
      'following',
      ({ upstream, phase }) => phase === 'Following' && upstream?.streaming === true,
    );
    assert.equal(back.rejoined?.how, 'Rewind');
    assert.ok((back.rejoined?.transactions ?? 0) >= 1);
    const end = await sql.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn');
    await eu.until(
      'caught up',
      ({ postgres }) => parseLsn(postgres?.lsn.replayed ?? '0/0') >= parseLsn(end.rows[0]?.lsn ?? ''),
    );
    assert.equal(await local(eu, 'select count(*) from notes where id in (999, 4)'), '1');
  });

  /** A client that has said who it is, and has been asked for its password. */
  const authenticating = async (member: MemberFixture): Promise<TLSSocket> => {
    const tcp = connectTcp({ host: await member.address(), port: ports.postgres });
    tcp.write(Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]));
    await new Promise((resolve, reject) => tcp.once('data', resolve).once('error', reject));
    const socket = connectTls({ socket: tcp, ca: keyspace.ca.bundle, checkServerIdentity: () => undefined });
    socket.on('error', () => socket.destroy());
    await new Promise((resolve) => socket.once('secureConnect', resolve));
    const words = Buffer.from(`user\0person\0database\0${shard.database}\0\0`, 'latin1');
    const head = Buffer.alloc(8);
    head.writeInt32BE(words.length + 8, 0);
    head.writeInt32BE(196_608, 4);
    socket.write(Buffer.concat([head, words]));
    const asked = await new Promise<Buffer>((resolve) => socket.once('data', resolve));
    assert.equal(asked.toString('latin1', 0, 1), 'R');
    return socket;
  };
  const ended = (socket: TLSSocket): Promise<boolean> =>
    new Promise((resolve) => {
      socket.once('close', () => resolve(true)).once('end', () => resolve(true));
      setTimeout(() => resolve(false), 500);
    });
});
