import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  type PlacementWish,
  placeTenant,
  regionsOfShard,
  residencyObstacle,
  type ShardCandidate,
  withTenantsToCome,
} from '#core/placement/placement.ts';

const shard = (name: string, over: Partial<ShardCandidate> = {}): ShardCandidate => ({
  name,
  keyspace: 'shop',
  condition: 'ready',
  deleting: false,
  primaryRegion: 'eu',
  replicaRegions: ['eu', 'us', 'ap'],
  tenants: 0,
  sizeBytes: undefined,
  ...over,
});

const wish = (over: Partial<PlacementWish> = {}): PlacementWish => ({
  keyspace: 'shop',
  shard: undefined,
  allowedRegions: undefined,
  ...over,
});

const cases: readonly {
  readonly behaviour: string;
  readonly wish?: Partial<PlacementWish>;
  readonly shards: readonly ShardCandidate[];
  readonly placed?: string;
  readonly reason?: string;
  readonly message?: RegExp;
}[] = [
  {
    behaviour: 'the shard with the fewest tenants wins',
    shards: [shard('a', { tenants: 2 }), shard('b', { tenants: 1 })],
    placed: 'b',
  },
  {
    behaviour: 'with as many tenants the smaller shard wins',
    shards: [shard('a', { tenants: 1, sizeBytes: 900 }), shard('b', { tenants: 1, sizeBytes: 100 })],
    placed: 'b',
  },
  {
    behaviour: 'fewer tenants win over fewer bytes',
    shards: [shard('a', { tenants: 1, sizeBytes: 900 }), shard('b', { tenants: 2, sizeBytes: 1 })],
    placed: 'a',
  },
  { behaviour: 'a tie is decided by name', shards: [shard('b'), shard('a')], placed: 'a' },
  {
    behaviour: 'an unmeasured shard comes after a measured one',
    shards: [shard('a'), shard('b', { sizeBytes: 5 })],
    placed: 'b',
  },
  {
    behaviour: 'a starting shard is as good as a ready one, so that a first start balances',
    shards: [shard('a', { condition: 'starting' }), shard('b', { tenants: 1 })],
    placed: 'a',
  },
  {
    behaviour: 'nothing is placed until a shard that fits is ready',
    wish: { allowedRegions: ['eu'] },
    shards: [shard('a'), shard('b', { condition: 'starting', replicaRegions: ['eu'] })],
    reason: 'ShardNotReady',
    message: /no shard of keyspace shop that fits is ready yet/,
  },
  {
    behaviour: 'an unavailable shard gets no tenant while another fits',
    shards: [shard('a', { condition: 'unavailable' }), shard('b', { tenants: 9 })],
    placed: 'b',
  },
  {
    behaviour: 'a shard being deleted gets no tenant',
    shards: [shard('a', { deleting: true }), shard('b', { tenants: 9 })],
    placed: 'b',
  },
  {
    behaviour: 'shards of another keyspace do not count',
    shards: [shard('a', { keyspace: 'crm' })],
    reason: 'NoShards',
  },
  {
    behaviour: 'residency chooses among shards',
    wish: { allowedRegions: ['eu', 'us'] },
    shards: [shard('a'), shard('b', { replicaRegions: ['eu', 'us'], tenants: 7 })],
    placed: 'b',
  },
  {
    behaviour: 'a shard without replicas waits where residency matters',
    wish: { allowedRegions: ['eu'] },
    shards: [shard('a', { replicaRegions: [] })],
    reason: 'NoShardFits',
    message: /no RegionalReplica yet/,
  },
  {
    behaviour: 'the wanted primary region counts for residency though no replica is there yet',
    wish: { allowedRegions: ['us'] },
    shards: [shard('a', { primaryRegion: 'eu', replicaRegions: ['us'] })],
    reason: 'NoShardFits',
    message: /keeps rows in eu/,
  },
  {
    behaviour: 'an empty list of regions allows nothing',
    wish: { allowedRegions: [] },
    shards: [shard('a')],
    reason: 'NoShardFits',
    message: /allowedRegions are none/,
  },
  {
    behaviour: 'the wanted shard is taken though another is emptier',
    wish: { shard: 'b' },
    shards: [shard('a'), shard('b', { tenants: 9 })],
    placed: 'b',
  },
  {
    behaviour: 'the wanted shard is waited for',
    wish: { shard: 'a' },
    shards: [shard('a', { condition: 'unavailable' }), shard('b')],
    reason: 'ShardNotReady',
  },
  {
    behaviour: 'a wanted shard that is missing refuses',
    wish: { shard: 'z' },
    shards: [shard('a')],
    reason: 'ShardNotFound',
    message: /names z/,
  },
  {
    behaviour: 'a wanted shard of another keyspace refuses and names both',
    wish: { shard: 'a' },
    shards: [shard('a', { keyspace: 'crm' })],
    reason: 'ShardOfOtherKeyspace',
    message: /keyspace crm.*keyspace shop/,
  },
  {
    behaviour: 'a wanted shard being deleted refuses',
    wish: { shard: 'a' },
    shards: [shard('a', { deleting: true })],
    reason: 'ShardDeleting',
  },
  {
    behaviour: 'a wanted shard outside the allowed regions refuses and names them',
    wish: { shard: 'a', allowedRegions: ['eu'] },
    shards: [shard('a')],
    reason: 'ResidencyForbids',
    message: /keeps rows in ap, us; allowedRegions are eu/,
  },
  {
    behaviour: 'a wanted shard without replicas waits where residency matters',
    wish: { shard: 'a', allowedRegions: ['eu'] },
    shards: [shard('a', { replicaRegions: [] })],
    reason: 'ResidencyUnknown',
  },
];

