/** A member whose log left the line: what is lost is counted and kept, and it comes back, wherever it is interrupted. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { parseLsn } from '#core/lsn.ts';
import type { Orders } from '#core/protocol/orders.ts';
import { type LabCluster, RejoinLab } from './rejoin-lab.ts';

const rowsSql = "select count(*) || ' ' || coalesce(sum(hashtext(t::text)), 0) from t";

describe('a member whose log has diverged', () => {
  let lab: RejoinLab;
  /** The primary of now, and whoever was it before. */
  let primary: LabCluster;
  let former: LabCluster;
  let history: Orders['history'] = [{ epoch: 1, timeline: 1, member: 'a', forkLsn: '0/0' }];

  before(async () => {
    lab = await RejoinLab.start();
    primary = await lab.primary('a');
    await primary.sql(
      "create table t (id int, word text); insert into t select i, repeat('x', 200) from generate_series(1, 20000) i",
    );
    former = await lab.standby('b', primary);
  });
  after(() => lab.stop());

  /** The follower becomes primary at the next timeline; the old one, not told, commits `transactions` more. */
  const partWays = async (transactions: number): Promise<void> => {
    [primary, former] = [former, primary];
    await primary.untilCaughtUp(former);
    await primary.follow(undefined);
    await primary.reload();
    await primary.until('not exists (select from pg_stat_wal_receiver)');
    const { timeline, lsn } = await primary.position();
    await primary.call('prepare', { timeline, wanted: timeline + 1 });
    assert.equal(await primary.promote(), timeline + 1);
    history = [
      ...history,
      { epoch: timeline + 1, timeline: timeline + 1, member: 'x', forkLsn: lsn, parent: timeline },
    ];
    for (let count = 0; count < transactions; count += 1) {
      await former.sql(`update t set word = 'lost' where id % ${count + 2} = 0`);
    }
    await primary.sql("insert into t values (-1, 'kept'); update t set word = 'new' where id < 500; checkpoint");
  };
  const comeBack = async (): Promise<void> => {
    await former.follow(primary);
    await former.call('settle');
    await former.start();
    await former.untilCaughtUp(primary);
    assert.equal(await former.sql(rowsSql), await primary.sql(rowsSql));
    const [newest] = history.slice(-1);
    assert.deepEqual((await former.position()).timeline, newest?.timeline);
    await lab.sh(`rm -rf ${former.path}.kept`);
  };
  const assess = (): Promise<unknown> => former.call('assess', { history, wanted: history.at(-1)?.timeline });

  it('counts the transactions past the fork, keeps its log aside, is rewound and follows', async () => {
    await partWays(3);
    // Without an id, or without a commit: not counted.
    await former.sql("begin; update t set word = 'undone'; rollback; select pg_logical_emit_message(false, 'a', 'b')");
    await former.sql("begin; update t set word = 'prepared' where id = 7; select 1; commit; checkpoint");
    await former.stop('immediate');
    const fork = history.at(-1)?.forkLsn;
    const need = (await assess()) as { kind: string; diverged: { forkLsn: string; lsn: string; timeline: number } };
    assert.equal(need.kind, 'Diverged');
    assert.equal(need.diverged.forkLsn, fork);
    const outcome = (await lab.call(former.rewindFrom(primary, history))) as {
      kind: string;
      rejoined: { transactions: number; forkLsn: string; lsn: string };
    };
    assert.equal(outcome.kind, 'Rewound', JSON.stringify(outcome));
    const kept = await lab.sh(`ls -d ${former.path}.kept/*`);
    assert.deepEqual(outcome.rejoined, {
      how: 'Rewind',
      epoch: 2,
      forkLsn: fork,
      lsn: need.diverged.lsn,
      transactions: 4,
      keptIn: kept,
    });
    assert.match(await lab.sh(`cat ${kept}/kept.json`), /"transactions":4.*"complete":true/);
    const first = await lab.sh(`cd ${kept} && ls 0* | head -1`);
    const log = await lab.sh(
      `(pg_waldump -p ${kept} -r Transaction -s ${fork} ${first} 2>&1 || true) | grep -c 'desc: COMMIT'`,
    );
    assert.equal(log, '4');
    await comeBack();
  });

  it('does so too when it stopped cleanly, and when it was a follower that nobody asked', async () => {
    await partWays(1);
    await former.stop('fast');
    assert.equal(((await assess()) as { kind: string }).kind, 'Diverged');
    assert.equal(((await lab.call(former.rewindFrom(primary, history))) as { kind: string }).kind, 'Rewound');
    await comeBack();

    // It streamed the lost transactions from the former primary, and has replayed only some of them.
    const late = await lab.standby('late', primary);
    const asked = former;
    await partWays(1);
    const old = former;
    await late.untilCaughtUp(old);
    await late.stop('fast');
    former = late;
    assert.equal(((await assess()) as { kind: string }).kind, 'Diverged');
    const outcome = (await lab.call(former.rewindFrom(primary, history))) as {
      kind: string;
      rejoined: { transactions: number };
    };
    assert.equal(outcome.kind, 'Rewound', JSON.stringify(outcome));
    // The one of the wait for it, too.
    assert.equal(outcome.rejoined.transactions, 2);
    await comeBack();
    await late.stop();
    assert.equal(primary, asked);
    former = old;
    await former.stop('immediate');
    assert.equal(((await lab.call(former.rewindFrom(primary, history))) as { kind: string }).kind, 'Rewound');
    await comeBack();
  });

  /** Ends the rewind and all its programs a moment after it has come to that stage, as a container's death would. */
  const killIn = async (stage: string, afterSeconds: number): Promise<string> => {
    const file = `${former.path}.rejoin.json`;
    await lab.sh(`cat >/lab/rewind.sh <<'END'\n${lab.command(former.rewindFrom(primary, history))}\nEND`);
    await lab.sh(`
      setsid bash /lab/rewind.sh >/dev/null 2>&1 & pid=$!
      while ! grep -qs '${stage}' ${file} && kill -0 $pid; do sleep 0.005; done
      sleep ${afterSeconds}
      kill -9 -- -$pid || true
      wait $pid || true`);
    const text = await lab.sh(`cat ${file} 2>/dev/null || true`);
    return text === '' ? 'none' : (JSON.parse(text) as { stage: string }).stage;
  };
  const rewind = async (): Promise<{ kind: string; reason?: string }> =>
    (await lab.call(former.rewindFrom(primary, history))) as { kind: string; reason?: string };

  it('comes back though it is killed on the way, and is no member to count meanwhile', async () => {
    await partWays(2);
    await former.stop('immediate');
    // With nobody to come back to it stays as it is, and counts.
    await assert.rejects(lab.call(former.rewindFrom(primary, history, { port: 1 })), /psql/);
    await former.position();
    assert.equal(await killIn('"Recovering"', 0), 'Recovering');
    await assert.rejects(former.position(), /a rejoin is not finished/);
    assert.equal(((await assess()) as { kind: string }).kind, 'Interrupted');
    assert.equal(await killIn('"Rewinding".*"attempts":1', 0), 'Rewinding');
    await assert.rejects(former.position(), /a rejoin is not finished/);
    // As far as it can have come: the log of its own that the rewind reads is its source's by now.
    const fork = history.at(-1)?.forkLsn ?? '';
    const timeline = String(history.at(-2)?.timeline).padStart(8, '0');
    await lab.sh(`cd ${former.path}/pg_wal && for f in $(ls ${timeline}????????????????); do
      [ -e ${primary.path}/pg_wal/$f ] && cp ${primary.path}/pg_wal/$f $f || rm $f; done`);
    assert.deepEqual((await rewind()).kind, 'Rewound', fork);
    await comeBack();
  });

  it('comes back, or asks for a copy, wherever in pg_rewind it is killed', async () => {
    await partWays(2);
    await former.stop('immediate');
    for (const [attempt, afterSeconds] of [
      [1, 0.04],
      [2, 0.08],
    ]) {
      // On a quick machine it may have come to its end before.
      if ((await killIn(`"Rewinding".*"attempts":${attempt}`, afterSeconds ?? 0)) === 'none') return comeBack();
    }
    const outcome = await rewind();
    if (outcome.kind === 'Rewound') return comeBack();
    assert.match(outcome.reason ?? '', /all but finished/);
    assert.equal(((await assess()) as { kind: string }).kind, 'NeedsCopy');
    await replaceFormer();
    return undefined;
  });

  const replaceFormer = async (): Promise<void> => {
    await lab.sh(`rm -rf ${former.path} ${former.path}.rejoin.json ${former.path}.kept`);
    former = await lab.standby(former.path.slice('/lab/'.length), primary);
  };

  it('asks for a copy where the log from before the fork is gone, and goes on asking', async () => {
    for (let count = 0; count < 2; count += 1)
      await primary.sql("select pg_switch_wal(); insert into t values (0, 'a')");
    await partWays(1);
    await former.sql('checkpoint');
    await former.stop('immediate');
    const [fork] = history.slice(-1);
    const segment = (parseLsn(fork?.forkLsn ?? '') >> 24n).toString(16).toUpperCase().padStart(16, '0');
    await lab.sh(`cd ${former.path}/pg_wal && for f in $(ls | grep -E '^[0-9A-F]{24}$'); do
      if [[ "\${f:8}" < "${segment}" ]]; then rm $f; fi; done`);
    assert.equal(((await assess()) as { kind: string }).kind, 'Diverged');
    const outcome = await rewind();
    assert.equal(outcome.kind, 'NeedsCopy');
    assert.match(outcome.reason ?? '', /pg_rewind: error/);
    assert.deepEqual(await rewind(), outcome);
    assert.equal(((await assess()) as { kind: string }).kind, 'NeedsCopy');
    await assert.rejects(former.position(), /a rejoin is not finished/);
    assert.match(await lab.sh(`cat ${former.path}.kept/*/kept.json`), /"transactions":1.*"complete":true/);
    await replaceFormer();
  });

  it('can be rewound after checkpoints past the fork, since its anchor holds the log from before it', async () => {
    const old = await lab.primary('p');
    old.settings = { wal_keep_size: '0' };
    await old.stop();
    await old.start();
    await old.anchor();
    const slot = 'member_0123456789abcdef';
    await old.sql(`create table t (id int); select pg_create_physical_replication_slot('${slot}', true)`);
    const chosen = await lab.standby('q', old);
    await chosen.follow(old, slot);
    await chosen.reload();
    const segments = async (count: number): Promise<void> => {
      for (let made = 0; made < count; made += 1) await old.sql('insert into t values (1); select pg_switch_wal()');
    };
    // The anchor moves on with checkpoints that the follower has passed, and only with those.
    await segments(2);
    await old.sql('checkpoint');
    await chosen.untilCaughtUp(old);
    await old.until(
      `(select restart_lsn >= pg_current_wal_flush_lsn() from pg_replication_slots where slot_name = '${slot}')`,
    );
    const anchorAt = (): Promise<string> =>
      old.sql("select restart_lsn from pg_replication_slots where slot_name = 'meridian_anchor'");
    const before = await anchorAt();
    await old.anchor();
    const anchored = await anchorAt();
    assert.ok(parseLsn(anchored) > parseLsn(before));

    await segments(2);
    await chosen.untilCaughtUp(old);
    await chosen.follow(undefined);
    await chosen.reload();
    await chosen.until('not exists (select from pg_stat_wal_receiver)');
    const { lsn } = await chosen.position();
    await chosen.call('prepare', { timeline: 1, wanted: 2 });
    await chosen.promote();
    await segments(2);
    await old.sql('checkpoint');
    await old.anchor();
    assert.equal(await anchorAt(), anchored);
    await segments(2);
    await old.stop('fast');
    const forks = [
      { epoch: 1, timeline: 1, member: 'p', forkLsn: '0/0' },
      { epoch: 2, timeline: 2, member: 'q', forkLsn: lsn, parent: 1 },
    ];
    assert.deepEqual(
      await lab.call(old.rewindFrom(chosen, forks)).then((outcome) => (outcome as { kind: string }).kind),
      'Rewound',
    );
    for (const cluster of [old, chosen]) await lab.sh(`pg_ctl -D ${cluster.path} -m immediate stop || true`);
  });

  it('asks for a copy when pg_rewind had written the control file and its end was not seen', async () => {
    await partWays(1);
    await former.stop('immediate');
    await killIn('"Rewinding".*"attempts":1', 0);
    await lab.sh(`sed -i 's#"checkpoint":"[^"]*"#"checkpoint":"0/1"#' ${former.path}.rejoin.json`);
    assert.match((await rewind()).reason ?? '', /all but finished/);
    await replaceFormer();
  });

  it('asks for a copy when it was rewound to a primary that has gone, and that others never caught up with', async () => {
    await partWays(1);
    await former.stop('immediate');
    const other = await lab.standby('other', primary);
    await other.follow(undefined);
    await other.reload();
    await other.until('not exists (select from pg_stat_wal_receiver)');
    await primary.sql("update t set word = 'gone'");
    assert.equal((await rewind()).kind, 'Rewound');
    const [newest] = history.slice(-1);
    assert.deepEqual(((await assess()) as { kind: string }).kind, 'Unknown');

    const { timeline, lsn } = await other.position();
    assert.equal(timeline, newest?.timeline);
    await other.call('prepare', { timeline, wanted: timeline + 1 });
    await other.promote();
    await primary.stop('immediate');
    history = [
      ...history,
      { epoch: timeline + 1, timeline: timeline + 1, member: 'y', forkLsn: lsn, parent: timeline },
    ];
    const need = (await assess()) as { kind: string; reason: string; diverged: { timeline: number; forkLsn: string } };
    assert.equal(need.kind, 'NeedsCopy', need.reason);
    assert.deepEqual([need.diverged.timeline, need.diverged.forkLsn], [timeline, lsn]);
  });
});
