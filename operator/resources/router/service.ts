/**
 * The Service of one region's router and its PodDisruptionBudget. Its name is in every connection string and in the router's
 * certificate, so it never changes.
 */
import { ports } from '#core/names.ts';
import type { PodDisruptionBudget, Service } from '#kube/kinds.ts';
import { type RouterWish, routerMetadata, routerSelector } from './wish.ts';

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
