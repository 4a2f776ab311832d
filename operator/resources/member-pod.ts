/**
 * The pod of a member: one container with Postgres and its agent. Everything that may change without a restart (parameters,
 * sync list, source) travels in orders instead, so that a new template always means a rolling change.
 * Invariants: no root, no writable root file system, no capability; the volume is the only thing that outlives the pod.
 * Source: Kubernetes documentation, "Pod Security Standards" (restricted).
 */
import { containerUserId, memberPaths, memberServiceAccountName, memberTlsSecretName, ports } from '#core/names.ts';
import type { StatefulSet } from '#kube/kinds.ts';
import { type MemberSetPlace, memberLabels, memberSetSelector } from './member-labels.ts';

export type PodTemplate = NonNullable<NonNullable<StatefulSet['spec']>['template']>;
type Container = NonNullable<PodTemplate['spec']>['containers'][number];

type Quantities = Readonly<Record<string, string | number | undefined>>;

/** CPU and memory in the form of a container's `resources`. */
export interface ContainerResources {
  readonly requests?: Quantities | undefined;
  readonly limits?: Quantities | undefined;
}

export interface MemberPodWish {
  readonly place: MemberSetPlace;
  readonly image: string;
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly resources?: ContainerResources | undefined;
}

/**
 * How long a pod may take to stop. A primary's fast shutdown ends sessions, writes a checkpoint and waits for its followers;
 * past this the kubelet kills it, and the next start recovers from the log.
 */
export const terminationGracePeriodSeconds = 60;

export const dataVolume = 'data';

export function memberPodTemplate(wish: MemberPodWish): PodTemplate {
  const { place } = wish;
  return {
    metadata: { labels: memberLabels(place) },
    spec: {
      serviceAccountName: memberServiceAccountName(place.keyspace),
      enableServiceLinks: false,
      terminationGracePeriodSeconds,
      nodeSelector: { ...wish.nodeSelector },
      topologySpreadConstraints: spread(place),
      securityContext: {
        runAsNonRoot: true,
        runAsUser: containerUserId,
        runAsGroup: containerUserId,
        fsGroup: containerUserId,
        fsGroupChangePolicy: 'OnRootMismatch',
        seccompProfile: { type: 'RuntimeDefault' },
      },
      containers: [postgresContainer(wish)],
      volumes: [
        { name: 'run', emptyDir: {} },
        { name: 'tmp', emptyDir: {} },
        { name: 'shared-memory', emptyDir: { medium: 'Memory' } },
        // Group-readable only: Postgres refuses a key that others may read ("Secure TCP/IP Connections with SSL").
        { name: 'tls', secret: { secretName: memberTlsSecretName(place.regionalReplica), defaultMode: 0o440 } },
      ],
    },
  };
}

/** Over zones, then over nodes, of the region; wished, not required: one node is better than no member. */
function spread(place: MemberSetPlace) {
  return ['topology.kubernetes.io/zone', 'kubernetes.io/hostname'].map((topologyKey) => ({
    maxSkew: 1,
    topologyKey,
    whenUnsatisfiable: 'ScheduleAnyway',
    labelSelector: { matchLabels: memberSetSelector(place) },
  }));
}

function postgresContainer({ place, image, resources }: MemberPodWish): Container {
  const field = (name: string, fieldPath: string) => ({ name, valueFrom: { fieldRef: { fieldPath } } });
  return {
    name: 'postgres',
    image,
    imagePullPolicy: 'IfNotPresent',
    ports: [
      { name: 'postgres', containerPort: ports.postgres, protocol: 'TCP' },
      { name: 'agent', containerPort: ports.agentApi, protocol: 'TCP' },
      { name: 'tunnel', containerPort: ports.tunnel, protocol: 'TCP' },
      { name: 'lease', containerPort: ports.lease, protocol: 'TCP' },
      { name: 'http', containerPort: ports.memberHttp, protocol: 'TCP' },
    ],
    env: [
      field('POD_NAME', 'metadata.name'),
      field('POD_NAMESPACE', 'metadata.namespace'),
      field('POD_IP', 'status.podIP'),
      field('NODE_NAME', 'spec.nodeName'),
      { name: 'MERIDIAN_KEYSPACE', value: place.keyspace },
      { name: 'MERIDIAN_SHARD', value: place.shard },
      { name: 'MERIDIAN_REGION', value: place.region },
      { name: 'MERIDIAN_REGIONAL_REPLICA', value: place.regionalReplica },
      { name: 'PGDATA', value: memberPaths.pgdata },
    ],
    resources: containerResources(resources),
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
    volumeMounts: [
      { name: dataVolume, mountPath: memberPaths.volume },
      { name: 'run', mountPath: memberPaths.run },
      { name: 'tmp', mountPath: '/tmp' },
      { name: 'shared-memory', mountPath: '/dev/shm' },
      { name: 'tls', mountPath: memberPaths.tls, readOnly: true },
    ],
    // These ask the agent, never Postgres: a member whose Postgres is down, held or fenced must not be restarted for it
    // (design traps, ambiguity 19). Lenient, since a restart costs far more than a slow answer.
    startupProbe: { ...probe('/livez'), periodSeconds: 2, failureThreshold: 60 },
    livenessProbe: { ...probe('/livez'), periodSeconds: 10, failureThreshold: 6 },
    readinessProbe: { ...probe('/readyz'), periodSeconds: 3, failureThreshold: 2 },
  };
}

/** Quantities travel as text; a bare number would come back as text, and look like a change each time. */
export function containerResources(wish: ContainerResources | undefined): NonNullable<Container['resources']> {
  const texts = (quantities: Quantities): Record<string, string> =>
    Object.fromEntries(
      Object.entries(quantities).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]])),
    );
  return {
    ...(wish?.requests === undefined ? {} : { requests: texts(wish.requests) }),
    ...(wish?.limits === undefined ? {} : { limits: texts(wish.limits) }),
  };
}

const probe = (path: string) => ({ httpGet: { path, port: ports.memberHttp }, timeoutSeconds: 5 });
