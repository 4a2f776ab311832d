/** A primary behind its opening gate whose orders come to ask for fewer acknowledgements: it opens by those, as if asked at first. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { MemberFixture } from './member-fixture.ts';
import { KeyspaceFixture, type ShardFixture } from './member-fixture.ts';

describe('a gate that waits for more followers than there are', { timeout: 300_000 }, () => {
  let keyspace: KeyspaceFixture;
  let shard: ShardFixture;
  let primary: MemberFixture;

  before(async () => {
    keyspace = await KeyspaceFixture.start('opening');
    shard = await keyspace.shard({
      members: [
        { name: 'main-eu-0', region: 'eu' },
        { name: 'main-us-0', region: 'us' },
      ],
      acknowledgements: 2,
    });
    primary = shard.primary;
    await shard.initialise();
  });
  after(async () => {
    await keyspace?.stop();
  });

  it('is opened by those that are there once only so many are asked for', async () => {
    const follower = shard.member('main-us-0');
    const members = [await follower.identity()];
    const lease = { members, required: 1, kubernetes: false };
    await shard.order(primary, { role: 'Primary', synchronous: { acknowledgements: 2, members }, lease });
    await shard.follow(follower);
    await follower.until('caught up', ({ upstream }) => upstream?.caughtUp === true);
    // What the operator takes a position from before it records a change that Postgres makes first.
    const shut = await primary.until('applied', ({ orders }) => orders?.applied === true);
    assert.deepEqual([shut.phase, shut.postgres?.open], ['Opening', false]);
    await shard.order(primary, { role: 'Primary', synchronous: { acknowledgements: 1, members }, lease });
    await primary.until('open', ({ phase, postgres }) => phase === 'Primary' && postgres?.open === true);
    assert.match(await primary.local('show synchronous_standby_names'), /^ANY 1 \("main-us-0/);
  });

  it('is opened by nobody once nobody is asked for, also after it was started again', async () => {
    await shard.member('main-us-0').kill();
    await primary.kill();
    await primary.startAgain();
    await primary.until('opening', ({ phase }) => phase === 'Opening');
    const none = { acknowledgements: 0, members: [] };
    const lease = { members: [], required: 0, kubernetes: false };
    await shard.order(primary, { role: 'Primary', synchronous: none, lease });
    await primary.until('open', ({ phase, postgres }) => phase === 'Primary' && postgres?.open === true);
    const client = await primary.connect();
    await client.query('create table opened (id int)');
    await client.end();
  });
});
