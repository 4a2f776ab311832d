/** A primary and two followers, from nothing: what replication through the tunnels promises. Real Postgres in containers. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { KeyspaceFixture, type ShardFixture } from './member-fixture.ts';

describe('a shard of three members', { timeout: 240_000 }, () => {
  let keyspace: KeyspaceFixture;
  let shard: ShardFixture;

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
  });

  after(async () => {
    await keyspace?.stop();
  });

  it('has what was committed on its primary on every follower', async () => {
    const primary = await shard.primary.connect();
    await primary.query('create table seen (id int primary key)');
    await primary.query('insert into seen select generate_series(1, 1000)');
    const { rows } = await primary.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn');
    for (const follower of shard.followers) {
      const client = await follower.connect();
      for (;;) {
        const replayed = await client.query<{ is: boolean }>('select pg_last_wal_replay_lsn() >= $1::pg_lsn as is', [
          rows[0]?.lsn,
        ]);
        if (replayed.rows[0]?.is === true) break;
      }
      const count = await client.query<{ count: string }>('select count(*) from seen');
      assert.equal(count.rows[0]?.count, '1000');
      await assert.rejects(client.query('insert into seen values (0)'), /read-only transaction/);
      await client.end();
    }
    await primary.end();
  });
});
