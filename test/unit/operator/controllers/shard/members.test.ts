/** What a member is, put together from RegionalReplicas, pods, volumes and agents. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PersistentVolumeClaim, Pod, StatefulSet } from '#kube/kinds.ts';
import type { RegionalReplica } from '#kube/meridian.ts';
import { type MemberSources, memberViews } from '#operator/controllers/shard/members.ts';

const replica = (name: string, region: string, instances: number, change: object = {}): RegionalReplica => ({
  apiVersion: 'meridian.db/v1alpha1',
  kind: 'RegionalReplica',
  metadata: { namespace: 'prod', name, ...change },
  spec: { shard: 'a', region, instances, promotable: true },
});

const pod = (name: string, status: object = {}, revision = 'r1'): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    namespace: 'prod',
    name,
    uid: `uid-${name}`,
    labels: { 'meridian.db/keyspace': 'shop', 'controller-revision-hash': revision },
  },
  status: { phase: 'Running', podIP: '10.0.0.1', ...status },
});

const set = (
  name: string,
  change: { revision?: string; generation?: number; observed?: number } = {},
): StatefulSet => ({
  apiVersion: 'apps/v1',
  kind: 'StatefulSet',
  metadata: { namespace: 'prod', name, generation: change.generation ?? 1 },
  status: { replicas: 1, updateRevision: change.revision ?? 'r1', observedGeneration: change.observed ?? 1 },
});

const claim = (name: string, phase: string): PersistentVolumeClaim => ({
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: { namespace: 'prod', name },
  status: { phase },
});

const views = (change: Partial<MemberSources>) =>
  memberViews({
    shard: { apiVersion: 'meridian.db/v1alpha1', kind: 'Shard', metadata: { namespace: 'prod', name: 'a' } },
    replicas: [],
    pods: [],
    statefulSets: [],
    claims: [],
    answers: new Map(),
    listed: [],
    ...change,
  });

const podView = (status: object, revision?: string, statefulSet = set('a-eu')) =>
  views({
    replicas: [replica('a-eu', 'eu', 1)],
    pods: [pod('a-eu-0', status, revision)],
    statefulSets: [statefulSet],
  })[0]?.pod;

test('whoever is declared, has a pod or a volume, or stands in the record, is a member; once', () => {
  const found = views({
    replicas: [replica('a-eu', 'eu', 1), replica('a-us', 'us', 1, { deletionTimestamp: 'x' })],
    pods: [pod('a-eu-0'), pod('a-us-0')],
    claims: [claim('data-a-eu-1', 'Bound'), claim('data-a-eu-0', 'Pending')],
    listed: ['a-ap-0', 'a-eu-0'],
  });
  assert.deepEqual(
    found.map(({ name, declared, region, volume }) => [name, declared, region, volume]),
    [
      ['a-ap-0', false, undefined, 'none'],
      ['a-eu-0', true, 'eu', 'pending'],
      ['a-eu-1', false, 'eu', 'bound'],
      ['a-us-0', false, 'us', 'none'],
    ],
  );
});

test('who a member was last is known from its RegionalReplica, for as long as its volume is there', () => {
  const known = { ...replica('a-eu', 'eu', 1), status: { members: [{ name: 'a-eu-0', incarnation: 'b'.repeat(16) }] } };
  const lastKnown = (claims: readonly PersistentVolumeClaim[]) =>
    views({ replicas: [known as RegionalReplica], claims })[0]?.lastKnown;
  assert.deepEqual(lastKnown([claim('data-a-eu-0', 'Bound')]), { name: 'a-eu-0', incarnation: 'b'.repeat(16) });
  assert.equal(lastKnown([claim('data-a-eu-0', 'Pending')]), undefined);
  assert.equal(lastKnown([]), undefined);
});

test('a RegionalReplica that has announced that it goes declares nobody, though its deletion has not been seen yet', () => {
  const shard = {
    apiVersion: 'meridian.db/v1alpha1',
    kind: 'Shard',
    metadata: { namespace: 'prod', name: 'a', annotations: { 'leaving.meridian.db/a-eu': 'first' } },
  };
  const declared = (uid: string) =>
    views({ shard, replicas: [replica('a-eu', 'eu', 1, { uid })], pods: [pod('a-eu-0')] })[0]?.declared;
  assert.equal(declared('first'), false);
  assert.equal(declared('second'), true, 'one made again under that name is another one');
});

test('a volume that is marked for deletion is told from one that is there to stay', () => {
  const bound = claim('data-a-eu-0', 'Bound');
  const marked = { ...bound, metadata: { ...bound.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' } };
  assert.equal(views({ claims: [bound] })[0]?.volumeGoing, false);
  assert.equal(views({ claims: [marked] })[0]?.volumeGoing, true);
});

test('a pod is outdated by its revision, once the newest template was seen', () => {
  assert.equal(podView({}, 'r1')?.outdated, false);
  assert.equal(podView({}, 'r0')?.outdated, true);
  assert.equal(podView({}, 'r1', set('a-eu', { generation: 2, observed: 1 }))?.outdated, false);
});

const waiting = (reason: string): object => ({ containerStatuses: [{ state: { waiting: { reason } } }] });

const idle: readonly (readonly [string, object, boolean])[] = [
  ['waits for an image', { phase: 'Pending', ...waiting('ImagePullBackOff') }, true],
  ['waits for a node', { phase: 'Pending' }, true],
  ['fails again and again', waiting('CrashLoopBackOff'), true],
  ['runs', { containerStatuses: [{ state: { running: {} } }] }, false],
  ['has just ended and starts again', { containerStatuses: [{ state: { terminated: {} } }] }, false],
];
for (const [what, status, expected] of idle) {
  test(`a pod that ${what} ${expected ? 'may' : 'may not'} be replaced out of turn`, () => {
    assert.equal(podView(status)?.idle, expected);
  });
}

test('a pod that has ended has no address to ask', () => {
  assert.equal(podView({})?.address, '10.0.0.1');
  assert.equal(podView({ phase: 'Failed' })?.address, undefined);
  assert.equal(podView({ podIP: '' })?.address, undefined);
});
