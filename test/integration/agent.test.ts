/** A primary and two followers, from nothing: what replication through the tunnels promises. Real Postgres in containers. */
import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import pg from 'pg';
import { handshakeLine, parseReply, readLine } from '#agent/tunnel/handshake.ts';
import { replicationName, slotName } from '#core/identity.ts';
import { ports } from '#core/names.ts';
import type { TunnelHello } from '#core/protocol/tunnel.ts';
import { KeyspaceFixture, type MemberFixture, type ShardFixture } from './member-fixture.ts';

/** Asks until the answer is as wanted; Postgres has no way to wait for these. */
async function untilTrue(what: string, ask: () => Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const giveUpAt = Date.now() + timeoutMs;
  while (!(await ask())) {
    if (Date.now() > giveUpAt) throw new Error(`never: ${what}`);
    await sleep(50);
  }
}

describe('a shard of three members', { timeout: 300_000 }, () => {
  let keyspace: KeyspaceFixture;
  let shard: ShardFixture;
  let primary: MemberFixture;
  let us: MemberFixture;
  let ap: MemberFixture;
  let sql: pg.Client;

  before(async () => {
    keyspace = await KeyspaceFixture.start();
    shard = await keyspace.shard({
      members: [
        { name: 'main-eu-0', region: 'eu' },
        { name: 'main-us-0', region: 'us' },
        { name: 'main-ap-0', region: 'ap' },
      ],
      acknowledgements: 1,
    });
    await shard.bringUp();
    primary = shard.primary;
    us = shard.member('main-us-0');
    ap = shard.member('main-ap-0');
    sql = await primary.connect();
    await sql.query('create table seen (id int primary key, note text)');
  });

  after(async () => {
    await sql?.end();
    await keyspace?.stop();
  });

  const replayedEverything = async (member: MemberFixture): Promise<void> => {
    const { rows } = await sql.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn');
    const client = await member.connect();
    await untilTrue(`${member.name} replayed all`, async () => {
      const answer = await client.query<{ is: boolean }>('select pg_last_wal_replay_lsn() >= $1::pg_lsn as is', [
        rows[0]?.lsn,
      ]);
      return answer.rows[0]?.is === true;
    });
    await client.end();
  };

  it('has what was committed on its primary on every follower, which take no writes', async () => {
    await sql.query('insert into seen select generate_series(1, 1000)');
    for (const follower of shard.followers) {
      await replayedEverything(follower);
      const client = await follower.connect();
      const count = await client.query<{ count: string }>('select count(*) from seen');
      assert.equal(count.rows[0]?.count, '1000');
      await assert.rejects(client.query('insert into seen values (0)'), /read-only transaction/);
      await client.end();
    }
  });

  it('replicates under identities, from slots of their own, and counts both followers', async () => {
    const identities = await Promise.all(shard.followers.map((follower) => follower.identity()));
    const { rows } = await sql.query<{ name: string; sync: string; who: string; slot: string; address: string | null }>(
      `select r.application_name as name, r.sync_state as sync, r.usename as who, s.slot_name as slot, r.client_addr::text as address
         from pg_stat_replication r join pg_replication_slots s on s.active_pid = r.pid order by 1`,
    );
    const expected = identities.map((identity) => ({
      name: replicationName(identity),
      sync: 'quorum',
      who: 'meridian_replication',
      slot: slotName(identity.incarnation),
      address: null,
    }));
    assert.deepEqual(
      rows,
      expected.toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    );
  });

  it('keeps a slot for every other member on each member', async () => {
    for (const member of shard.members) {
      const others = await Promise.all(
        shard.members.filter((other) => other !== member).map((other) => other.identity()),
      );
      const expected = others.map(({ incarnation }) => slotName(incarnation)).toSorted();
      await member.until('its slots', (status) =>
        expected.every((name) => status.slots.some((slot) => slot.name === name)),
      );
    }
  });

  it('runs with what the design fixes', async () => {
    const { rows } = await sql.query<{ name: string; setting: string }>(
      `select name, setting from pg_settings where name in ('data_checksums', 'wal_level', 'fsync', 'restart_after_crash',
         'hot_standby_feedback', 'sync_replication_slots', 'ssl_min_protocol_version', 'password_encryption', 'allow_alter_system', 'lc_messages')`,
    );
    assert.deepEqual(Object.fromEntries(rows.map(({ name, setting }) => [name, setting])), {
      data_checksums: 'on',
      wal_level: 'logical',
      fsync: 'on',
      restart_after_crash: 'off',
      hot_standby_feedback: 'on',
      sync_replication_slots: 'on',
      ssl_min_protocol_version: 'TLSv1.3',
      password_encryption: 'scram-sha-256',
      allow_alter_system: 'off',
      lc_messages: 'C',
    });
    const { rows: databases } = await sql.query<{ owner: string; encoding: string; provider: string; locale: string }>(
      `select pg_get_userbyid(datdba) as owner, pg_encoding_to_char(encoding) as encoding, datlocprovider as provider, datlocale as locale
         from pg_database where datname = current_database()`,
    );
    assert.deepEqual(databases, [{ owner: 'meridian_owner', encoding: 'UTF8', provider: 'b', locale: 'C.UTF-8' }]);
  });

  it('synchronises slots for moves to its followers, through tunnels of their own kind', async () => {
    await sql.query("select pg_create_logical_replication_slot('move_test', 'pgoutput', false, false, true)");
    try {
      const client = await us.connect();
      await untilTrue(
        'the slot is synchronised',
        async () => {
          // A slot is taken over once its reader has come past what the follower still has; here nobody reads from it.
          await sql.query('select pg_log_standby_snapshot()');
          await sql.query("select pg_replication_slot_advance('move_test', pg_current_wal_lsn())");
          const { rows } = await client.query<{ is: boolean }>(
            "select synced and not temporary as is from pg_replication_slots where slot_name = 'move_test'",
          );
          return rows[0]?.is === true;
        },
        60_000,
      );
      await client.end();
      const { rows } = await sql.query<{ name: string }>(
        "select application_name as name from pg_stat_activity where application_name like 'slotsync of %' order by 1",
      );
      assert.equal(rows.length, 2);
    } finally {
      await sql.query("select pg_drop_replication_slot('move_test')");
    }
  });

  it('lets in over the network who shows the right certificate, over TLS, and nobody else', async () => {
    await sql.query('create role app login in role meridian_application');
    await sql.query("create role person login password 'secret' in role meridian_direct");
    const host = await primary.address();
    const router = await keyspace.issue(keyspace.identity('router'));
    const operator = await keyspace.issue(keyspace.identity('operator'));
    const tls = { ca: keyspace.ca.bundle, checkServerIdentity: () => undefined };
    const attempt = async (user: string, ssl: pg.ClientConfig['ssl'], password?: string): Promise<string> => {
      const options = { host, port: ports.postgres, database: shard.database, user };
      const client = new pg.Client({
        ...options,
        ...(ssl === undefined ? {} : { ssl }),
        ...(password === undefined ? {} : { password }),
      });
      client.on('error', () => {});
      try {
        await client.connect();
        const { rows } = await client.query<{ who: string }>('select session_user as who');
        return rows[0]?.who ?? '';
      } catch (error) {
        return (error as { code?: string }).code ?? String(error);
      } finally {
        await client.end().catch(() => undefined);
      }
    };
    const asRouter = { ...tls, cert: router.certificate, key: router.privateKey };
    const asOperator = { ...tls, cert: operator.certificate, key: operator.privateKey };
    assert.equal(await attempt('app', asRouter), 'app');
    assert.equal(await attempt('meridian_router', asRouter), 'meridian_router');
    assert.equal(await attempt('meridian_operator', asOperator), 'meridian_operator');
    assert.equal(await attempt('person', tls, 'secret'), 'person');
    assert.equal(await attempt('person', tls, 'wrong'), '28P01');
    for (const [user, ssl] of [
      ['app', asOperator],
      ['app', tls],
      ['meridian_operator', asRouter],
      ['meridian_router', asOperator],
      ['meridian_agent', asOperator],
      ['meridian_replication', asOperator],
      ['meridian_owner', asOperator],
    ] as const) {
      assert.equal(await attempt(user, ssl), '28000', `${user} came in`);
    }
    assert.equal(await attempt('person', false, 'secret'), '28000', 'without TLS');
  });

  it('acknowledges no write while none of its followers can, ends before its lease does, and comes back with them', async () => {
    const killedAt = performance.now();
    await Promise.all([us.kill(), ap.kill()]);
    const insert = sql.query("insert into seen values (2000, 'waits')").then(
      () => 'acknowledged',
      () => 'cut',
    );
    assert.equal(await insert, 'cut');
    assert.ok(performance.now() - killedAt < 4_000, 'it stood longer than its lease');
    const down = await primary.until('down', ({ phase }) => phase !== 'Primary');
    assert.notEqual(down.postgres?.open, true);
    await Promise.all([us.startAgain(), ap.startAgain()]);
    await primary.until('open again', ({ phase, postgres }) => phase === 'Primary' && postgres?.open === true);
    sql = await primary.connect();
    await ap.until('caught up', (status) => status.upstream?.caughtUp === true);
  });

  it('counts a member no more once orders without it are applied', async () => {
    await shard.setSynchronous([us]);
    const streams = await sql.query<{ sync: string; who: string }>(
      "select sync_state as sync, split_part(application_name, '/', 1) as who from pg_stat_replication where state = 'streaming' order by 2",
    );
    // Streams were ended for the barrier, and come back by themselves.
    assert.ok(streams.rows.every(({ who, sync }) => (who === us.name ? sync === 'quorum' : sync === 'async')));
    await Promise.all(
      [us, ap].map((follower) => follower.until('streaming', (status) => status.upstream?.streaming === true)),
    );
    await us.kill();
    let isDone = false;
    const insert = sql.query("insert into seen values (2500, 'without the one that counts')").then(() => {
      isDone = true;
    });
    // Shorter than the lease, which was this one's to grant.
    await sleep(700);
    assert.equal(isDone, false, 'acknowledged by a member that was removed');
    // Grown again, with the one that streams all the while: nothing has to be ended for that.
    await shard.setSynchronous([us, ap]);
    await insert;
    await us.startAgain();
    await us.until('caught up', (status) => status.upstream?.caughtUp === true);
  });

  describe('refuses a tunnel', () => {
    const dial = async (member: MemberFixture, as: MemberFixture): Promise<TLSSocket> => {
      const pair = await keyspace.issue(keyspace.memberIdentity(as.name));
      const socket = connectTls({
        host: await member.address(),
        port: ports.tunnel,
        ca: keyspace.ca.bundle,
        cert: pair.certificate,
        key: pair.privateKey,
        checkServerIdentity: () => undefined,
      });
      socket.on('error', () => {});
      return socket;
    };
    const answerTo = async (to: MemberFixture, as: MemberFixture, wish: Partial<TunnelHello>): Promise<string> => {
      const socket = await dial(to, as);
      const hello: TunnelHello = {
        protocol: 1,
        purpose: 'slotsync',
        session: '0123456789abcdef',
        shardUid: shard.uid,
        from: await as.identity(),
        to: await to.identity(),
        epoch: 1,
        generation: shard.generation,
        ...wish,
      };
      socket.write(handshakeLine(hello));
      const reply = parseReply(await readLine(socket, 5_000));
      socket.destroy();
      return reply === undefined ? 'nothing' : reply.accepted ? 'accepted' : reply.code;
    };

    it('to a wrong epoch, shard or member, and from one that is not who it says', async () => {
      assert.equal(await answerTo(primary, us, {}), 'accepted');
      assert.equal(await answerTo(primary, us, { epoch: 2 }), 'StaleEpoch');
      assert.equal(await answerTo(primary, us, { shardUid: 'another' }), 'WrongShard');
      assert.equal(await answerTo(primary, us, { to: await ap.identity() }), 'WrongMember');
      assert.equal(await answerTo(primary, us, { from: await ap.identity() }), 'WrongMember');
      const { name } = await us.identity();
      assert.equal(await answerTo(primary, us, { from: { name, incarnation: '0000000000000001' } }), 'WrongMember');
      assert.equal(await answerTo(us, ap, {}), 'NotPrimary');
    });
  });

  it('takes a renewed certificate into use without a restart, of Postgres or of a stream', async () => {
    const before = await sql.query<{ started: string; pids: number[] }>(
      'select pg_postmaster_start_time()::text as started, array_agg(pid order by pid) as pids from pg_stat_replication',
    );
    const renewed = new X509Certificate((await primary.renewCertificate()).certificate);
    const served = async (port: number): Promise<string> => {
      const pair = await keyspace.issue(keyspace.identity('operator'));
      if (port === ports.postgres) {
        const client = await primary.connect();
        const stream = (client as unknown as { connection: { stream: TLSSocket } }).connection.stream;
        const serial = stream.getPeerCertificate().serialNumber;
        await client.end();
        return serial;
      }
      const socket = connectTls({
        host: await primary.address(),
        port,
        ca: keyspace.ca.bundle,
        cert: pair.certificate,
        key: pair.privateKey,
        checkServerIdentity: () => undefined,
      });
      await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
      const serial = socket.getPeerCertificate().serialNumber;
      socket.destroy();
      return serial;
    };
    for (const port of [ports.agentApi, ports.tunnel, ports.postgres]) {
      await untilTrue(`port ${port} serves it`, async () => (await served(port)) === renewed.serialNumber);
    }
    const after = await sql.query(
      'select pg_postmaster_start_time()::text as started, array_agg(pid order by pid) as pids from pg_stat_replication',
    );
    assert.deepEqual(after.rows, before.rows);
    assert.equal(Date.parse((await primary.status()).certificateNotAfter ?? ''), Date.parse(renewed.validTo));
  });

  it('takes orders from the operator alone', async () => {
    const orders = await shard.orders(us, { role: 'Hold' });
    for (const identity of [keyspace.identity('router'), keyspace.memberIdentity(us.name)]) {
      const dispatcher = await keyspace.dispatcher(identity);
      assert.equal((await us.put(orders, dispatcher)).status, 403);
      await dispatcher.destroy();
    }
    const foreign = await (await import('#operator/pki/authority.ts')).makeCa(
      { namespace: keyspace.namespace, keyspace: keyspace.keyspace },
      new Date(),
    );
    const dispatcher = await keyspace.dispatcher(keyspace.identity('operator'), foreign);
    await assert.rejects(us.put(orders, dispatcher));
    await dispatcher.destroy();
  });

  it('takes a parameter that only needs a reload, leaves out what Postgres or the design refuses, and says so', async () => {
    const members = await Promise.all(shard.followers.map((follower) => follower.identity()));
    const wish = {
      role: 'Primary' as const,
      synchronous: { acknowledgements: 1, members },
    };
    const parameters = { work_mem: '9MB', wrok_mem: '9MB', fsync: 'off', shared_buffers: 'lots' };
    await shard.order(primary, { ...wish, parameters });
    const status = await primary.until('applied', (seen) => seen.orders?.applied === true);
    assert.match(status.problem, /wrok_mem.*unrecognized/);
    assert.match(status.problem, /shared_buffers.*invalid value/);
    assert.match(status.problem, /fsync is fixed/);
    assert.equal((await sql.query('show work_mem')).rows[0]?.work_mem, '9MB');
    assert.equal((await sql.query('show fsync')).rows[0]?.fsync, 'on');
    await shard.order(primary, { ...wish, parameters: { max_connections: '150' } });
    await primary.until('restart pending', (seen) => seen.postgres?.pendingRestart === true && seen.problem === '');
    await shard.order(primary, { ...wish, parameters: { max_connections: '150' }, restartNonce: 'once' });
    await primary.until(
      'restarted',
      ({ postgres, orders }) => postgres?.restartNonce === 'once' && postgres.open && orders?.applied === true,
    );
    await sql.end().catch(() => undefined);
    sql = await primary.connect();
    assert.equal((await sql.query('show max_connections')).rows[0]?.max_connections, '150');
    await sql.query("insert into seen values (3000, 'after the restart')");
  });

  it('starts a crashed Postgres again by itself, and acknowledges as before', async () => {
    const { rows } = await sql.query<{ pid: number }>('select pg_backend_pid() as pid');
    const before = await primary.status();
    await primary.exec('kill', '-KILL', String(rows[0]?.pid));
    await untilTrue('another postmaster', async () => {
      try {
        const client = await primary.connect();
        await client.query("insert into seen values (4000, 'after the crash')");
        await client.end();
        return true;
      } catch {
        return false;
      }
    });
    assert.deepEqual((await primary.status()).member, before.member);
    await sql.end().catch(() => undefined);
    sql = await primary.connect();
  });

  it('shows its state to a scrape and a probe', async () => {
    await us.until('streaming', (status) => status.upstream?.streaming === true);
    const host = await us.address();
    assert.equal((await fetch(`http://${host}:${ports.memberHttp}/readyz`)).status, 200);
    const scrape = async (): Promise<string> => (await fetch(`http://${host}:${ports.memberHttp}/metrics`)).text();
    // Streaming comes back before the first grant after a crash, and at some moments nothing is granted: until something is.
    const granted = /meridian_member_lease_granted_seconds\{.*\} (?:[12]\.\d+|3)$/m;
    let text = await scrape();
    for (const until = performance.now() + 30_000; !granted.test(text) && performance.now() < until; )
      text = await scrape();
    assert.match(text, granted);
    assert.match(text, /meridian_member_upstream_streaming\{.*\} 1/);
    assert.match(text, /meridian_member_phase\{phase="Following",.*\} 1/);
    const ofPrimary = await (await fetch(`http://${await primary.address()}:${ports.memberHttp}/metrics`)).text();
    assert.match(ofPrimary, /meridian_member_lease_held\{.*\} 1/);
    assert.match(ofPrimary, /meridian_member_handle_armed\{.*\} 1/);
    assert.match(ofPrimary, /meridian_member_opening_gate\{state="passed",.*\} 1/);
  });

  it('has the same rows everywhere in the end', async () => {
    const digests = new Set<string>();
    for (const member of shard.members) {
      if (member !== primary) await replayedEverything(member);
      const client = await member.connect();
      const { rows } = await client.query('select id, note from seen order by id');
      digests.add(createHash('sha256').update(JSON.stringify(rows)).digest('hex'));
      await client.end();
    }
    assert.equal(digests.size, 1);
  });
});
