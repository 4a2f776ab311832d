import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { ShardCandidate } from '#core/placement/placement.ts';
import type { Keyspace, Tenant } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import { concludeTenant } from '#operator/controllers/tenant/ownership.ts';
import { planTenant } from '#operator/controllers/tenant/plan.ts';
import { holderOf } from '#operator/controllers/tenant/rivals.ts';
import type { Home, Rival, TenantSnapshot } from '#operator/controllers/tenant/snapshot.ts';
import { keyspace as aKeyspace } from '../keyspace/world.ts';

const authority = { shard: 'a', epoch: 1, state: 'active' as const, attempt: 0 };
const owned = {
  type: 'Owned',
  status: 'True' as const,
  reason: 'RowWritten',
  message: '',
  lastTransitionTime: '2026-01-01T00:00:00Z',
};

function tenant(
  spec: Partial<Tenant['spec']> = {},
  status?: Tenant['status'],
  metadata: Partial<Stored<Tenant>['metadata']> = {},
): Stored<Tenant> {
  return {
    apiVersion: 'meridian.db/v1alpha1',
    kind: 'Tenant',
    metadata: {
      name: 'acme',
      namespace: 'prod',
      uid: 'uid-acme',
      resourceVersion: '1',
      creationTimestamp: '2026-01-01T00:00:00Z',
      ...metadata,
    },
    spec: { keyspace: 'shop', key: 'acme', limits: {}, deletionPolicy: 'Retain', ...spec },
    ...(status === undefined ? {} : { status }),
  };
}

const candidate = (name: string, over: Partial<ShardCandidate> = {}): ShardCandidate => ({
  name,
  keyspace: 'shop',
  condition: 'ready',
  deleting: false,
  primaryRegion: 'eu',
  replicaRegions: ['eu', 'us'],
  tenants: 0,
  sizeBytes: undefined,
  ...over,
});

const home = (over: Partial<Home> = {}): Home => ({
  shard: 'a',
  state: 'present',
  primaryRegion: 'eu',
  replicaRegions: ['eu', 'us'],
  hasSchema: true,
  primary: {
    kind: 'found',
    epoch: 1,
    incarnation: '0123456789abcdef',
    target: { namespace: 'prod', keyspace: 'shop', member: 'a-eu-0', address: '10.0.0.1' },
  },
  row: { kind: 'present', row: { epoch: 1, state: 'active', attempt: 0 } },
  ...over,
});

const access = {
  shard: 'a',
  member: { namespace: 'prod', keyspace: 'shop', member: 'a-eu-0', address: '10.0.0.1' },
  database: 'shop',
};

const snapshot = (over: Partial<TenantSnapshot> = {}): TenantSnapshot => ({
  tenant: tenant(),
  keyspace: aKeyspace(),
  rivals: [],
  candidates: [candidate('a'), candidate('b', { tenants: 1 })],
  access: new Map([['a', access]]),
  placementsSeen: 7,
  home: undefined,
  isCleaned: false,
  ...over,
});

const placed = (over: Partial<TenantSnapshot> = {}, spec: Partial<Tenant['spec']> = {}): TenantSnapshot =>
  snapshot({ tenant: tenant(spec, { authority }), candidates: [], home: home(), ...over });

const leaving = (over: Partial<TenantSnapshot> = {}, spec: Partial<Tenant['spec']> = {}): TenantSnapshot =>
  placed({ tenant: tenant(spec, { authority }, { deletionTimestamp: '2026-02-01T00:00:00Z' }), ...over });

const missing: Home['primary'] = { kind: 'missing', reason: 'ShardNotReady', message: "shard a isn't ready" };
const goneKeyspace = (): Stored<Keyspace> => aKeyspace({}, undefined, { deletionTimestamp: '2026-02-01T00:00:00Z' });