describe('placement of a tenant', () => {
  for (const { behaviour, wish: wanted, shards, placed, reason, message } of cases) {
    test(behaviour, () => {
      const placement = placeTenant(wish(wanted), shards);
      assert.equal(placement.kind === 'placed' ? placement.shard : placement.reason, placed ?? reason);
      if (message !== undefined) assert.match(placement.message, message);
    });
  }

  test('a refusal names at most five shards, and counts the rest', () => {
    const many = Array.from({ length: 40 }, (_, n) => shard(`s${n}`, { deleting: true }));
    const placement = placeTenant(wish(), many);
    assert.equal(placement.kind, 'refused');
    assert.match(placement.message, /and 35 more$/);
    assert.ok(placement.message.length < 1024);
  });
});

const region = fc.constantFrom<string[]>('eu', 'us', 'ap', 'sa');
const candidates = fc.uniqueArray(
  fc.record({
    name: fc.stringMatching(/^[a-z][a-z0-9]{0,5}$/),
    keyspace: fc.constantFrom('shop', 'crm'),
    condition: fc.constantFrom('ready' as const, 'starting' as const, 'unavailable' as const),
    deleting: fc.boolean(),
    primaryRegion: region,
    replicaRegions: fc.uniqueArray(region),
    tenants: fc.nat(5),
    sizeBytes: fc.option(fc.nat(3), { nil: undefined }),
  }),
  { selector: (candidate) => candidate.name, maxLength: 8 },
);
const wishes = fc.record({
  keyspace: fc.constantFrom('shop', 'crm'),
  shard: fc.option(fc.stringMatching(/^[a-z][a-z0-9]{0,1}$/), { nil: undefined }),
  allowedRegions: fc.option(fc.uniqueArray(region), { nil: undefined }),
});

