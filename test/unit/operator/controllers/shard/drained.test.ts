/** Whose turn it is to leave a drained region. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Shard } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import { drainAtOnce, drainTurn } from '#operator/controllers/shard/drained.ts';
import type { Cache } from '#operator/runtime/controller.ts';

function shard(name: string, priority: number, region: string | undefined, isRefused = false): Stored<Shard> {
  return {
    apiVersion: 'meridian.db/v1alpha1',
    kind: 'Shard',
    metadata: { namespace: 'prod', name, uid: name, resourceVersion: '1', creationTimestamp: '' },
    spec: {
      keyspace: 'shop',
      primaryRegion: 'eu',
      postgres: { version: '17', parameters: {} },
      storage: { size: '1Gi' },
      durability: { acknowledgements: 1, scope: 'AnyMember', onLoss: 'Block' },
      failover: { mode: 'Automatic', priority },
      deletionPolicy: 'Retain',
    },
    status: {
      ...(region === undefined
        ? {}
        : {
            authority: {
              epoch: 1,
              timeline: 1,
              member: `${name}-${region}-0`,
              incarnation: 'a'.repeat(16),
              region,
              since: '2026-01-01T00:00:00Z',
              state: 'Active' as const,
            },
          }),
      conditions: isRefused
        ? [{ type: 'SwitchoverPossible', status: 'False', reason: 'X', message: '', lastTransitionTime: '' }]
        : [],
    },
  };
}

const cacheOf = (shards: readonly Stored<Shard>[]): Cache => ({
  get: () => undefined,
  list: () => shards as never,
});
const turns = (shards: readonly Stored<Shard>[]): string[] =>
  shards.filter((one) => drainTurn(one, cacheOf(shards))).map(({ metadata }) => metadata.name);

const many = Array.from({ length: 10 }, (_, index) => shard(`s${index}`, index % 5, 'eu'));

test('a bounded number goes at once, the most important first, and by name among equals', () => {
  assert.deepEqual(turns(many).toSorted(), ['s3', 's4', 's8', 's9']);
  assert.equal(drainAtOnce, 4);
});

test('those elsewhere, and those that have no primary yet, take nobody the turn', () => {
  const others = Array.from({ length: 10 }, (_, index) => shard(`a${index}`, 1000, index % 2 === 0 ? 'us' : undefined));
  const shards = [...others, shard('z', 0, 'eu')];
  assert.equal(drainTurn(shard('z', 0, 'eu'), cacheOf(shards)), true);
});

test('one that can not move holds nobody up, and still has its own turn', () => {
  const refused = Array.from({ length: 4 }, (_, index) => shard(`r${index}`, 1000, 'eu', true));
  assert.deepEqual(turns([...refused, ...many]).toSorted(), ['r0', 'r1', 'r2', 'r3', 's3', 's4', 's8', 's9']);
});
