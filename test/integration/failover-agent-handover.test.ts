/**
 * Primaries that are handed over, taken back, given up, or stopped in mid-flight: what they say, who may be next, and that the
 * old side has ended before the new one begins. Real Postgres in containers; the tests do what an operator does.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { Agent } from 'undici';
import { run } from '#cluster/process.ts';
import { parseLsn } from '#core/lsn.ts';
import { memberPaths } from '#core/names.ts';
import type { Fenced } from '#core/protocol/authority.ts';
import type { KeyspaceFixture, MemberFixture, ShardFixture } from './member-fixture.ts';
import { threeRegions } from './three-regions.ts';

describe('a shard whose primary changes', { timeout: 300_000 }, () => {
  let keyspace: KeyspaceFixture;
  let shard: ShardFixture;
  let eu: MemberFixture;
  let us: MemberFixture;
  let ap: MemberFixture;
  let router: Agent;
  let sql: pg.Client;

  before(async () => {
    ({ keyspace, shard, eu, us, ap } = await threeRegions('changing'));
    router = await keyspace.dispatcher(keyspace.identity('router'));
    await shard.bringUp();
    sql = await eu.connect();
    await sql.query('create table notes (id int primary key)');
  });
  after(async () => {
    await sql?.end().catch(() => undefined);
    await router?.destroy();
    await keyspace?.stop();
  });

  const openAsPrimary = (member: MemberFixture): Promise<unknown> =>
    member.until('open', ({ phase, postgres }) => phase === 'Primary' && postgres?.open === true);
  const word = (holdsAtEpoch: number, inFlight: number) => ({
    router: { id: '0123456789abcdef', holdsAtEpoch, inFlight },
  });
  const positionOf = ({ position }: Fenced): bigint => parseLsn(position?.lsn ?? '0/0');
  const epochRow = async (client: pg.Client): Promise<unknown> =>
    (await client.query('select epoch::int, timeline::int from meridian.authority')).rows[0];

  it('hands over once its routers are drained, with nothing lost and nobody to rewind', async () => {
    await us.until('caught up', ({ upstream }) => upstream?.caughtUp === true);
    await sql.query('insert into notes values (1)');
    await eu.authority(word(0, 1), router);
    const asked = eu.askFence(2, true);
    await eu.until('stopping', ({ phase }) => phase === 'Stopping', 5_000);
    const meanwhile = await eu.authority({});
    assert.deepEqual([meanwhile.state, meanwhile.primary?.epoch, meanwhile.known?.epoch], ['stopping', 1, 1]);
    // Under way in the router: it still answers, and acknowledges.
    await sql.query('insert into notes values (2)');
    await eu.authority(word(1, 0), router);
    const begunAt = performance.now();
    assert.ok([200, 409].includes((await asked).status));
    const left = await eu.fence(2, true);
    assert.equal(left.stopped, true);
    const chosen = await us.fence(2);
    assert.ok(positionOf(chosen) >= positionOf(left), 'the candidate has the end of the shutdown checkpoint');
    await shard.decide(us, 2, chosen.position?.lsn ?? '');
    await shard.takeOver();
    await openAsPrimary(us);
    console.log(`  from drained to open elsewhere: ${Math.round(performance.now() - begunAt)} ms`);
    sql = await us.connect();
    assert.equal((await sql.query('select from notes')).rowCount, 2);
    assert.deepEqual(await epochRow(sql), { epoch: 2, timeline: 2 });
    await Promise.all(
      [eu, ap].map((member) => member.until('following', ({ upstream }) => upstream?.streaming === true)),
    );
    assert.equal((await eu.status()).rejoined, undefined);
    assert.equal(await eu.local('select count(*) from notes'), '2');
  });

  it('takes a handover back by a decision of its own: the same member, at the next epoch and timeline', async () => {
    await sql.query('insert into notes values (3)');
    const left = await us.fence(3, true);
    assert.equal((await us.authority()).state, 'fenced');
    // Orders of the epoch that it has ended open nothing any more.
    const stale = await us.put(await shard.orders(us, { role: 'Primary', epoch: 2 }));
    assert.equal(stale.status, 409);
    await shard.decide(us, 3, left.position?.lsn ?? '');
    await shard.takeOver();
    await openAsPrimary(us);
    sql = await us.connect();
    assert.deepEqual(await epochRow(sql), { epoch: 3, timeline: 3 });
    await sql.query('insert into notes values (4)');
    assert.equal((await sql.query('select from notes')).rowCount, 4);
  });

  it('starts a crashed Postgres at once, also while the record can not be read: k grants confirm it', async () => {
    await writeFile(join(shard.folder, 'authority', 'shard.json'), 'not now');
    const crashedAt = performance.now();
    await us.exec('sh', '-c', `kill -KILL $(head -n 1 ${memberPaths.pgdata}/postmaster.pid)`);
    await us.until('down', ({ phase }) => phase !== 'Primary');
    await openAsPrimary(us);
    console.log(`  open ${Math.round(performance.now() - crashedAt)} ms after the crash`);
    await shard.authorise(us, 3);
    sql = await us.connect();
    await sql.query('insert into notes values (5)');
    const { rows } = await sql.query<{ opening: string }>('select opening from meridian.authority');
    assert.ok(Number(rows[0]?.opening) >= 4, 'each opening is another one');
  });

  it('gives its epoch up where Postgres does not start, with nothing left of it, and is followed by another', async () => {
    await us.exec('mv', `${memberPaths.pgdata}/pg_xact`, `${memberPaths.volume}/pg_xact`);
    await us.exec('sh', '-c', `kill -KILL $(head -n 1 ${memberPaths.pgdata}/postmaster.pid)`);
    const crashedAt = performance.now();
    await us.until('given up', ({ phase }) => phase === 'Released', 20_000);
    console.log(`  released ${Math.round(performance.now() - crashedAt)} ms after the crash`);
    let answer = await us.authority();
    for (let look = 0; answer.primary?.released !== true && look < 20; look += 1) {
      await sleep(50);
      answer = await us.authority();
    }
    assert.deepEqual([answer.primary?.released, answer.primary?.serving, answer.state], [true, false, 'down']);
    const { output } = await us.exec('sh', '-c', 'cat /proc/[0-9]*/comm');
    assert.doesNotMatch(output, /postgres/);
    await us.exec('mv', `${memberPaths.volume}/pg_xact`, `${memberPaths.pgdata}/pg_xact`);
    const own = await us.fence(4);
    assert.equal(own.stopped, true);
    const answers = await Promise.all([eu.fence(4), ap.fence(4)]);
    const [chosen] = answers;
    assert.ok(positionOf(chosen) > 0n);
    await shard.decide(eu, 4, chosen.position?.lsn ?? '');
    await shard.takeOver([ap]);
    await openAsPrimary(eu);
    sql = await eu.connect();
    assert.equal((await sql.query('select from notes')).rowCount, 5);
  });

  it('ends with its agent stopped in mid-flight, before its lease does', async () => {
    await ap.until('caught up', ({ upstream }) => upstream?.caughtUp === true);
    await sql.query('insert into notes values (6)');
    const stoppedAt = performance.now();
    await eu.exec(
      'sh',
      '-c',
      'for p in /proc/[0-9]*; do grep -q agent.mjs $p/cmdline && [ $(cut -d" " -f4 $p/stat) = 1 ] && kill -STOP ${p#/proc/}; done; true',
    );
    let lastAnswer = performance.now();
    const giveUpAt = stoppedAt + 10_000;
    await assert.rejects(async () => {
      while (performance.now() < giveUpAt) {
        await sql.query('select');
        lastAnswer = performance.now();
        await sleep(10);
      }
    });
    assert.ok(lastAnswer - stoppedAt < 3_000, `it answered ${Math.round(lastAnswer - stoppedAt)} ms later`);
    const asked = performance.now();
    const answers = await Promise.all([us.fence(5), ap.fence(5)]);
    const longestMs = Math.max(...answers.map(({ leaseRemainingMs }) => leaseRemainingMs));
    assert.ok(asked + longestMs > lastAnswer, 'whoever waits the grants out waits until after its last answer');
    await sleep(longestMs);
    await shard.decide(ap, 5, answers[1].position?.lsn ?? '');
    await shard.takeOver([]);
    await run(['docker', 'wait', eu.container.getId()]);
    await eu.startAgain();
    const waiting = await eu.until('at the gate', ({ problem }) => problem.includes(ap.name));
    assert.equal(waiting.phase, 'Confirming');
    await shard.follow(eu, { takeover: true, mayRewind: true });
    await openAsPrimary(ap);
    sql = await ap.connect();
    assert.equal((await sql.query('select from notes')).rowCount, 6);
  });
});
