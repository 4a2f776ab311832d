/**
 * What a RegionalReplica needs now: which objects to make, how many pods, what to say about it. Pure.
 * The order of the actions is the order in which pods need them: account, certificates, name, StatefulSet.
 * Leaves membership, orders and the rolling of pods to the shard's controller; this one never deletes a pod.
 */

import type { Role, RoleBinding, Service, ServiceAccount, StatefulSet } from '#kube/kinds.ts';
import type { Keyspace, Region, RegionalReplica, Shard } from '#kube/meridian.ts';
import { controllerReference, type OwnerReference, type Stored } from '#kube/objects.ts';
import type { MemberCertificatesWish } from '../../pki/member-secret.ts';
import { dueMemberCertificates, memberSecretIsStale } from '../../pki/member-secret.ts';
import { memberAccess } from '../../resources/member-access.ts';
import { type MemberSetPlace, memberLabels, memberSetSelector, selectorText } from '../../resources/member-labels.ts';
import { memberService, memberStatefulSet, storageDiffers } from '../../resources/member-set.ts';
import type { Plan } from '../../runtime/controller.ts';
import {
  certificatesFinding,
  instancesFinding,
  isOurs,
  knownFindings,
  readyFinding,
  storageFinding,
} from './findings.ts';
import { hasAnnounced } from './leaving.ts';
import { isReady, memberStatuses } from './members.ts';
import { countedMembers, type PodCount, podCount } from './scale.ts';
import { isGoing, type Snapshot } from './snapshot.ts';

export type Action =
  | { readonly kind: 'EnsureAuthority'; readonly keyspace: Stored<Keyspace> }
  | {
      readonly kind: 'IssueCertificates';
      readonly wish: MemberCertificatesWish;
      readonly labels: Readonly<Record<string, string>>;
      readonly owner: OwnerReference;
      /** For the log: which, and why. */
      readonly why: string;
    }
  | { readonly kind: 'ApplyServiceAccount'; readonly object: ServiceAccount }
  | { readonly kind: 'ApplyRole'; readonly object: Role }
  | { readonly kind: 'ApplyRoleBinding'; readonly object: RoleBinding }
  | { readonly kind: 'ApplyService'; readonly object: Service }
  | { readonly kind: 'ApplyStatefulSet'; readonly object: StatefulSet }
  | { readonly kind: 'AnnounceLeaving'; readonly shard: string; readonly shardUid: string }
  | { readonly kind: 'DeleteStatefulSet'; readonly name: string; readonly uid: string };

export type ReplicaPlan = Plan<RegionalReplica, Action>;

const convergingMs = 2_000;
const stableMs = 10_000;

export function plan(snapshot: Snapshot, now: Date): ReplicaPlan {
  const { replica, shard } = snapshot;
  if (replica.metadata.deletionTimestamp !== undefined) return leave(snapshot);
  if (shard === undefined || isGoing(shard)) return withoutShard(snapshot);
  const { keyspace, region } = snapshot;
  if (keyspace === undefined || keyspace.metadata.deletionTimestamp !== undefined || region === undefined)
    return conclude(snapshot, [], 'Waiting');
  return converge(snapshot, { shard, keyspace, region }, now);
}

interface Known {
  readonly shard: Stored<Shard>;
  readonly keyspace: Stored<Keyspace>;
  readonly region: Stored<Region>;
}

/** The object is being deleted: its pods may go once nothing counts on them, or the shard itself is going. */
function leave(snapshot: Snapshot): ReplicaPlan {
  const { replica, shard } = snapshot;
  const serving = shard === undefined || isGoing(shard) ? undefined : shard;
  if (serving !== undefined && !hasAnnounced(serving, replica))
    return {
      ...conclude(
        snapshot,
        [{ kind: 'AnnounceLeaving', shard: serving.metadata.name, shardUid: serving.metadata.uid }],
        'Deleting',
      ),
      requeueAfterMs: 200,
    };
  const counted = serving === undefined ? [] : countedMembers(replica.metadata.name, serving.status);
  // Pods, Service and certificates go with the object, by owner references; volumes stay, as long as their Shard does.
  if (counted.length === 0) return { actions: [], release: true };
  const held = podCount(replica.metadata.name, 0, shard?.status).held;
  const plan = conclude(snapshot, [], 'Deleting');
  return {
    ...plan,
    conditions: [
      ...(plan.conditions ?? []).filter(({ type }) => type !== 'InstancesAsWished'),
      {
        type: 'InstancesAsWished',
        status: 'False',
        reason: held?.reason ?? 'MembershipHolds',
        message: `deletion waits: ${held?.message ?? ''}`,
        warning: true,
      },
    ],
    requeueAfterMs: convergingMs,
  };
}

