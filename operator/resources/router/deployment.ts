/**
 * The Deployment of one region's router. Routers are stateless: any number may run, and one that leaves first stops being an
 * endpoint, then drains its clients (the router's own work on SIGTERM), then ends.
 *
 * Invariants: during a roll-out never fewer routers than wished (`maxUnavailable: 0`); the certificate is a mounted Secret that
 * the router reads again when it changes, so no checksum of it is here and a renewal restarts nothing.
 */
import {
  containerUserId,
  ports,
  routerPeersName,
  routerServiceAccountName,
  routerTlsSecretName,
  tokenKeysSecretName,
} from '#core/names.ts';
import type { Deployment } from '#kube/kinds.ts';
import { type RouterWish, routerMetadata, routerSelector } from './wish.ts';

/** Until kube-proxy everywhere has taken the pod out of the Service; new connections still arrive that long. */
const endpointRemovalSeconds = 5;
/** Draining and ending together; the router cuts what is left after its own, shorter deadline. */
const terminationSeconds = 60;

/**
 * Postgres' grammar is one giant WebAssembly function: V8's optimising compiler takes about 550 MB for some seconds to compile it, in each
 * process that parses much. The baseline compiler alone makes a parse about twice as long, and plans are kept by their text.
 * What a statement leaves behind dies at once: a young generation of 24 MB takes it as well as V8's own 48, which with ten thousand idle
 * clients make the heap twice as big (docs/performance.md, "Memory").
 */
export const nodeOptions: readonly string[] = ['--liftoff-only', '--max-semi-space-size=8'];

export function routerDeployment(wish: RouterWish): Deployment {
  const metadata = routerMetadata(wish);
  const selector = routerSelector(wish.keyspace, wish.region);
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata,
    spec: {
      replicas: wish.replicas,
      revisionHistoryLimit: 3,
      progressDeadlineSeconds: 300,
      selector: { matchLabels: selector },
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
      template: {
        metadata: { labels: metadata.labels },
        spec: {
          serviceAccountName: routerServiceAccountName(wish.keyspace),
          nodeSelector: wish.nodeSelector,
          terminationGracePeriodSeconds: terminationSeconds,
          enableServiceLinks: false,
          topologySpreadConstraints: [
            {
              maxSkew: 1,
              topologyKey: 'kubernetes.io/hostname',
              whenUnsatisfiable: 'ScheduleAnyway',
              labelSelector: { matchLabels: selector },
            },
          ],
          securityContext: {
            runAsNonRoot: true,
            runAsUser: containerUserId,
            runAsGroup: containerUserId,
            fsGroup: containerUserId,
            seccompProfile: { type: 'RuntimeDefault' },
          },
          containers: [routerContainer(wish)],
          volumes: [
            { name: 'tls', secret: { secretName: routerTlsSecretName(wish.keyspace), defaultMode: 0o440 } },
            // Without them a router signs by a key of its own making; it takes them up when they come.
            {
              name: 'tokens',
              secret: { secretName: tokenKeysSecretName(wish.keyspace), defaultMode: 0o440, optional: true },
            },
            { name: 'tmp', emptyDir: { sizeLimit: '64Mi' } },
          ],
        },
      },
    },
  };
}

type Container = NonNullable<NonNullable<NonNullable<Deployment['spec']>['template']['spec']>['containers'][number]>;

function routerContainer(wish: RouterWish): Container {
  const fromField = (name: string, fieldPath: string) => ({ name, valueFrom: { fieldRef: { fieldPath } } });
  return {
    name: 'router',
    image: wish.image,
    imagePullPolicy: 'IfNotPresent',
    command: ['/usr/local/bin/meridian-init', '--', 'node', ...nodeOptions, '/opt/meridian/router.mjs'],
    env: [
      fromField('POD_NAME', 'metadata.name'),
      fromField('POD_NAMESPACE', 'metadata.namespace'),
      fromField('POD_IP', 'status.podIP'),
      { name: 'MERIDIAN_KEYSPACE', value: wish.keyspace },
      { name: 'MERIDIAN_REGION', value: wish.region },
      { name: 'MERIDIAN_PEERS', value: `${routerPeersName(wish.keyspace)}.${wish.namespace}.svc` },
      // What is as the router has it anyway is left out: a new release of the operator need not replace pods for it.
      ...(wish.workers === 1 ? [] : [{ name: 'MERIDIAN_WORKERS', value: String(wish.workers) }]),
      ...(wish.preparesSimpleQueries ? [] : [{ name: 'MERIDIAN_PARAMETERS', value: 'off' }]),
      ...(wish.proxyProtocolFrom.length === 0
        ? []
        : [{ name: 'MERIDIAN_PROXY_FROM', value: wish.proxyProtocolFrom.join(',') }]),
    ],
    ports: [
      { name: 'postgres', containerPort: ports.postgres },
      { name: 'http', containerPort: ports.routerHttp },
    ],
    resources: wish.resources,
    startupProbe: { httpGet: { path: '/livez', port: 'http' }, periodSeconds: 1, failureThreshold: 60 },
    livenessProbe: {
      httpGet: { path: '/livez', port: 'http' },
      periodSeconds: 10,
      timeoutSeconds: 3,
      failureThreshold: 3,
    },
    readinessProbe: {
      httpGet: { path: '/readyz', port: 'http' },
      periodSeconds: 2,
      timeoutSeconds: 2,
      failureThreshold: 2,
    },
    lifecycle: { preStop: { sleep: { seconds: endpointRemovalSeconds } } },
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
    volumeMounts: [
      { name: 'tls', mountPath: '/etc/meridian/tls', readOnly: true },
      { name: 'tokens', mountPath: '/etc/meridian/tokens', readOnly: true },
      { name: 'tmp', mountPath: '/tmp' },
    ],
  };
}
