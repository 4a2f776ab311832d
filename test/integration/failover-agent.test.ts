/** Members whose primary is lost, or handed over: fenced, one of them promoted, and what its clients see meanwhile. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { KeyspaceFixture, type MemberFixture, type ShardFixture } from './member-fixture.ts';

describe('a shard that loses its primary', { timeout: 300_000 }, () => {
  let keyspace: KeyspaceFixture;
  let shard: ShardFixture;
  let eu: MemberFixture;
  let us: MemberFixture;
  let ap: MemberFixture;

  before(async () => {
    keyspace = await KeyspaceFixture.start('lost');
    shard = await keyspace.shard({
      members: [
        { name: 'main-eu-0', region: 'eu' },
        { name: 'main-us-0', region: 'us' },
        { name: 'main-ap-0', region: 'ap' },
      ],
      acknowledgements: 1,
    });
    await shard.bringUp();
    eu = shard.member('main-eu-0');
    us = shard.member('main-us-0');
    ap = shard.member('main-ap-0');
  });
  after(async () => {
    await keyspace?.stop();
  });

  it('goes on with another one: fenced, chosen by position, promoted on the recorded timeline, with all that was acknowledged', async () => {
    const client = await eu.connect();
    await client.query('create table notes (id int primary key, note text)');
    await client.query("insert into notes values (1, 'acknowledged')");
    await eu.kill();
    const t0 = performance.now();
    const answers = await Promise.all([us.fence(2), ap.fence(2)]);
    const t1 = performance.now();
    console.log('fenced in', t1 - t0, JSON.stringify(answers));
    const [first, second] = answers;
    assert.ok(first.position !== null && second.position !== null);
    await shard.decide(us, 2, first.position.lsn);
    const t2 = performance.now();
    await shard.takeOver([ap]);
    const t3 = performance.now();
    await us.until('open', ({ postgres, phase }) => phase === 'Primary' && postgres?.open === true);
    const t4 = performance.now();
    console.log('orders', t3 - t2, 'open', t4 - t3);
    const again = await us.connect();
    assert.deepEqual((await again.query('select id from notes')).rows, [{ id: 1 }]);
    await again.query("insert into notes values (2, 'after')");
    const { rows } = await again.query('select epoch::int, timeline::int, opening::int from meridian.authority');
    console.log(rows);
    await again.end();
  });
});
