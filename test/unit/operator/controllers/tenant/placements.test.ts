import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Tenant } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import { isVisibleIn } from '#operator/controllers/tenant/observe.ts';
import { OwnershipReader } from '#operator/controllers/tenant/ownership-reader.ts';
import { Placements } from '#operator/controllers/tenant/placements.ts';

const never = () => false;

describe('placements that the cache does not show yet', () => {
  test('of two that saw the same loads the second must look again', () => {
    const placements = new Placements();
    const seen = placements.version('prod/shop');
    assert.equal(placements.claim('prod/shop', { uid: '1', key: 'x' }, 'a', seen), true);
    assert.equal(placements.claim('prod/shop', { uid: '2', key: 'y' }, 'a', seen), false);
    assert.equal(placements.claim('prod/shop', { uid: '2', key: 'y' }, 'b', placements.version('prod/shop')), true);
    assert.deepEqual(
      [...placements.pending('prod/shop', never)].map(([uid, { shard }]) => [uid, shard]),
      [
        ['1', 'a'],
        ['2', 'b'],
      ],
    );
  });

  test('keyspaces do not disturb each other', () => {
    const placements = new Placements();
    assert.equal(placements.claim('prod/shop', { uid: '1', key: 'x' }, 'a', 0), true);
    assert.equal(placements.claim('prod/crm', { uid: '2', key: 'x' }, 'a', 0), true);
  });

  test('a key is never placed twice', () => {
    const placements = new Placements();
    placements.claim('prod/shop', { uid: '1', key: 'x' }, 'a', 0);
    assert.equal(placements.claim('prod/shop', { uid: '2', key: 'x' }, 'b', 1), false);
    // The same tenant may try again: nobody knows whether the first record was written.
    assert.equal(placements.claim('prod/shop', { uid: '1', key: 'x' }, 'b', 1), true);
  });

  test('what the cache shows is forgotten, what was withdrawn counts no more', () => {
    const placements = new Placements();
    placements.claim('prod/shop', { uid: '1', key: 'x' }, 'a', 0);
    placements.claim('prod/shop', { uid: '2', key: 'y' }, 'a', 1);
    placements.withdraw('prod/shop', '2');
    assert.equal(placements.version('prod/shop'), 3);
    assert.equal(placements.pending('prod/shop', (uid) => uid === '1').size, 0);
  });

  test('a tenant that was deleted before anybody looked leaves its key to the one that is made again', () => {
    const placements = new Placements();
    placements.claim('prod/shop', { uid: '1', key: 'x' }, 'a', 0);
    const again = { metadata: { uid: '2' }, spec: { key: 'x' } } as Stored<Tenant>;
    placements.pending('prod/shop', isVisibleIn([again]));
    assert.equal(placements.claim('prod/shop', { uid: '2', key: 'x' }, 'a', placements.version('prod/shop')), true);
  });

  test('a tenant whose placement the cache does not show yet keeps its key', () => {
    const placements = new Placements();
    placements.claim('prod/shop', { uid: '1', key: 'x' }, 'a', 0);
    const placed = { metadata: { uid: '1' }, spec: { key: 'x' } } as Stored<Tenant>;
    placements.pending('prod/shop', isVisibleIn([placed]));
    assert.equal(placements.claim('prod/shop', { uid: '2', key: 'x' }, 'a', placements.version('prod/shop')), false);
  });
});

describe('ownership rows read for all tenants of a shard', () => {
  const shard = { uid: 's', epoch: 1, incarnation: 'i' };
  const row = { key: 'x', serial: 1, epoch: 1, state: 'active' as const, attempt: 0, until: undefined };

  test('are read once for many tenants, and again after a failover or when they are old', async () => {
    let nowMs = 0;
    let reads = 0;
    const reader = new OwnershipReader(() => nowMs);
    const read = () => {
      reads++;
      return Promise.resolve([row]);
    };
    const views = await Promise.all(['x', 'y', 'x'].map((key) => reader.row(shard, key, read)));
    assert.deepEqual(
      views.map(({ kind }) => kind),
      ['present', 'absent', 'present'],
    );
    assert.equal(reads, 1);
    await reader.row({ ...shard, epoch: 2 }, 'x', read);
    assert.equal(reads, 2);
    nowMs = 3600_000;
    await reader.row({ ...shard, epoch: 2 }, 'x', read);
    assert.equal(reads, 3);
  });

  test('what was written since is remembered over what was read', async () => {
    const reader = new OwnershipReader();
    const read = () => Promise.resolve([row]);
    await reader.row(shard, 'x', read);
    reader.note('s', 'x', undefined);
    reader.note('s', 'y', { epoch: 1, state: 'active', attempt: 0 });
    assert.equal((await reader.row(shard, 'x', read)).kind, 'absent');
    assert.equal((await reader.row(shard, 'y', read)).kind, 'present');
  });

  test('a shard that does not answer leaves its rows unknown, and is asked again a little later', async () => {
    let nowMs = 0;
    const reader = new OwnershipReader(() => nowMs);
    assert.deepEqual(await reader.row(shard, 'x', () => Promise.reject(new Error('timeout'))), {
      kind: 'unknown',
      message: 'timeout',
    });
    assert.equal((await reader.row(shard, 'x', () => Promise.resolve([row]))).kind, 'unknown');
    nowMs = 2000;
    assert.equal((await reader.row(shard, 'x', () => Promise.resolve([row]))).kind, 'present');
  });
});
