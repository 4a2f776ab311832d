/**
 * The StatefulSet of one RegionalReplica, and the headless Service that names its pods.
 * Invariants: pods are replaced only by our own deleting them (OnDelete), since the order of a rolling change is the shard's;
 * they start side by side (Parallel), since who follows whom isn't by ordinal; the Service publishes pods that aren't ready,
 * since agents talk before Postgres is open.
 * Source: Kubernetes documentation, "StatefulSets".
 */
import { ports } from '#core/names.ts';
import type { Service, StatefulSet } from '#kube/kinds.ts';
import type { OwnerReference } from '#kube/objects.ts';
import { memberLabels, memberSetSelector } from './member-labels.ts';
import { dataVolume, type MemberPodWish, memberPodTemplate } from './member-pod.ts';

export interface MemberStorage {
  readonly size: string;
  readonly storageClassName?: string | undefined;
}

export interface MemberSetWish extends MemberPodWish {
  readonly owner: OwnerReference;
  readonly replicas: number;
  readonly storage: MemberStorage;
}

type Spec = NonNullable<StatefulSet['spec']>;
export type ClaimTemplates = NonNullable<Spec['volumeClaimTemplates']>;

/**
 * @param present The StatefulSet that exists. Its claim templates are kept, since the API server lets nobody change them;
 * `storageDiffers` tells whether that hides a wish.
 */
export function memberStatefulSet(wish: MemberSetWish, present?: StatefulSet): StatefulSet {
  const { place } = wish;
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: {
      namespace: place.namespace,
      name: place.regionalReplica,
      labels: memberLabels(place),
      ownerReferences: [wish.owner],
    },
    spec: {
      serviceName: place.regionalReplica,
      replicas: wish.replicas,
      podManagementPolicy: 'Parallel',
      updateStrategy: { type: 'OnDelete' },
      revisionHistoryLimit: 3,
      selector: { matchLabels: memberSetSelector(place) },
      template: memberPodTemplate(wish),
      // Whatever the policy says: among these volumes may be some that an earlier shard of the same name was to leave, and a
      // StatefulSet goes for other reasons, too. The shard's controller deletes those that were made for its Shard.
      persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Retain', whenScaled: 'Retain' },
      volumeClaimTemplates: presentClaims(present) ?? claimTemplates(wish),
    },
  };
}

function claimTemplates({ place, storage }: MemberSetWish): ClaimTemplates {
  return [
    {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: dataVolume, labels: memberLabels(place) },
      spec: {
        accessModes: ['ReadWriteOnce'],
        volumeMode: 'Filesystem',
        resources: { requests: { storage: storage.size } },
        ...(storage.storageClassName === undefined ? {} : { storageClassName: storage.storageClassName }),
      },
    },
  ];
}

/** As they were applied: what the server adds (status, defaults) is left out. */
function presentClaims(present: StatefulSet | undefined): ClaimTemplates | undefined {
  return present?.spec?.volumeClaimTemplates?.map((claim) => ({
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    ...(claim.metadata === undefined
      ? {}
      : { metadata: { name: claim.metadata.name ?? dataVolume, labels: { ...claim.metadata.labels } } }),
    ...(claim.spec === undefined ? {} : { spec: claim.spec }),
  }));
}

/** What the wish says about storage that the existing claims don't, for people; undefined when they agree. */
export function storageDiffers(wish: MemberStorage, present: StatefulSet | undefined): string | undefined {
  const claim = present?.spec?.volumeClaimTemplates?.find((template) => template.metadata?.name === dataVolume)?.spec;
  if (claim === undefined) return undefined;
  const size = claim.resources?.requests?.['storage'];
  if (size !== undefined && size !== wish.size) return `volumes were made with ${size}, not ${wish.size}`;
  if (wish.storageClassName !== undefined && claim.storageClassName !== wish.storageClassName)
    return `volumes were made with the storage class ${claim.storageClassName ?? '(default)'}, not ${wish.storageClassName}`;
  return undefined;
}

export function memberService({ place, owner }: Pick<MemberSetWish, 'place' | 'owner'>): Service {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      namespace: place.namespace,
      name: place.regionalReplica,
      labels: memberLabels(place),
      ownerReferences: [owner],
    },
    spec: {
      clusterIP: 'None',
      publishNotReadyAddresses: true,
      selector: memberSetSelector(place),
      ports: [
        { name: 'postgres', port: ports.postgres, targetPort: 'postgres', protocol: 'TCP' },
        { name: 'agent', port: ports.agentApi, targetPort: 'agent', protocol: 'TCP' },
        { name: 'tunnel', port: ports.tunnel, targetPort: 'tunnel', protocol: 'TCP' },
      ],
    },
  };
}
