/** What a RegionalReplica needs: when its objects are made, when pods may go, and what is said meanwhile. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AgentStatus } from '#core/protocol/status.ts';
import type { Pod, StatefulSet } from '#kube/kinds.ts';
import type { Keyspace, Region, RegionalReplica, Shard } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import { memberStatuses, podProblem } from '#operator/controllers/regionalreplica/members.ts';
import { plan } from '#operator/controllers/regionalreplica/plan.ts';
import { ordinalOf, podCount } from '#operator/controllers/regionalreplica/scale.ts';
import type { Snapshot } from '#operator/controllers/regionalreplica/snapshot.ts';
import { makeCa } from '#operator/pki/authority.ts';

const now = new Date('2026-06-01T00:00:00Z');
const ca = await makeCa({ namespace: 'prod', keyspace: 'shop' }, now);

// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the caller says which kind it is.
const stored = <T>(kind: string, name: string, rest: object = {}): T =>
  ({
    apiVersion: 'meridian.db/v1alpha1',
    kind,
    metadata: {
      namespace: 'prod',
      name,
      uid: `uid-${name}`,
      resourceVersion: '1',
      creationTimestamp: '2026-01-01T00:00:00Z',
    },
    ...rest,
  }) as T;

const shard = stored<Stored<Shard>>('Shard', 'a', {
  spec: {
    keyspace: 'shop',
    primaryRegion: 'eu',
    postgres: { version: '17', parameters: {} },
    storage: { size: '10Gi' },
    durability: { acknowledgements: 1, scope: 'AnyMember', onLoss: 'Block' },
    deletionPolicy: 'Retain',
  },
});
const replica = stored<Stored<RegionalReplica>>('RegionalReplica', 'a-eu', {
  spec: { shard: 'a', region: 'eu', instances: 1, promotable: true },
});
const keyspace = stored<Stored<Keyspace>>('Keyspace', 'shop', { spec: {} });
const region = stored<Stored<Region>>('Region', 'eu', { spec: { proximity: [], drain: false } });

const nothing: Snapshot['owned'] = {
  statefulSet: undefined,
  service: undefined,
  tls: undefined,
  serviceAccount: undefined,
  role: undefined,
  roleBinding: undefined,
};

const snapshot = (change: Partial<Snapshot> = {}): Snapshot => ({
  replica,
  shard,
  keyspace,
  region,
  ca,
  owned: nothing,
  pods: [],
  answers: new Map(),
  defaultImage: 'meridian/postgres:1',
  ...change,
});

const statefulSet = (ownerUid = 'uid-a-eu'): Stored<StatefulSet> =>
  stored('StatefulSet', 'a-eu', {
    metadata: {
      ...stored<Stored<StatefulSet>>('StatefulSet', 'a-eu').metadata,
      ownerReferences: [{ uid: ownerUid }],
    },
  });

const deleted = <T extends { metadata: object }>(object: T): T => ({
  ...object,
  metadata: { ...object.metadata, deletionTimestamp: '2026-06-01T00:00:00Z' },
});

const withRecord = (primary: string, members: readonly string[]): Stored<Shard> => ({
  ...shard,
  status: {
    authority: {
      epoch: 1,
      timeline: 1,
      member: primary,
      incarnation: 'a'.repeat(16),
      region: 'eu',
      since: '2026-01-01T00:00:00Z',
      state: 'Active',
    },
    membership: {
      generation: 2,
      members: members.map((name) => ({ name, incarnation: 'a'.repeat(16) })),
      acknowledgements: 1,
    },
  },
});

const kindsOf = (planned: ReturnType<typeof plan>): string[] => planned.actions.map(({ kind }) => kind);
const conditionOf = (planned: ReturnType<typeof plan>, type: string) =>
  planned.conditions?.find((condition) => condition.type === type);

test('everything is there: account, certificates, name and StatefulSet are made, in the order in which pods need them', () => {
  const planned = plan(snapshot(), now);
  assert.deepEqual(kindsOf(planned), [
    'ApplyServiceAccount',
    'ApplyRole',
    'ApplyRoleBinding',
    'IssueCertificates',
    'ApplyService',
    'ApplyStatefulSet',
  ]);
  assert.equal(planned.status?.phase, 'Progressing');
});

test('no StatefulSet takes volumes with it, also where the shard deletes its own in the end', () => {
  const deleting = { ...shard, spec: { ...shard.spec, deletionPolicy: 'Delete' as const } };
  const set = plan(snapshot({ shard: deleting }), now).actions.find(({ kind }) => kind === 'ApplyStatefulSet');
  assert.ok(set?.kind === 'ApplyStatefulSet');
  assert.equal(set.object.spec?.persistentVolumeClaimRetentionPolicy?.whenDeleted, 'Retain');
});

test('without an authority, that comes first and alone: a pod without certificates could not start', () => {
  assert.deepEqual(kindsOf(plan(snapshot({ ca: undefined }), now)), ['EnsureAuthority']);
});

const missing: readonly (readonly [string, Partial<Snapshot>, string, string])[] = [
  ['Shard', { shard: undefined, keyspace: undefined }, 'ShardKnown', 'NoSuchShard'],
  ['Keyspace', { keyspace: undefined }, 'KeyspaceKnown', 'NoSuchKeyspace'],
  ['Region', { region: undefined }, 'RegionKnown', 'NoSuchRegion'],
];
for (const [what, change, type, reason] of missing) {
  test(`without its ${what} nothing is made, and a condition says so`, () => {
    const planned = plan(snapshot(change), now);
    assert.deepEqual(planned.actions, []);
    assert.equal(conditionOf(planned, type)?.reason, reason);
    assert.equal(conditionOf(planned, 'Ready')?.reason, reason);
    assert.equal(planned.status?.phase, 'Waiting');
  });
}

test('a StatefulSet of that name that belongs to somebody else is left alone', () => {
  const planned = plan(snapshot({ owned: { ...nothing, statefulSet: statefulSet('somebody') } }), now);
  assert.deepEqual(planned.actions, []);
  assert.equal(conditionOf(planned, 'Ready')?.reason, 'NameTaken');
  const going = plan(snapshot({ shard: undefined, owned: { ...nothing, statefulSet: statefulSet('somebody') } }), now);
  assert.deepEqual(going.actions, [], 'not even when the shard is gone');
});

test('members stop when the shard is gone, or going and not held by its tenants', () => {
  const owned = { ...nothing, statefulSet: statefulSet() };
  assert.deepEqual(kindsOf(plan(snapshot({ shard: undefined, owned }), now)), ['DeleteStatefulSet']);
  const held = deleted(shard);
  assert.ok(kindsOf(plan(snapshot({ shard: held, owned }), now)).includes('ApplyStatefulSet'));
  const going: Stored<Shard> = {
    ...held,
    status: {
      conditions: [
        { type: 'DeletionAllowed', status: 'True', reason: 'OwnsNoTenants', message: '', lastTransitionTime: '' },
      ],
    },
  };
  assert.deepEqual(kindsOf(plan(snapshot({ shard: going, owned }), now)), ['DeleteStatefulSet']);
});

test('its own deletion waits until nothing counts on its members, or the shard is gone', () => {
  const leaving = deleted(replica);
  const announced = (object: Stored<Shard>): Stored<Shard> => ({
    ...object,
    metadata: { ...object.metadata, annotations: { 'leaving.meridian.db/a-eu': 'uid-a-eu' } },
  });
  assert.equal(plan(snapshot({ replica: leaving, shard: announced(shard) }), now).release, true);
  const counted = announced(withRecord('a-us-0', ['a-us-0', 'a-eu-0']));
  const waiting = plan(snapshot({ replica: leaving, shard: counted }), now);
  assert.equal(waiting.release, undefined);
  assert.equal(conditionOf(waiting, 'InstancesAsWished')?.reason, 'MembershipHolds');
  const primary = plan(snapshot({ replica: leaving, shard: announced(withRecord('a-eu-0', ['a-eu-0'])) }), now);
  assert.equal(conditionOf(primary, 'InstancesAsWished')?.reason, 'PrimaryHere');
  assert.equal(plan(snapshot({ replica: leaving, shard: undefined }), now).release, true);
});

test('before it goes it announces that on its Shard, so that no older swap of the record can still count its members', () => {
  const leaving = deleted(replica);
  const planned = plan(snapshot({ replica: leaving }), now);
  assert.equal(planned.release, undefined);
  assert.deepEqual(planned.actions, [{ kind: 'AnnounceLeaving', shard: 'a', shardUid: 'uid-a' }]);
  const ofAnother = { ...shard.metadata, annotations: { 'leaving.meridian.db/a-eu': 'uid of an earlier one' } };
  const again = plan(snapshot({ replica: leaving, shard: { ...shard, metadata: ofAnother } }), now);
  assert.equal(again.release, undefined);
});

test('pods go only when neither authority nor membership names them', () => {
  const status = withRecord('a-eu-1', ['a-eu-1', 'a-eu-2', 'a-us-0']).status;
  assert.deepEqual(podCount('a-eu', 3, status), { replicas: 3 });
  const primary = podCount('a-eu', 1, status);
  assert.equal(primary.replicas, 3);
  assert.equal(primary.held?.reason, 'PrimaryHere');
  const follower = podCount('a-eu', 2, status);
  assert.deepEqual([follower.replicas, follower.held?.reason], [3, 'MembershipHolds']);
  assert.deepEqual(podCount('a-us', 0, undefined), { replicas: 0 });
});

test('the members of a regional replica are told from those of one whose name begins alike', () => {
  assert.equal(ordinalOf('a', 'a-1'), 1);
  assert.equal(ordinalOf('a', 'a-1-0'), undefined);
  assert.equal(ordinalOf('a-1', 'a-1-0'), 0);
  assert.equal(ordinalOf('a', 'a-01'), undefined);
});

const pod = (change: object = {}): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'a-eu-0' },
  status: { phase: 'Running', podIP: '10.0.0.1', conditions: [{ type: 'Ready', status: 'True' }] },
  ...change,
});

const answer = (change: Partial<AgentStatus>): ReadonlyMap<string, { kind: 'status'; status: AgentStatus }> =>
  new Map([
    [
      'a-eu-0',
      {
        kind: 'status',
        status: {
          member: { name: 'a-eu-0', incarnation: 'b'.repeat(16) },
          region: 'eu',
          phase: 'Following',
          problem: '',
          hasData: true,
          standbys: [],
          slots: [],
          ...change,
        },
      },
    ],
  ]);

const postgres = {
  running: true,
  open: true,
  inRecovery: true,
  version: '17',
  timeline: 1,
  lsn: { written: '0/1', flushed: '0/1', replayed: '0/1' },
  epoch: 1,
  pendingRestart: false,
  restartNonce: '',
};

test('a member is what its Postgres does: follower, primary, or none while it is closed or down', () => {
  const roleWith = (change: Partial<AgentStatus>) => memberStatuses([pod()], answer(change), [], undefined)[0]?.role;
  assert.equal(roleWith({ postgres }), 'follower');
  assert.equal(roleWith({ phase: 'Primary', postgres: { ...postgres, inRecovery: false } }), 'primary');
  assert.equal(roleWith({ phase: 'Starting', postgres: { ...postgres, inRecovery: false, open: false } }), 'none');
  assert.equal(roleWith({ phase: 'Cloning' }), 'none');
});

test('an agent that does not answer us changes nothing while its pod is ready, and all once it is not', () => {
  const known = [
    { name: 'a-eu-0', incarnation: 'b'.repeat(16), address: '10.0.0.1', phase: 'Following', role: 'follower' as const },
  ];
  const silent = new Map([['a-eu-0', { kind: 'silent' as const, why: 'no answer within 2000 ms' }]]);
  assert.deepEqual(memberStatuses([pod()], silent, known, 'a-us-0'), known);
  const unready = pod({ status: { phase: 'Running', podIP: '10.0.0.1' } });
  assert.deepEqual(memberStatuses([unready], silent, known, 'a-us-0'), [
    { ...known[0], phase: 'Unreachable', role: 'none' },
  ]);
  const moved = pod({ status: { ...pod().status, podIP: '10.0.0.2' } });
  assert.equal(memberStatuses([moved], silent, known, 'a-us-0')[0]?.role, 'none', 'another pod is asked first');
});

test('a primary that fell silent before a failover is no primary any more, also while its pod looks well', () => {
  const known = [
    { name: 'a-eu-0', incarnation: 'b'.repeat(16), address: '10.0.0.1', phase: 'Primary', role: 'primary' as const },
  ];
  const silent = new Map([['a-eu-0', { kind: 'silent' as const, why: 'no answer within 2000 ms' }]]);
  assert.equal(memberStatuses([pod()], silent, known, 'a-eu-0')[0]?.role, 'primary');
  assert.equal(memberStatuses([pod()], silent, known, 'a-us-0')[0]?.role, 'none');
});

test('why a pod is not ready is said by whoever knows best, and shortly', () => {
  assert.equal(podProblem(pod(), undefined), undefined);
  const unscheduled = pod({
    status: { phase: 'Pending', conditions: [{ type: 'PodScheduled', status: 'False', message: 'no node matches' }] },
  });
  assert.equal(podProblem(unscheduled, undefined), 'a-eu-0 has no node: no node matches');
  const pulling = pod({
    status: {
      phase: 'Pending',
      containerStatuses: [{ state: { waiting: { reason: 'ErrImagePull', message: 'x'.repeat(500) } } }],
    },
  });
  assert.match(podProblem(pulling, undefined) ?? '', /^a-eu-0 waits: ErrImagePull: x{100,150}…$/);
  const running = pod({ status: { phase: 'Running' } });
  assert.equal(podProblem(running, { kind: 'silent', why: 'refused' }), 'a-eu-0 does not answer: refused');
  assert.equal(
    podProblem(running, answer({ phase: 'Failed', problem: 'disk full' }).get('a-eu-0')),
    'a-eu-0 is Failed: disk full',
  );
});
