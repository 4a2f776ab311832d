import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { KeyspaceAction, RoleSecretOutcome, ShardOutcome } from '#operator/controllers/keyspace/actions.ts';
import { concludeFarewell, concludeKeyspace } from '#operator/controllers/keyspace/conclude.ts';
import type { KeyspaceSnapshot } from '#operator/controllers/keyspace/snapshot.ts';
import { deployment, done, keyspace, readyShard, service, snapshot, waitingShard } from './world.ts';

const now = new Date('2026-06-01T00:00:00Z');
const settled = {
  shards: [
    { name: 'a', ordinal: 0, migrations: 2, ready: true },
    { name: 'b', ordinal: 1, migrations: 2, ready: true },
  ],
  nextOrdinal: 2,
};
const world = (over: Partial<KeyspaceSnapshot> = {}): KeyspaceSnapshot =>
  snapshot({ keyspace: keyspace({}, settled), ...over });

interface Found {
  readonly shards?: readonly ShardOutcome[];
  readonly waitingFor?: readonly string[];
  readonly role?: Partial<RoleSecretOutcome>;
}

function conclude(seen: KeyspaceSnapshot, found: Found = {}) {
  const shards = found.shards ?? [
    { name: 'a', applied: 2 },
    { name: 'b', applied: 2 },
  ];
  const role: RoleSecretOutcome = {
    role: 'shop_app',
    secret: 'shop-role-shop-app',
    step: 'unchanged',
    preparing: false,
    nextStepMs: undefined,
    ...found.role,
  };
  const certificates = { renewed: [], earliestNotAfterMs: now.getTime() + 1e9 };
  const action = (kind: string) => ({ kind }) as unknown as KeyspaceAction;
  return concludeKeyspace(
    seen,
    [
      done(action('ensureCertificates'), certificates),
      done(action('ensureRoleSecret'), role),
      done(action('setUpShards'), { shards, waitingFor: found.waitingFor ?? [] }),
    ],
    now,
  );
}

const condition = (conclusion: ReturnType<typeof conclude>, type: string) =>
  conclusion.conditions?.find((finding) => finding.type === type);

const cases: readonly {
  readonly behaviour: string;
  readonly seen?: KeyspaceSnapshot;
  readonly found?: Found;
  readonly phase: string;
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: RegExp;
}[] = [
  {
    behaviour: 'all as wished is Ready',
    phase: 'Ready',
    type: 'Ready',
    status: 'True',
    reason: 'AllReady',
    message: /applications can connect/,
  },
  {
    behaviour: 'no shards is said',
    seen: world({ shards: [] }),
    found: { shards: [] },
    phase: 'Pending',
    type: 'ShardsReady',
    status: 'False',
    reason: 'NoShards',
    message: /no Shard has spec.keyspace: shop/,
  },
  {
    behaviour: 'a shard without primary is named with its reason',
    seen: world({ shards: [readyShard('a'), waitingShard('b')] }),
    found: { shards: [{ name: 'a', applied: 2 }] },
    phase: 'Pending',
    type: 'ShardsReady',
    status: 'False',
    reason: 'NotInitialised',
    message: /shard b has no primary yet/,
  },
  {
    behaviour: 'a failed migration is named with its shard',
    found: {
      shards: [
        {
          name: 'a',
          applied: 1,
          failedMigration: {
            name: '0002-b',
            reason: 'SqlError',
            message: 'migration "0002-b": relation "x" does not exist',
          },
        },
        { name: 'b', applied: 1 },
      ],
    },
    phase: 'MigrationFailed',
    type: 'MigrationsApplied',
    status: 'False',
    reason: 'SqlError',
    message: /^migration "0002-b": relation "x" does not exist \(on shard a\); nothing after it runs/,
  },
  {
    behaviour: 'new migrations that wait say for whom',
    found: { waitingFor: ['b'], shards: [{ name: 'a', applied: 1 }] },
    phase: 'Degraded',
    type: 'MigrationsApplied',
    status: 'False',
    reason: 'WaitingForShards',
    message: /wait for b/,
  },
  {
    behaviour: 'a missing ConfigMap is said word for word',
    seen: world({
      migrations: [
        { name: '0001-a', kind: 'found', sql: '' },
        { name: '0002-b', kind: 'missing', reason: 'ConfigMapMissing', message: 'there is no ConfigMap sql' },
      ],
    }),
    found: {
      shards: [
        { name: 'a', applied: 1 },
        { name: 'b', applied: 1 },
      ],
    },
    phase: 'Degraded',
    type: 'MigrationsApplied',
    status: 'False',
    reason: 'ConfigMapMissing',
    message: /^there is no ConfigMap sql$/,
  },
  {
    behaviour: 'a region nobody declared is named',
    seen: world({ regions: new Map() }),
    phase: 'Degraded',
    type: 'RegionsKnown',
    status: 'False',
    reason: 'UnknownRegion',
    message: /names eu: make a Region/,
  },
  {
    behaviour: 'a table that cannot be protected is named',
    found: {
      shards: [
        {
          name: 'a',
          applied: 2,
          problem: { step: 'protect', reason: 'NoTenantKey', message: 'public.t: no tenant key; add it' },
        },
        { name: 'b', applied: 2 },
      ],
    },
    phase: 'Pending',
    type: 'TablesProtected',
    status: 'False',
    reason: 'NoTenantKey',
    message: /public\.t/,
  },
  {
    behaviour: 'without any shard to ask, protection is unknown',
    found: {
      shards: [{ name: 'a', applied: 0, problem: { step: 'connect', reason: 'ConnectionFailed', message: 'timeout' } }],
    },
    phase: 'Pending',
    type: 'TablesProtected',
    status: 'Unknown',
    reason: 'NoShardReached',
    message: /./,
  },
  {
    behaviour: 'routers that are not ready are counted',
    seen: world({ deployments: new Map([['eu', deployment('eu', 1)]]) }),
    phase: 'Degraded',
    type: 'RoutersReady',
    status: 'False',
    reason: 'NotEnough',
    message: /shop-router-eu has 1 of 2 ready/,
  },
  {
    behaviour: 'a roll-out of routers that does not get on is said though the former ones serve',
    seen: world({
      deployments: new Map([
        [
          'eu',
          {
            ...deployment('eu', 2),
            status: {
              readyReplicas: 2,
              conditions: [{ type: 'Progressing', status: 'False', reason: 'ProgressDeadlineExceeded' }],
            },
          },
        ],
      ]),
    }),
    phase: 'Degraded',
    type: 'RoutersReady',
    status: 'False',
    reason: 'RolloutStuck',
    message: /in eu; the former ones serve on/,
  },
  {
    behaviour: 'a rotation on its way is said and is no fault',
    found: { role: { preparing: true, nextStepMs: now.getTime() + 5000 } },
    phase: 'Ready',
    type: 'RolesReady',
    status: 'True',
    reason: 'Rotating',
    message: /shop_app/,
  },
];

