/**
 * Who may talk to a keyspace's routers, and to whom they may talk; everything else is denied.
 * One policy for the routers of all regions. Networks without a policy engine ignore it.
 */
import { labels, ports, routerServiceAccountName } from '#core/names.ts';
import type { NetworkPolicy } from '#kube/kinds.ts';
import type { OwnerReference } from '#kube/objects.ts';
import { routerComponent, routerLabels } from './wish.ts';

/** The API server's usual ports: its Service's, and its own, which is what policy engines see after address translation. */
const apiServerPorts = [443, 6443];

const tcp = (port: number) => ({ protocol: 'TCP', port });

export function routerNetworkPolicy(place: {
  readonly namespace: string;
  readonly keyspace: string;
  readonly owner: OwnerReference;
}): NetworkPolicy {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: {
      name: routerServiceAccountName(place.keyspace),
      namespace: place.namespace,
      labels: routerLabels(place.keyspace),
      ownerReferences: [place.owner],
    },
    spec: {
      podSelector: { matchLabels: { [labels.component]: routerComponent, [labels.keyspace]: place.keyspace } },
      policyTypes: ['Ingress', 'Egress'],
      // Clients come from anywhere and prove themselves by password; probes and metrics come from nodes and monitoring.
      ingress: [{ ports: [tcp(ports.postgres), tcp(ports.routerHttp)] }],
      egress: [
        {
          to: [{ podSelector: { matchLabels: { [labels.component]: 'member', [labels.keyspace]: place.keyspace } } }],
          ports: [tcp(ports.postgres), tcp(ports.agentApi)],
        },
        // Cancel requests go on to the router that gave the key.
        {
          to: [
            {
              podSelector: { matchLabels: { [labels.component]: routerComponent, [labels.keyspace]: place.keyspace } },
            },
          ],
          ports: [tcp(ports.postgres)],
        },
        { ports: [{ protocol: 'UDP', port: 53 }, tcp(53)] },
        { ports: apiServerPorts.map(tcp) },
      ],
    },
  };
}
