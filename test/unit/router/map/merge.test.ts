/** Authority never goes back, and what is gone is gone. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { ClusterMap, ShardView } from '#router/map/map.ts';
import { mergeMaps } from '#router/map/merge.ts';
import { memberGeneration } from '#router/pool/pools.ts';
import { map } from '../exec/fixture.ts';

const withShard = (shard: ShardView | undefined): ClusterMap => ({
  ...map,
  shards: new Map(shard === undefined ? [] : [['one', shard]]),
});
const shard = (epoch: number, primary: string, uid = 'u'): ShardView => ({ name: 'one', uid, epoch, primary });

describe('merging maps', () => {
  test('a lower epoch never replaces a higher one, in whatever order they come', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 12 }), (epochs) => {
        let merged: ClusterMap | undefined;
        for (const epoch of epochs) merged = mergeMaps(merged, withShard(shard(epoch, `primary-${epoch}`)));
        const highest = Math.max(...epochs);
        assert.equal(merged?.shards.get('one')?.primary, `primary-${highest}`);
      }),
    );
  });

  test('the same epoch takes what is new: a primary that stops, or opens', () => {
    const merged = mergeMaps(withShard(shard(2, 'a')), withShard({ name: 'one', uid: 'u', epoch: 2 }));
    assert.equal(merged.shards.get('one')?.primary, undefined);
  });

  test('a shard made anew under an old name starts from its own epoch', () => {
    const merged = mergeMaps(withShard(shard(7, 'old')), withShard(shard(1, 'new', 'other')));
    assert.equal(merged.shards.get('one')?.primary, 'new');
    assert.equal(mergeMaps(withShard(shard(7, 'old')), withShard(undefined)).shards.size, 0);
  });
});

test('a backend’s generation changes with authority and address, and ends with the member', () => {
  const before = memberGeneration(withShard(shard(2, 'one-eu-0')), 'one-eu-0');
  assert.notEqual(before, memberGeneration(withShard(shard(3, 'one-eu-0')), 'one-eu-0'));
  assert.notEqual(before, memberGeneration(withShard(shard(3, 'one-us-0')), 'one-eu-0'));
  assert.equal(memberGeneration(map, 'nobody'), undefined);
});