describe('the status of a keyspace', () => {
  for (const { behaviour, seen = world(), found, phase, type, status, reason, message } of cases)
    test(behaviour, () => {
      const conclusion = conclude(seen, found);
      const condition_ = condition(conclusion, type);
      assert.equal(condition_?.status, status);
      assert.equal(condition_.reason, reason);
      assert.match(condition_.message, message);
      assert.equal(conclusion.status?.phase, phase);
      const ready = condition(conclusion, 'Ready');
      const isGood = (conclusion.conditions ?? []).every((each) => each.status === 'True');
      assert.equal(ready?.status === 'True', isGood);
    });

  test('the schema version is the last migration that every shard has', () => {
    const version = (a: number, b: number) =>
      conclude(world(), {
        shards: [
          { name: 'a', applied: a },
          { name: 'b', applied: b },
        ],
      }).status?.schemaVersion;
    assert.equal(version(2, 2), '0002-b');
    assert.equal(version(2, 1), '0001-a');
    assert.equal(version(2, 0), undefined);
  });

  test('a shard that is away keeps its count and is not ready', () => {
    const conclusion = conclude(world({ shards: [readyShard('a'), waitingShard('b')] }), {
      shards: [{ name: 'a', applied: 2 }],
    });
    assert.deepEqual(conclusion.status?.shards, [
      { name: 'a', ordinal: 0, migrations: 2, ready: true },
      { name: 'b', ordinal: 1, migrations: 2, ready: false },
    ]);
  });

  test('a shard that is away for a moment takes nothing back of what is applied', () => {
    const conclusion = conclude(world({ shards: [readyShard('a'), waitingShard('b')] }), {
      shards: [{ name: 'a', applied: 2 }],
    });
    assert.equal(condition(conclusion, 'MigrationsApplied')?.status, 'True');
    assert.equal(conclusion.status?.schemaVersion, '0002-b');
  });

  test('a round whose actions failed early changes no record', () => {
    const conclusion = concludeKeyspace(world(), [], now);
    assert.deepEqual(conclusion.status?.shards, settled.shards);
    assert.equal(conclusion.status?.nextOrdinal, 2);
    assert.equal(condition(conclusion, 'Ready')?.status, 'False');
  });

  test('clients find the address that the cluster gives to the outside, else the name in the certificate', () => {
    assert.equal(conclude(world()).status?.routers?.[0]?.address, 'shop-router-eu.prod.svc:5432');
    const services = new Map([['eu', service('eu', { loadBalancer: { ingress: [{ ip: '192.0.2.7' }] } })]]);
    assert.equal(conclude(world({ services })).status?.routers?.[0]?.address, '192.0.2.7:5432');
  });

  test('the step of a password becomes an Event without a word of it', () => {
    const events = conclude(world(), { role: { step: 'published' } }).events ?? [];
    assert.deepEqual(
      events.map(({ reason }) => reason),
      ['PasswordRotated'],
    );
    assert.match(events[0]?.message ?? '', /of role shop_app$/);
  });

  test('it looks again when the next step of a password is due, and soon after a problem', () => {
    assert.equal(conclude(world(), { role: { nextStepMs: now.getTime() + 7000 } }).requeueAfterMs, 7000);
    const problem = { step: 'connect' as const, reason: 'ConnectionFailed', message: 'x' };
    assert.equal(conclude(world(), { shards: [{ name: 'a', applied: 0, problem }] }).requeueAfterMs, 5000);
  });

  test('a keyspace that goes names the shards it waits for, and keeps its record', () => {
    const conclusion = concludeFarewell(world());
    assert.equal(conclusion.status?.phase, 'Deleting');
    assert.equal(conclusion.status?.nextOrdinal, 2);
    assert.match(conclusion.conditions?.[0]?.message ?? '', /delete a, b as well/);
  });
});
