/** A promotion takes exactly the recorded timeline, and everybody finds the way to it (docs/design-traps.md, A5, B12). */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type LabCluster, RejoinLab } from './rejoin-lab.ts';

describe('timelines that the record gives out', () => {
  let lab: RejoinLab;
  let a: LabCluster;
  let b: LabCluster;
  let c: LabCluster;

  before(async () => {
    lab = await RejoinLab.start();
    a = await lab.primary('a');
    await a.sql('create table t (id int)');
    [b, c] = [await lab.standby('b', a), await lab.standby('c', a)];
  });
  after(() => lab.stop());

  const historiesOf = (cluster: LabCluster): Promise<string> =>
    lab.sh(`cd ${cluster.path}/pg_wal && echo $(ls | grep history || true)`);

  it('are taken by the promoted one, though numbers were skipped', async () => {
    await a.sql('insert into t values (1)');
    for (const standby of [b, c]) await standby.untilCaughtUp(a);
    await a.stop('immediate');
    await b.follow(undefined);
    await b.reload();
    const { timeline } = await b.position();
    await b.call('prepare', { timeline, wanted: 5 });
    // The standby looks for newer timelines all the time: it sees the stubs and stays what it is.
    await b.until("pg_is_in_recovery() and pg_sleep(0.3)::text = ''");
    assert.equal(await b.promote(), 5);
    await b.sql('insert into t values (2)');
  });

  it('lead a running follower to the new primary, which has a file for every number in between', async () => {
    await c.follow(b);
    await c.reload();
    await c.untilCaughtUp(b);
    assert.equal(await historiesOf(c), '00000002.history 00000003.history 00000004.history 00000005.history');
    assert.equal((await c.position()).timeline, 5);
  });

  it('let a follower start again, with its primary away', async () => {
    await c.stop();
    assert.deepEqual(await c.call('settle'), []);
    await c.follow(undefined);
    await c.start();
    await c.until("(select string_agg(id::text, ',' order by id) from t) = '1,2'");
  });

  it('do not keep a follower from starting when only the stubs have come, or a history that its data never reached', async () => {
    const { lsn } = await c.position();
    await c.stop();
    for (const text of ['# Meridian: this number', `5\t${lsn}\tahead of the data`]) {
      // As the agent's own stub: what it was fetched from has the same.
      await lab.sh(`cd ${c.path}/pg_wal && cp 00000002.history 00000006.history`);
      if (text.startsWith('5')) await lab.sh(`cd ${c.path}/pg_wal && printf '${text}\\n' >00000007.history`);
      else {
        await assert.rejects(c.start(2), 'it starts in any case: the test shows nothing');
        await c.stop('immediate');
      }
      const removed = (await c.call('settle')) as string[];
      assert.equal(removed[0], '00000006.history');
      await c.start();
      await c.stop();
    }
    await c.start();
  });

  it('are refused to a standby that may have taken another history for its own', async () => {
    const { timeline, lsn } = await c.position();
    await lab.sh(`printf '5\\t${lsn}\\tahead of the data\\n' >${c.path}/pg_wal/00000006.history`);
    await assert.rejects(() => c.call('prepare', { timeline, wanted: 8 }), /StandbyMustRestart/);
    await c.stop();
    await c.call('settle');
    await c.start();
    await c.call('prepare', { timeline, wanted: 8 });
    assert.equal(await c.promote(), 8);
    await c.sql('insert into t values (3)');
  });

  it('are not found by a running follower that took a history without data for its own, until it starts again', async () => {
    const e = await lab.standby('e', c);
    const { timeline, lsn } = await e.position();
    // As if it had come from a primary that died before it sent anything else: the standby finds it at its next look.
    await lab.sh(
      `cp ${c.path}/pg_wal/0000000[2-8].history ${e.path}/pg_wal/ && printf '8\\t${lsn}\\tdied alone\\n' >${e.path}/pg_wal/00000009.history`,
    );
    await e.follow(undefined);
    await e.reload();
    await lab.sh(`until grep -q 'new target timeline is 9' ${e.path}.log; do sleep 0.05; done`);
    const history = [
      { epoch: 8, timeline: 8, member: 'c', forkLsn: '0/0' },
      { epoch: 9, timeline: 9, member: 'x', forkLsn: lsn, parent: 8 },
      { epoch: 10, timeline: 10, member: 'f', forkLsn: lsn, parent: 8 },
    ];
    assert.equal(await e.call('misled', { timeline, history, wanted: 9 }), false);
    assert.equal(await e.call('misled', { timeline, history, wanted: 10 }), true);
    await e.stop();
    await e.call('settle');
    assert.equal(await e.call('misled', { timeline, history, wanted: 10 }), false);
  });

  it('bring one that comes from far back all the way, also when the new primary never had its files', async () => {
    // A copy of the newest: of all history files it has the last one only.
    const d = await lab.standby('d', c);
    assert.equal(await historiesOf(d), '00000008.history');
    await d.stop();
    await d.call('settle');
    await c.stop();
    await d.start();
    await d.call('prepare', { timeline: (await d.position()).timeline, wanted: 9 });
    assert.equal(await d.promote(), 9);
    await d.sql('insert into t values (4)');
    // It stopped on timeline 5 before anything of 8 was there.
    await b.stop();
    await b.call('settle');
    const wish = {
      history: [
        { epoch: 1, timeline: 1, member: 'a', forkLsn: '0/0' },
        { epoch: 5, timeline: 5, member: 'b', forkLsn: '0/0', parent: 1 },
      ],
      wanted: 5,
    };
    assert.deepEqual(await b.call('assess', wish), { kind: 'Follow' });
    await d.stop('immediate');
    await d.start();
    assert.match(await historiesOf(d), /^00000002.history .*00000009.history$/);
  });
});
