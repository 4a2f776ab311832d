/**
 * The Service of one region's router and its PodDisruptionBudget. Its name is in every connection string and in the router's
 * certificate, so it never changes. And the Service by which the routers of all regions find each other.
 */
import { labels, ports, routerPeersName } from '#core/names.ts';
import type { PodDisruptionBudget, Service } from '#kube/kinds.ts';
import type { OwnerReference } from '#kube/objects.ts';
import { type RouterWish, routerComponent, routerLabels, routerMetadata, routerSelector } from './wish.ts';

export function routerService(wish: RouterWish): Service {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: routerMetadata(wish),
    spec: {
      type: wish.serviceType,
      selector: routerSelector(wish.keyspace, wish.region),
      ports: [
        {
          name: 'postgres',
          port: ports.postgres,
          targetPort: ports.postgres,
          protocol: 'TCP',
          ...(wish.nodePort !== undefined && wish.serviceType !== 'ClusterIP' ? { nodePort: wish.nodePort } : {}),
        },
      ],
    },
  };
}

/**
 * Headless: its name resolves to the pods, those too that drain (they still have sessions to cancel). No region in its labels, so that
 * it isn't taken for a region's Service.
 */
export function routerPeersService(place: {
  readonly namespace: string;
  readonly keyspace: string;
  readonly owner: OwnerReference;
}): Service {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: routerPeersName(place.keyspace),
      namespace: place.namespace,
      labels: routerLabels(place.keyspace),
      ownerReferences: [place.owner],
    },
    spec: {
      clusterIP: 'None',
      publishNotReadyAddresses: true,
      selector: { [labels.component]: routerComponent, [labels.keyspace]: place.keyspace },
      ports: [{ name: 'postgres', port: ports.postgres, targetPort: ports.postgres, protocol: 'TCP' }],
    },
  };
}

/**
 * Drains of nodes take one router at a time. `maxUnavailable` rather than `minAvailable`: with a single replica the latter would
 * block every drain for ever.
 */
export function routerDisruptionBudget(wish: RouterWish): PodDisruptionBudget {
  return {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: routerMetadata(wish),
    spec: { maxUnavailable: 1, selector: { matchLabels: routerSelector(wish.keyspace, wish.region) } },
  };
}
