/** What the objects of a shard's members say, where it matters: safety of pods, names, policies, and what can't be changed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OwnerReference } from '#kube/objects.ts';
import { shardDisruptionBudget } from '#operator/resources/disruption-budget.ts';
import { memberAccess } from '#operator/resources/member-access.ts';
import { memberLabels, memberSetSelector, shardMembersSelector } from '#operator/resources/member-labels.ts';
import {
  type MemberSetWish,
  memberService,
  memberStatefulSet,
  storageDiffers,
} from '#operator/resources/member-set.ts';
import { shardNetworkPolicies } from '#operator/resources/network-policies.ts';

const owner: OwnerReference = { apiVersion: 'meridian.db/v1alpha1', kind: 'RegionalReplica', name: 'a-eu', uid: 'u' };
const place = { namespace: 'prod', keyspace: 'shop', shard: 'a', regionalReplica: 'a-eu', region: 'eu' };
const wish: MemberSetWish = {
  place,
  owner,
  image: 'meridian/postgres:1',
  nodeSelector: { 'topology.kubernetes.io/region': 'eu' },
  replicas: 2,
  storage: { size: '10Gi' },
};
const set = memberStatefulSet(wish);
const pod = set.spec?.template.spec;
const container = pod?.containers[0];

test('pods are replaced by nobody but us, start side by side, and keep their volumes', () => {
  assert.deepEqual(set.spec?.updateStrategy, { type: 'OnDelete' });
  assert.equal(set.spec?.podManagementPolicy, 'Parallel');
  assert.deepEqual(set.spec?.persistentVolumeClaimRetentionPolicy, { whenDeleted: 'Retain', whenScaled: 'Retain' });
});

test('a pod has no root, no writable root file system and no capability', () => {
  assert.deepEqual(pod?.securityContext, {
    runAsNonRoot: true,
    runAsUser: 10001,
    runAsGroup: 10001,
    fsGroup: 10001,
    fsGroupChangePolicy: 'OnRootMismatch',
    seccompProfile: { type: 'RuntimeDefault' },
  });
  assert.deepEqual(container?.securityContext, {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  });
  assert.equal(pod?.volumes?.find(({ name }) => name === 'tls')?.secret?.defaultMode, 0o440);
});

test('everything that Postgres and the agent write to is a volume', () => {
  const mounts = Object.fromEntries((container?.volumeMounts ?? []).map(({ mountPath, name }) => [mountPath, name]));
  assert.deepEqual(mounts, {
    '/var/lib/meridian': 'data',
    '/run/meridian': 'run',
    '/tmp': 'tmp',
    '/dev/shm': 'shared-memory',
    '/etc/meridian/tls': 'tls',
  });
});

test('no probe restarts a member because its Postgres is down: all but readiness ask whether the agent lives', () => {
  assert.equal(container?.livenessProbe?.httpGet?.path, '/livez');
  assert.equal(container?.startupProbe?.httpGet?.path, '/livez');
  assert.equal(container?.readinessProbe?.httpGet?.path, '/readyz');
  const { periodSeconds = 0, failureThreshold = 0 } = container?.livenessProbe ?? {};
  assert.ok(periodSeconds * failureThreshold >= 60, 'a minute of silence at least');
});

test('members run on the nodes of their region, apart from each other where they can', () => {
  assert.deepEqual(pod?.nodeSelector, { 'topology.kubernetes.io/region': 'eu' });
  assert.deepEqual(
    pod?.topologySpreadConstraints?.map(({ topologyKey, whenUnsatisfiable }) => [topologyKey, whenUnsatisfiable]),
    [
      ['topology.kubernetes.io/zone', 'ScheduleAnyway'],
      ['kubernetes.io/hostname', 'ScheduleAnyway'],
    ],
  );
});

test('quantities travel as text, and nothing is asked for where nothing is said', () => {
  assert.deepEqual(container?.resources, {});
  const sized = memberStatefulSet({ ...wish, resources: { requests: { cpu: 2, memory: '1Gi' }, limits: undefined } });
  assert.deepEqual(sized.spec?.template.spec?.containers[0]?.resources, { requests: { cpu: '2', memory: '1Gi' } });
});

test('the selector is a part of the labels, and of nothing that may change', () => {
  assert.deepEqual(set.spec?.selector.matchLabels, memberSetSelector(place));
  const labels = set.spec?.template.metadata?.labels ?? {};
  assert.deepEqual(labels, memberLabels(place));
  for (const [key, value] of Object.entries(memberSetSelector(place))) assert.equal(labels[key], value);
  assert.ok(!Object.keys(memberSetSelector(place)).includes('meridian.db/region'));
});

test('claim templates that exist are kept, and the difference is said', () => {
  const present = memberStatefulSet(wish);
  const grown = { ...wish, storage: { size: '20Gi' } };
  assert.deepEqual(memberStatefulSet(grown, present).spec?.volumeClaimTemplates, present.spec?.volumeClaimTemplates);
  assert.match(storageDiffers(grown.storage, present) ?? '', /made with 10Gi, not 20Gi/);
  assert.equal(storageDiffers(wish.storage, present), undefined);
  assert.equal(storageDiffers(wish.storage, undefined), undefined);
  assert.match(storageDiffers({ size: '10Gi', storageClassName: 'fast' }, present) ?? '', /storage class/);
});

test('the Service names pods that are not ready, since agents talk before Postgres is open', () => {
  const service = memberService(wish);
  assert.equal(service.spec?.clusterIP, 'None');
  assert.equal(service.spec?.publishNotReadyAddresses, true);
  assert.deepEqual(service.spec?.selector, memberSetSelector(place));
});

test('a member may read Shards and keep Leases, and nothing else', () => {
  const { role, roleBinding, serviceAccount } = memberAccess({ namespace: 'prod', keyspace: 'shop', owner });
  assert.deepEqual(role.rules, [
    { apiGroups: ['meridian.db'], resources: ['shards'], verbs: ['get', 'list', 'watch'] },
    { apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: ['get', 'create', 'update'] },
  ]);
  assert.equal(pod?.serviceAccountName, serviceAccount.metadata.name);
  assert.equal(roleBinding.subjects?.[0]?.name, serviceAccount.metadata.name);
});

test('one budget over all regions: one member at a time', () => {
  const budget = shardDisruptionBudget({ ...place, owner });
  assert.equal(budget.spec?.maxUnavailable, 1);
  assert.deepEqual(budget.spec?.selector?.matchLabels, shardMembersSelector('a'));
});

const policies = shardNetworkPolicies({ ...place, owner, operatorNamespace: 'meridian-system' });

test('by default nothing reaches a member, and it reaches nothing', () => {
  const deny = policies[0];
  assert.deepEqual(deny?.spec?.policyTypes, ['Ingress', 'Egress']);
  assert.equal(deny?.spec?.ingress, undefined);
  assert.equal(deny?.spec?.egress, undefined);
});

test('the allowing rules name who may reach which port; none but the probes is open to all', () => {
  const rules = policies[1]?.spec?.ingress ?? [];
  const open = rules.filter(({ from }) => from === undefined);
  assert.deepEqual(
    open.flatMap(({ ports }) => ports?.map(({ port }) => port)),
    [8422],
  );
  for (const [name, number] of [
    ['tunnels', 8421],
    ['leases', 8423],
  ] as const) {
    const allowing = rules.filter(({ ports }) => ports?.some(({ port }) => port === number));
    assert.deepEqual(
      allowing.flatMap(({ from }) => from),
      [{ podSelector: { matchLabels: shardMembersSelector('a') } }],
      `${name} between members of this shard only`,
    );
  }
  const postgres = rules.find(({ ports }) => ports?.some(({ port }) => port === 5432));
  assert.deepEqual(
    postgres?.from?.map(({ podSelector }) => podSelector?.matchLabels?.['app.kubernetes.io/component']),
    ['router', 'operator'],
  );
  assert.deepEqual(postgres?.from?.[1]?.namespaceSelector?.matchLabels, {
    'kubernetes.io/metadata.name': 'meridian-system',
  });
});
