import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  type MigrationStep,
  nextMigrationStep,
  type ShardProgress,
} from '#operator/controllers/keyspace/migration-steps.ts';

const shard = (name: string, applied: number, over: Partial<ShardProgress> = {}): ShardProgress => ({
  name,
  ordinal: name.charCodeAt(0) - 97,
  applied,
  reachable: true,
  failed: false,
  ...over,
});

const cases: readonly {
  readonly behaviour: string;
  readonly shards: readonly ShardProgress[];
  readonly declared: number;
  readonly step: MigrationStep;
}[] = [
  { behaviour: 'no shards: nothing to do', shards: [], declared: 3, step: { kind: 'done' } },
  {
    behaviour: 'a new one runs on the lowest ordinal alone',
    shards: [shard('b', 1), shard('a', 1)],
    declared: 3,
    step: { kind: 'run', shards: ['a'], upTo: 2 },
  },
  {
    behaviour: 'then on all the others',
    shards: [shard('a', 2), shard('b', 1), shard('c', 1)],
    declared: 3,
    step: { kind: 'run', shards: ['b', 'c'], upTo: 2 },
  },
  {
    behaviour: 'a new shard catches up at once',
    shards: [shard('a', 3), shard('b', 0)],
    declared: 3,
    step: { kind: 'run', shards: ['b'], upTo: 3 },
  },
  { behaviour: 'all have all: done', shards: [shard('a', 3), shard('b', 3)], declared: 3, step: { kind: 'done' } },
  {
    behaviour: 'a failure stops what is new',
    shards: [shard('a', 1, { failed: true }), shard('b', 1)],
    declared: 3,
    step: { kind: 'failed' },
  },
  {
    behaviour: 'a failure while catching up does not stop the others from catching up',
    shards: [shard('a', 2), shard('b', 1, { failed: true }), shard('c', 0)],
    declared: 3,
    step: { kind: 'run', shards: ['c'], upTo: 2 },
  },
  {
    behaviour: 'but stops what is new',
    shards: [shard('a', 2), shard('b', 1, { failed: true }), shard('c', 2)],
    declared: 3,
    step: { kind: 'failed' },
  },
  {
    behaviour: 'a shard with a schema that is away holds new ones back',
    shards: [shard('a', 1), shard('b', 1, { reachable: false })],
    declared: 2,
    step: { kind: 'waiting', shards: ['b'] },
  },
  {
    behaviour: 'a shard that never had a schema holds nobody back',
    shards: [shard('a', 0), shard('b', 0, { reachable: false })],
    declared: 2,
    step: { kind: 'run', shards: ['a'], upTo: 1 },
  },
  {
    behaviour: 'others catch up with a shard that is away',
    shards: [shard('a', 0), shard('b', 2, { reachable: false })],
    declared: 3,
    step: { kind: 'run', shards: ['a'], upTo: 2 },
  },
  {
    behaviour: 'only the part that can be read is run',
    shards: [shard('a', 3), shard('b', 0)],
    declared: 2,
    step: { kind: 'run', shards: ['b'], upTo: 2 },
  },
];

describe('the next step of migrations', () => {
  for (const { behaviour, shards, declared, step } of cases)
    test(behaviour, () => {
      assert.deepEqual(nextMigrationStep(shards, declared), step);
    });

  test('for any shards and failures: it ends, never skips one, and what is new starts only where all have the one before', () => {
    const world = fc.record({
      declared: fc.nat(5),
      shards: fc.array(fc.record({ applied: fc.nat(3), reachable: fc.boolean() }), { maxLength: 4 }),
      failsAt: fc.option(fc.record({ shard: fc.nat(3), migration: fc.integer({ min: 1, max: 5 }) }), {
        nil: undefined,
      }),
    });
    fc.assert(
      fc.property(world, ({ declared, shards: drawn, failsAt }) => {
        let shards = drawn.map(({ applied, reachable }, n) =>
          shard(String.fromCharCode(97 + n), Math.min(applied, declared), { reachable }),
        );
        for (let round = 0; ; round++) {
          assert.ok(round < 40, 'does not end');
          const step = nextMigrationStep(shards, declared);
          if (step.kind !== 'run') {
            if (step.kind === 'done') assert.ok(shards.every((each) => !each.reachable || each.applied >= declared));
            break;
          }
          assert.ok(step.shards.length > 0);
          const frontBefore = Math.max(...shards.map(({ applied }) => applied));
          if (step.upTo > frontBefore) {
            assert.equal(step.upTo, frontBefore + 1);
            assert.equal(step.shards.length, 1);
            for (const each of shards)
              assert.ok(each.applied === frontBefore || (!each.reachable && each.applied === 0), 'someone is behind');
            assert.ok(shards.every((each) => !each.failed));
          }
          shards = shards.map((each, n) => {
            if (!step.shards.includes(each.name)) return each;
            assert.ok(each.reachable && !each.failed && each.applied < step.upTo);
            const stuck = failsAt?.shard === n && each.applied < failsAt.migration && failsAt.migration <= step.upTo;
            return stuck ? { ...each, applied: failsAt.migration - 1, failed: true } : { ...each, applied: step.upTo };
          });
        }
      }),
      { numRuns: 500 },
    );
  });
});