const cases: readonly {
  readonly behaviour: string;
  readonly seen: TenantSnapshot;
  readonly actions: readonly string[];
  readonly phase: string;
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message?: RegExp;
}[] = [
  {
    behaviour: 'an unplaced tenant is placed',
    seen: snapshot(),
    actions: ['place'],
    phase: 'Placed',
    type: 'Placed',
    status: 'True',
    reason: 'Placed',
    message: /shard a, the least loaded/,
  },
  {
    behaviour: 'without its Keyspace it waits and says so',
    seen: snapshot({ keyspace: undefined }),
    actions: [],
    phase: 'Pending',
    type: 'Placed',
    status: 'False',
    reason: 'KeyspaceNotFound',
    message: /names shop, and there is no such Keyspace/,
  },
  {
    behaviour: 'in a Keyspace that goes nothing new is placed',
    seen: snapshot({ keyspace: goneKeyspace() }),
    actions: [],
    phase: 'Pending',
    type: 'Placed',
    status: 'False',
    reason: 'KeyspaceDeleting',
  },
  {
    behaviour: 'a wanted shard that is missing is a condition',
    seen: snapshot({ tenant: tenant({ shard: 'z' }) }),
    actions: [],
    phase: 'Pending',
    type: 'Placed',
    status: 'False',
    reason: 'ShardNotFound',
    message: /names z/,
  },
  {
    behaviour: 'residency that no shard allows is a condition',
    seen: snapshot({ tenant: tenant({ allowedRegions: ['ap'] }) }),
    actions: [],
    phase: 'Pending',
    type: 'Placed',
    status: 'False',
    reason: 'NoShardFits',
    message: /keeps rows in eu, us/,
  },
  {
    behaviour: 'a key that is no value of the key type is refused',
    seen: snapshot({ keyspace: aKeyspace({ tenantKey: { column: 'tenant_id', type: 'bigint' } }) }),
    actions: [],
    phase: 'Invalid',
    type: 'Placed',
    status: 'False',
    reason: 'KeyInvalid',
    message: /whole number/,
  },
  {
    behaviour: 'a key that an older Tenant has is a conflict',
    seen: snapshot({
      rivals: [{ name: 'old', creationTimestamp: '2025-01-01T00:00:00Z', isPlaced: false, isDeleting: false }],
    }),
    actions: [],
    phase: 'Conflict',
    type: 'Placed',
    status: 'False',
    reason: 'Conflict',
    message: /Tenant old has the key "acme"/,
  },
  {
    behaviour: 'a placed tenant whose row is missing gets it',
    seen: placed({ home: home({ row: { kind: 'absent' } }) }),
    actions: ['own'],
    phase: 'Placed',
    type: 'Owned',
    status: 'False',
    reason: 'Writing',
  },
  {
    behaviour: 'a placed tenant whose row is there is Ready',
    seen: placed(),
    actions: [],
    phase: 'Ready',
    type: 'Ready',
    status: 'True',
    reason: 'Ready',
  },
  {
    behaviour: 'a row in another state is left alone',
    seen: placed({ home: home({ row: { kind: 'present', row: { epoch: 2, state: 'frozen', attempt: 1 } } }) }),
    actions: [],
    phase: 'Blocked',
    type: 'Owned',
    status: 'False',
    reason: 'OtherState',
    message: /frozen at epoch 2/,
  },
  {
    behaviour: 'a shard that is not ready is waited for',
    seen: placed({ home: home({ primary: missing, row: { kind: 'unknown', message: '' } }), access: new Map() }),
    actions: [],
    phase: 'Placed',
    type: 'Ready',
    status: 'False',
    reason: 'ShardNotReady',
  },
  {
    behaviour: 'a shard that is gone is said',
    seen: placed({ home: home({ state: 'absent' }) }),
    actions: [],
    phase: 'Blocked',
    type: 'Ready',
    status: 'False',
    reason: 'ShardNotFound',
    message: /a is gone/,
  },
  {
    behaviour: 'while a move decides nothing is written',
    seen: placed({
      tenant: tenant({}, { authority: { ...authority, state: 'switching' } }),
      home: home({ row: { kind: 'absent' } }),
    }),
    actions: [],
    phase: 'Placed',
    type: 'Ready',
    status: 'False',
    reason: 'Switching',
  },
  {
    behaviour: 'another wanted shard moves nothing and says how',
    seen: placed({}, { shard: 'b' }),
    actions: [],
    phase: 'Ready',
    type: 'MoveNeeded',
    status: 'True',
    reason: 'OtherShardWanted',
    message: /on shard a and spec.shard wants b: moves come with TenantMove/,
  },
  {
    behaviour: 'a move that is no longer wanted is unsaid',
    seen: placed({ tenant: tenant({ shard: 'a' }, { authority, conditions: [{ ...owned, type: 'MoveNeeded' }] }) }),
    actions: [],
    phase: 'Ready',
    type: 'MoveNeeded',
    status: 'False',
    reason: 'InPlace',
  },
  {
    behaviour: 'a replica that came later in a forbidden region is said',
    seen: placed({}, { allowedRegions: ['eu'] }),
    actions: [],
    phase: 'Ready',
    type: 'ResidencyHeld',
    status: 'False',
    reason: 'ResidencyForbids',
    message: /take the RegionalReplica away/,
  },
];