/** No pod runs for a shard that is gone or going. Its volumes are its own controller's affair. */
function withoutShard(snapshot: Snapshot): ReplicaPlan {
  const { statefulSet } = snapshot.owned;
  const actions: Action[] =
    statefulSet === undefined || statefulSet.metadata.deletionTimestamp !== undefined || !isOurs(snapshot)
      ? []
      : [{ kind: 'DeleteStatefulSet', name: statefulSet.metadata.name, uid: statefulSet.metadata.uid }];
  return conclude(snapshot, actions, 'Waiting');
}

function converge(snapshot: Snapshot, known: Known, now: Date): ReplicaPlan {
  const { replica } = snapshot;
  const count = podCount(replica.metadata.name, replica.spec.instances, known.shard.status);
  if (!isOurs(snapshot)) return conclude(snapshot, [], 'Waiting', { count });
  // Without the authority there are no certificates, and without them no pod can start: the next round goes on.
  if (snapshot.ca === undefined)
    return {
      ...conclude(snapshot, [{ kind: 'EnsureAuthority', keyspace: known.keyspace }], 'Progressing', { count }),
      requeueAfterMs: 500,
    };
  const actions = wishedObjects(snapshot, known, count, now);
  return conclude(snapshot, actions, undefined, { count, storage: storageOf(snapshot, known) });
}

const storageOf = ({ replica, owned }: Snapshot, { shard }: Known): string | undefined =>
  storageDiffers(replica.spec.storage ?? shard.spec.storage, owned.statefulSet);

function wishedObjects(snapshot: Snapshot, known: Known, count: PodCount, now: Date): Action[] {
  const { replica, owned, ca } = snapshot;
  const { shard, keyspace, region } = known;
  const namespace = replica.metadata.namespace ?? '';
  const place: MemberSetPlace = {
    namespace,
    keyspace: keyspace.metadata.name,
    shard: shard.metadata.name,
    regionalReplica: replica.metadata.name,
    region: region.metadata.name,
  };
  const owner = controllerReference(replica);
  const access = memberAccess({ namespace, keyspace: place.keyspace, owner: controllerReference(keyspace) });
  const certificates = {
    namespace,
    keyspace: place.keyspace,
    regionalReplica: place.regionalReplica,
    ordinals: Math.max(count.replicas, snapshot.pods.length),
  };
  const issue: Action[] =
    ca !== undefined && memberSecretIsStale(owned.tls, ca, certificates, now)
      ? [
          {
            kind: 'IssueCertificates',
            wish: certificates,
            labels: memberLabels(place),
            owner,
            why: dueMemberCertificates(owned.tls, ca, certificates, now)
              .map(({ member, reason }) => `${member}: ${reason}`)
              .join('; '),
          },
        ]
      : [];
  const resources = replica.spec.resources ?? shard.spec.resources;
  return [
    { kind: 'ApplyServiceAccount', object: access.serviceAccount },
    { kind: 'ApplyRole', object: access.role },
    { kind: 'ApplyRoleBinding', object: access.roleBinding },
    ...issue,
    { kind: 'ApplyService', object: memberService({ place, owner }) },
    {
      kind: 'ApplyStatefulSet',
      object: memberStatefulSet(
        {
          place,
          owner,
          image: shard.spec.postgres.image ?? snapshot.defaultImage,
          nodeSelector: region.spec.nodeSelector ?? { 'topology.kubernetes.io/region': region.metadata.name },
          resources,
          replicas: count.replicas,
          storage: replica.spec.storage ?? shard.spec.storage,
        },
        owned.statefulSet,
      ),
    },
  ];
}

interface Details {
  readonly count?: PodCount;
  /** What stands in the way of the storage wished. */
  readonly storage?: string | undefined;
}

function conclude(
  snapshot: Snapshot,
  actions: readonly Action[],
  phase: 'Waiting' | 'Progressing' | 'Deleting' | undefined,
  details: Details = {},
): ReplicaPlan {
  const { replica, pods, answers } = snapshot;
  const members = memberStatuses(
    pods,
    answers,
    replica.status?.members ?? [],
    snapshot.shard?.status?.authority?.member,
  );
  const readyInstances = pods.filter((pod) => isReady(pod) && pod.metadata.deletionTimestamp === undefined).length;
  const findings = [
    ...knownFindings(snapshot),
    instancesFinding(details.count),
    storageFinding(details.storage),
    certificatesFinding(snapshot),
  ].filter((finding) => finding !== undefined);
  const ready = readyFinding(snapshot, findings, readyInstances);
  return {
    actions,
    status: {
      phase: phase ?? (ready.status === 'True' ? 'Ready' : 'Progressing'),
      instances: pods.length,
      readyInstances,
      selector: selectorText(memberSetSelector({ shard: replica.spec.shard, regionalReplica: replica.metadata.name })),
      members,
    },
    conditions: [...findings, ready],
    requeueAfterMs: ready.status === 'True' ? stableMs : convergingMs,
  };
}
