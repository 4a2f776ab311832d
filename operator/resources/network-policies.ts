/**
 * Who may talk to a shard's members, and to whom they may talk. Two policies: one that denies all, and one that allows what
 * the parts need; certificates are checked besides (network policies are a second wall, not the first).
 * Source: Kubernetes documentation, "Network Policies". Policies add up: a connection is allowed when any policy allows it.
 */
import { labels, managedByValue, ports } from '#core/names.ts';
import type { NetworkPolicy } from '#kube/kinds.ts';
import type { ObjectMeta, OwnerReference } from '#kube/objects.ts';
import { shardLabels, shardMembersSelector } from './member-labels.ts';

export interface ShardPoliciesWish {
  readonly namespace: string;
  readonly keyspace: string;
  readonly shard: string;
  readonly owner: OwnerReference;
  readonly operatorNamespace: string;
}

/** The labels by which policies know the operator's pods; the chart sets them. */
export const operatorSelector = {
  'app.kubernetes.io/name': 'meridian',
  [labels.component]: 'operator',
} as const;

const tcp = (...numbers: readonly number[]) => numbers.map((port) => ({ protocol: 'TCP', port }));

export function shardNetworkPolicies(wish: ShardPoliciesWish): readonly NetworkPolicy[] {
  const podSelector = { matchLabels: shardMembersSelector(wish.shard) };
  const metadata = (name: string): ObjectMeta => ({
    namespace: wish.namespace,
    name,
    labels: shardLabels(wish.keyspace, wish.shard),
    ownerReferences: [wish.owner],
  });
  const members = { podSelector };
  const routers = {
    podSelector: {
      matchLabels: {
        [labels.managedBy]: managedByValue,
        [labels.component]: 'router',
        [labels.keyspace]: wish.keyspace,
      },
    },
  };
  const operator = {
    namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': wish.operatorNamespace } },
    podSelector: { matchLabels: { ...operatorSelector } },
  };
  const policy = { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' } as const;
  return [
    {
      ...policy,
      metadata: metadata(`${wish.shard}-deny`),
      spec: { podSelector, policyTypes: ['Ingress', 'Egress'] },
    },
    {
      ...policy,
      metadata: metadata(`${wish.shard}-members`),
      spec: {
        podSelector,
        policyTypes: ['Ingress', 'Egress'],
        ingress: [
          { from: [routers, operator], ports: tcp(ports.postgres, ports.agentApi) },
          { from: [members], ports: tcp(ports.agentApi, ports.tunnel, ports.lease) },
          // Probes come from nodes, metrics from wherever monitoring runs; nothing secret is said there.
          { ports: tcp(ports.memberHttp) },
        ],
        egress: [
          { to: [members], ports: tcp(ports.agentApi, ports.tunnel, ports.lease) },
          { ports: [...tcp(53), { protocol: 'UDP', port: 53 }] },
          // The API server has no pod to select; these are the ports that it listens on.
          { ports: tcp(443, 6443) },
        ],
      },
    },
  ];
}
