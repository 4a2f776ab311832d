/** Where a member's log ends, read from real logs in the states that a fence may find them in (docs/design-traps.md, A4). */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { parseLsn } from '#core/lsn.ts';
import { type LabCluster, RejoinLab } from './rejoin-lab.ts';

const SEGMENT_BYTES = 16 * 1024 * 1024;

describe('the position on disk', () => {
  let lab: RejoinLab;
  let primary: LabCluster;
  let standby: LabCluster;

  before(async () => {
    lab = await RejoinLab.start();
    primary = await lab.primary('a');
    await primary.sql('create table t (id int); insert into t select generate_series(1, 10000);');
    standby = await lab.standby('b', primary);
  });
  after(() => lab.stop());

  /** Byte in its segment's file. */
  const placeOf = (lsn: string): { file: string; offset: number } => {
    const at = parseLsn(lsn);
    const segment = (at / BigInt(SEGMENT_BYTES)).toString(16).toUpperCase().padStart(8, '0');
    return { file: `${standby.path}/pg_wal/0000000100000000${segment}`, offset: Number(at % BigInt(SEGMENT_BYTES)) };
  };
  const streamAgain = async (): Promise<void> => {
    await standby.follow(primary);
    await standby.start();
    await standby.untilCaughtUp(primary);
  };

  it('of a running standby is what it has received, though replay is held up by a query', async () => {
    const holder = standby.sql('begin isolation level repeatable read; select count(*) from t; select pg_sleep(60);');
    holder.catch(() => {});
    await standby.until(
      "exists (select from pg_stat_activity where query ~ 'pg_sleep' and state = 'active' and pid <> pg_backend_pid())",
    );
    await primary.sql('delete from t where id < 5000; vacuum t; insert into t values (1);');
    const written = await primary.lsn();
    await standby.until(`pg_last_wal_receive_lsn() >= '${written}'`);
    const replayed = await standby.sql('select pg_last_wal_replay_lsn()');
    assert.ok(parseLsn(replayed) < parseLsn(written), 'replay is not held up: the test shows nothing');
    await standby.follow(undefined);
    await primary.stop();
    assert.equal(await lab.call({ call: 'receiversGone', pgdata: '' }), true);
    const end = await standby.position(replayed);
    // The shutdown checkpoint came along after what was waited for.
    assert.equal(end.timeline, 1);
    assert.ok(parseLsn(end.lsn) >= parseLsn(written));
    assert.deepEqual(await standby.position(), end, 'the same without a hint');
    await standby.stop('immediate');
    assert.deepEqual(await standby.position(), end, 'the same when it is down');
    await primary.start();
    await streamAgain();
  });

  it('is the end of the last complete record: half a record counts for nothing', async () => {
    const before = await primary.lsn();
    await primary.sql("select pg_logical_emit_message(true, 'big', repeat('x', 300000))");
    await standby.untilCaughtUp(primary);
    await standby.stop('immediate');
    const { file, offset } = placeOf(before);
    assert.ok(offset < SEGMENT_BYTES - 400_000, 'the record crosses a segment: the test is not meant for that');
    assert.ok(parseLsn((await standby.position()).lsn) > parseLsn(before) + 300_000n);
    await lab.sh(`dd if=/dev/zero of=${file} bs=1 seek=${offset + 150_000} count=50000 conv=notrunc status=none`);
    const { lsn } = await standby.position();
    assert.ok(parseLsn(lsn) >= parseLsn(before) && parseLsn(lsn) < parseLsn(before) + 1_000n, `${before} ${lsn}`);
    await streamAgain();
  });

  it('may be the boundary of a segment, with or without the next file', async () => {
    await primary.sql('insert into t values (2)');
    const switched = parseLsn(await primary.sql('select pg_switch_wal()'));
    const boundary = BigInt(Math.ceil(Number(switched) / SEGMENT_BYTES) * SEGMENT_BYTES);
    // No record behind it: neither the primary nor anybody else writes one.
    await standby.until(`pg_last_wal_receive_lsn() >= '0/${boundary.toString(16)}'`);
    await standby.stop('immediate');
    const { file } = placeOf(`0/${boundary.toString(16)}`);
    for (const next of ['rm -f', 'truncate --size=16M', `cp ${placeOf('0/2000000').file}`]) {
      await lab.sh(`${next} ${file}`);
      assert.deepEqual(
        await standby.position(),
        { timeline: 1, lsn: `0/${boundary.toString(16).toUpperCase()}` },
        next,
      );
    }
    await lab.sh(`rm -f ${file}`);
    await streamAgain();
  });

  it('is not extended by a record that a recycled file left right behind the end', async () => {
    await primary.sql('create table same (id int)');
    await primary.sql('checkpoint');
    // The same record many times over: each is as long as the last.
    for (let index = 0; index < 4; index += 1) await primary.sql("select pg_logical_emit_message(false, 'm', 'x')");
    await standby.untilCaughtUp(primary);
    await standby.stop('immediate');
    const { lsn } = await standby.position();
    const records = await lab.sh(
      `(pg_waldump -p ${standby.path}/pg_wal -r LogicalMessage ${placeOf(lsn).file.split('/').at(-1)} 2>&1 || true) | grep rmgr | tail -1`,
    );
    const last = /lsn: (\S+), prev/.exec(records)?.[1];
    assert.ok(last, records);
    const from = placeOf(last);
    const to = placeOf(lsn);
    const copy = `dd if=${from.file} of=${to.file} bs=1 skip=${from.offset} seek=${to.offset} count=${to.offset - from.offset} conv=notrunc status=none`;
    await lab.sh(copy);
    const bytes = (at: number): string => `dd if=${to.file} bs=1 skip=${at} count=54 status=none | md5sum`;
    assert.equal(
      await lab.sh(bytes(from.offset)),
      await lab.sh(bytes(to.offset)),
      'a whole record, its checksum right',
    );
    assert.equal((await standby.position(lsn)).lsn, lsn);
    await lab.sh(`dd if=/dev/zero of=${to.file} bs=1 seek=${to.offset} count=100 conv=notrunc status=none`);
    await streamAgain();
  });

  it('is on the old timeline for as long as there is only the history of the new one', async () => {
    await standby.stop();
    const { lsn } = await standby.position();
    const history = `${standby.path}/pg_wal/00000002.history`;
    await lab.sh(`printf '1\\t${lsn}\\tno recovery target specified\\n' >${history}`);
    assert.deepEqual(await standby.position(), { timeline: 1, lsn });
    // With a file of the new timeline that holds nothing but the old one's log, too.
    const { file } = placeOf(lsn);
    await lab.sh(`cp ${file} ${file.replace('pg_wal/00000001', 'pg_wal/00000002')}`);
    assert.deepEqual(await standby.position(), { timeline: 1, lsn });
    await lab.sh(`rm ${standby.path}/pg_wal/00000002*`);
    await streamAgain();
  });

  it('is on the new timeline from its first record on', async () => {
    const chosen = await lab.standby('chosen', primary);
    await primary.stop();
    const fork = (await chosen.position()).lsn;
    assert.equal(await chosen.promote(), 2);
    await standby.follow(chosen);
    await standby.reload();
    await standby.untilCaughtUp(chosen);
    await standby.stop('immediate');
    const { timeline, lsn } = await standby.position();
    assert.equal(timeline, 2);
    assert.ok(parseLsn(lsn) > parseLsn(fork));
    await chosen.stop('immediate');
    assert.deepEqual((await chosen.position()).timeline, 2);
  });

  it('is not known of data that a rejoin has begun to change, of a copy never started, and of none', async () => {
    await lab.sh(`echo '{' >${standby.path}.rejoin.json`);
    await assert.rejects(standby.position(), /PositionUnknown: a rejoin is not finished/);
    await lab.sh(`rm ${standby.path}.rejoin.json; touch ${standby.path}/backup_label`);
    await assert.rejects(standby.position(), /PositionUnknown: the data is a copy/);
    await lab.sh(`rm -r ${standby.path}/PG_VERSION`);
    await assert.rejects(standby.position(), /PositionUnknown: there is no data/);
  });
});
