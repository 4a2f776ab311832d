/**
 * How many of a shard's members a drain may take away at once: one, counted over all regions, so that draining nodes in two
 * regions at the same time can't take a quorum. One budget per shard, as a pod under two budgets can't be evicted at all.
 * Source: Kubernetes documentation, "Disruptions".
 */
import type { PodDisruptionBudget } from '#kube/kinds.ts';
import type { OwnerReference } from '#kube/objects.ts';
import { shardLabels, shardMembersSelector } from './member-labels.ts';

export interface ShardBudgetWish {
  readonly namespace: string;
  readonly keyspace: string;
  readonly shard: string;
  readonly owner: OwnerReference;
}

export function shardDisruptionBudget(wish: ShardBudgetWish): PodDisruptionBudget {
  return {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: {
      namespace: wish.namespace,
      name: wish.shard,
      labels: shardLabels(wish.keyspace, wish.shard),
      ownerReferences: [wish.owner],
    },
    spec: { maxUnavailable: 1, selector: { matchLabels: shardMembersSelector(wish.shard) } },
  };
}