describe('the plan of a tenant', () => {
  for (const { behaviour, seen, actions, phase, type, status, reason, message } of cases)
    test(behaviour, () => {
      const plan = planTenant(seen);
      assert.deepEqual(
        plan.actions.map(({ kind }) => kind),
        actions,
      );
      assert.equal(plan.status?.phase, phase);
      const found = plan.conditions?.find((condition) => condition.type === type);
      assert.equal(found?.status, status);
      assert.equal(found.reason, reason);
      if (message !== undefined) assert.match(found.message, message);
    });

  test('a placed tenant keeps its record whatever stands in the way', () => {
    for (const over of [{ keyspace: undefined }, { home: home({ state: 'absent' as const }) }, {}])
      assert.deepEqual(planTenant(placed(over)).status?.authority, authority);
  });

  test('a shard that cannot be reached for a moment changes nothing for a tenant that it owns', () => {
    const status = { phase: 'Ready', authority, conditions: [owned] };
    const plan = planTenant(
      placed({
        tenant: tenant({}, status),
        home: home({ primary: missing, row: { kind: 'unknown', message: '' } }),
        access: new Map(),
      }),
    );
    assert.equal(plan.status?.phase, 'Ready');
    assert.deepEqual(
      plan.conditions?.map(({ type }) => type),
      ['Placed'],
    );
  });
});

describe('what the actions of a tenant find', () => {
  const result = (seen: TenantSnapshot, value: unknown) => {
    const plan = planTenant(seen);
    const [action] = plan.actions;
    assert.ok(action !== undefined);
    return concludeTenant(seen, plan, [{ action, outcome: 'done', value }]);
  };
  const toOwn = placed({ home: home({ row: { kind: 'absent' } }) });

  test('a written row makes the tenant Ready in the same round', () => {
    const conclusion = result(toOwn, { kind: 'written' });
    assert.equal(conclusion.status?.phase, 'Ready');
    assert.deepEqual(conclusion.status?.authority, authority);
  });

  test('a row that somebody else wrote otherwise blocks', () => {
    const found = { key: 'acme', serial: 1, epoch: 3, state: 'active', attempt: 0, until: undefined };
    assert.equal(result(toOwn, { kind: 'refused', found }).status?.phase, 'Blocked');
  });

  test('a tenant that was placed and owned in one round is Ready', () => {
    const conclusion = result(snapshot({ tenant: tenant({ allowedRegions: ['eu', 'us'] }) }), { kind: 'written' });
    assert.equal(conclusion.status?.phase, 'Ready');
    assert.ok(conclusion.conditions?.every(({ status }) => status === 'True'));
    assert.deepEqual(
      conclusion.conditions?.map(({ type }) => type),
      ['Ready', 'Placed', 'ResidencyHeld', 'Owned'],
    );
  });

  test('a tenant that was placed where nobody answers waits, and is looked at again at once', () => {
    const conclusion = result(snapshot({ access: new Map() }), 'recorded');
    assert.equal(conclusion.status?.phase, 'Placed');
    assert.equal(conclusion.requeueAfterMs, 0);
  });

  test('a placement made on old loads says nothing and looks again at once', () => {
    const conclusion = result(snapshot(), 'superseded');
    assert.equal(conclusion.status, undefined);
    assert.equal(conclusion.conditions, undefined);
    assert.ok((conclusion.requeueAfterMs ?? Number.NaN) < 1000);
  });
});