describe('placement, for any shards', () => {
  test('never leaves the keyspace, the allowed regions or the wish', () => {
    fc.assert(
      fc.property(wishes, candidates, (wanted, shards) => {
        const placement = placeTenant(wanted, shards);
        if (placement.kind === 'refused') return;
        const chosen = shards.find(({ name }) => name === placement.shard);
        assert.ok(chosen !== undefined && chosen.keyspace === wanted.keyspace && !chosen.deleting);
        if (wanted.shard !== undefined) assert.equal(chosen.name, wanted.shard);
        else assert.notEqual(chosen.condition, 'unavailable');
        assert.ok(shards.some(({ condition }) => condition === 'ready'));
        for (const place of wanted.allowedRegions === undefined ? [] : regionsOfShard(chosen))
          assert.ok(wanted.allowedRegions?.includes(place));
      }),
    );
  });

  test('refuses only when no shard would do', () => {
    fc.assert(
      fc.property(wishes, candidates, (wanted, shards) => {
        const fitting = shards.filter(
          (candidate) =>
            candidate.keyspace === wanted.keyspace &&
            !candidate.deleting &&
            (wanted.shard === undefined ? candidate.condition !== 'unavailable' : candidate.name === wanted.shard) &&
            residencyObstacle(candidate, wanted.allowedRegions) === undefined,
        );
        const placement = placeTenant(wanted, shards);
        assert.equal(
          placement.kind === 'placed',
          fitting.some(({ condition }) => condition === 'ready'),
        );
        if (placement.kind === 'refused') assert.equal(placement.reason === 'ShardNotReady', fitting.length > 0);
      }),
    );
  });

  test('does not depend on the order of the list', () => {
    fc.assert(
      fc.property(
        wishes,
        candidates.chain((shards) =>
          fc.tuple(fc.constant(shards), fc.shuffledSubarray(shards, { minLength: shards.length })),
        ),
        (wanted, [shards, shuffled]) => {
          assert.deepEqual(placeTenant(wanted, shuffled), placeTenant(wanted, shards));
        },
      ),
    );
  });

  test('one after the other, tenants spread evenly: no two equal shards differ by more than one', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 0, max: 60 }), (shardCount, tenantCount) => {
        const counts = new Map(Array.from({ length: shardCount }, (_, n) => [`s${n}`, 0]));
        for (let n = 0; n < tenantCount; n++) {
          const placement = placeTenant(
            wish(),
            [...counts].map(([name, tenants]) => shard(name, { tenants })),
          );
          assert.ok(placement.kind === 'placed');
          counts.set(placement.shard, (counts.get(placement.shard) ?? 0) + 1);
        }
        assert.ok(Math.max(...counts.values()) - Math.min(...counts.values()) <= 1);
      }),
    );
  });

  test('with those to come counted beforehand, any order of looking gives every shard as many tenants', () => {
    const order = fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7], { minLength: 8 });
    const tenantWishes = fc.array(
      fc.record({
        shard: fc.option(fc.constantFrom('a', 'b', 'c'), { nil: undefined }),
        allowedRegions: fc.option(fc.constant(['eu', 'us']), { nil: undefined }),
      }),
      { minLength: 8, maxLength: 8 },
    );
    const shards = [shard('a'), shard('b', { replicaRegions: ['eu', 'us'] }), shard('c')];
    const countsAfter = (wanted: readonly PlacementWish[], looking: readonly number[]): Record<string, number> => {
      const counts: Record<string, number> = { a: 0, b: 0, c: 0 };
      looking.forEach((at, step) => {
        const present = shards.map((each) => ({ ...each, tenants: counts[each.name] ?? 0 }));
        const others = looking.slice(step + 1).map((other) => wanted[other] ?? wish());
        const placement = placeTenant(wanted[at] ?? wish(), withTenantsToCome(present, others));
        if (placement.kind === 'placed') counts[placement.shard] = (counts[placement.shard] ?? 0) + 1;
      });
      return counts;
    };
    fc.assert(
      fc.property(tenantWishes, order, (drawn, looking) => {
        const wanted = drawn.map((each) => wish(each));
        assert.deepEqual(countsAfter(wanted, looking), countsAfter(wanted, [0, 1, 2, 3, 4, 5, 6, 7]));
      }),
    );
  });
});