describe('the farewell of a tenant', () => {
  const farewells: readonly {
    readonly behaviour: string;
    readonly seen: TenantSnapshot;
    readonly actions: readonly string[];
    readonly release: boolean;
  }[] = [
    {
      behaviour: 'Retain takes the ownership row away and lets go',
      seen: leaving(),
      actions: ['disown'],
      release: true,
    },
    {
      behaviour: 'Retain without a row lets go',
      seen: leaving({ home: home({ row: { kind: 'absent' } }) }),
      actions: [],
      release: true,
    },
    {
      behaviour: 'Delete takes the rows away first',
      seen: leaving({}, { deletionPolicy: 'Delete' }),
      actions: ['clean'],
      release: false,
    },
    {
      behaviour: 'Delete lets go when all rows are gone',
      seen: leaving({ isCleaned: true }, { deletionPolicy: 'Delete' }),
      actions: [],
      release: true,
    },
    {
      behaviour: 'one that was never placed lets go',
      seen: leaving({ tenant: tenant({}, {}, { deletionTimestamp: '2026-02-01T00:00:00Z' }), home: undefined }),
      actions: [],
      release: true,
    },
    {
      behaviour: 'one whose key another holds leaves the row alone',
      seen: leaving({
        rivals: [{ name: 'old', creationTimestamp: '2025-01-01T00:00:00Z', isPlaced: true, isDeleting: false }],
      }),
      actions: [],
      release: true,
    },
    {
      behaviour: 'one whose shard goes lets go',
      seen: leaving({ home: home({ state: 'deleting' }) }),
      actions: [],
      release: true,
    },
    {
      behaviour: 'one whose shard is gone lets go',
      seen: leaving({ home: home({ state: 'absent' }) }),
      actions: [],
      release: true,
    },
    {
      behaviour: 'one whose keyspace goes lets go',
      seen: leaving({ keyspace: goneKeyspace() }),
      actions: [],
      release: true,
    },
    {
      behaviour: 'one whose keyspace is gone lets go',
      seen: leaving({ keyspace: undefined }),
      actions: [],
      release: true,
    },
    {
      behaviour: 'one whose shard is not ready waits',
      seen: leaving({ home: home({ primary: missing, row: { kind: 'unknown', message: '' } }), access: new Map() }),
      actions: [],
      release: false,
    },
    {
      behaviour: 'one whose shard does not answer waits',
      seen: leaving({ home: home({ row: { kind: 'unknown', message: 'timeout' } }) }),
      actions: [],
      release: false,
    },
  ];
  for (const { behaviour, seen, actions, release } of farewells)
    test(behaviour, () => {
      const plan = planTenant(seen);
      assert.deepEqual(
        plan.actions.map(({ kind }) => kind),
        actions,
      );
      assert.equal(plan.release ?? false, release);
      if (!release && actions.length === 0) {
        assert.equal(plan.conditions?.[0]?.reason, 'DeletionWaiting');
        assert.ok(plan.requeueAfterMs !== undefined);
      }
    });
});

describe('several Tenants with one key', () => {
  test('exactly one holds it, whoever looks, and a placed one before any other', () => {
    const rival = fc.record({
      name: fc.constantFrom('a', 'b', 'c', 'd'),
      creationTimestamp: fc.constantFrom('2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z'),
      isPlaced: fc.boolean(),
      isDeleting: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.uniqueArray(rival, { selector: ({ name }) => name, minLength: 1 }), (all: readonly Rival[]) => {
        const holders = all.filter(
          (self) =>
            !self.isDeleting &&
            holderOf(
              self,
              all.filter((other) => other !== self),
            ) === undefined,
        );
        assert.ok(holders.length <= 1);
        if (all.every(({ isDeleting }) => !isDeleting)) assert.equal(holders.length, 1);
        const placedOnes = all.filter(({ isPlaced }) => isPlaced);
        if (placedOnes.length > 0) for (const holder of holders) assert.ok(holder.isPlaced);
      }),
    );
  });
});
