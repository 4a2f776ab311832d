/**
 * The controller of Shards: the only writer of the record of authority, and the one who gives orders to members.
 * Wiring only: `snapshot.ts` observes, `plan.ts` decides with `core/authority`, `act.ts` does.
 */
import { labels, protectFinalizer } from '#core/names.ts';
import { networkPolicies, persistentVolumeClaims, podDisruptionBudgets, pods, statefulSets } from '#kube/kinds.ts';
import { keyspaces, regionalReplicas, regions, type Shard, shards, tenants } from '#kube/meridian.ts';
import { type KubeObject, keyOf, type ObjectKey } from '#kube/objects.ts';
import { agentAccess } from '../../agents/access.ts';
import { Applier } from '../../resources/applier.ts';
import {
  type ActionResult,
  type Conclusion,
  type Controller,
  type ControllerDeps,
  watch,
} from '../../runtime/controller.ts';
import { act, type Undelivered } from './act.ts';
import type { Action } from './actions.ts';
import { bad } from './findings.ts';
import { ShardMemory } from './memory.ts';
import { plan, type ShardPlan } from './plan.ts';
import { observe, type Snapshot } from './snapshot.ts';

export function createShardController(deps: ControllerDeps): Controller<Shard, Snapshot, Action> {
  const means = { deps, agents: agentAccess(deps), applier: new Applier(deps.kube), memory: new ShardMemory() };
  const inNamespace = (object: KubeObject, name: string): ObjectKey =>
    keyOf({ namespace: object.metadata.namespace, name });
  const labelled = (object: KubeObject): ObjectKey[] => {
    const name = object.metadata.labels?.[labels.shard];
    return name === undefined ? [] : [inNamespace(object, name)];
  };
  return {
    type: shards,
    readsFresh: true,
    finalizer: protectFinalizer,
    watches: [
      watch(regionalReplicas, (replica) => [inNamespace(replica, replica.spec.shard)]),
      watch(keyspaces, ({ metadata }, cache) =>
        cache
          .list(shards, { namespace: metadata.namespace })
          .filter(({ spec }) => spec.keyspace === metadata.name)
          .map(keyOf),
      ),
      watch(regions, ({ metadata }, cache) => cache.list(shards, { namespace: metadata.namespace }).map(keyOf)),
      watch(tenants, (tenant) =>
        tenant.status?.authority === undefined ? [] : [inNamespace(tenant, tenant.status.authority.shard)],
      ),
      watch(pods, labelled),
      watch(statefulSets, labelled),
      watch(persistentVolumeClaims, labelled),
      watch(podDisruptionBudgets, labelled),
      watch(networkPolicies, labelled),
    ],
    observe: (shard, context) => observe(shard, deps, means.agents, means.memory, context),
    plan,
    act: (action, context) => act(action, means, context),
    conclude,
    describe: describeAction,
  };
}

/** Refusals show in the status; that a member didn't answer shows in its own condition already. */
export function conclude(
  _snapshot: Snapshot,
  planned: ShardPlan,
  results: readonly ActionResult<Action>[],
): Conclusion<Shard> {
  const refused = results
    .flatMap((result) => (result.outcome === 'done' ? [result.value as Undelivered | undefined] : []))
    // A member that has promised a later epoch meanwhile is being fenced: the next round sees what came of it.
    .filter((undelivered) => undelivered?.refusal !== undefined && undelivered.refusal.code !== 'StaleEpoch');
  if (refused.length === 0) return planned;
  const finding = bad(
    'OrdersTaken',
    'Refused',
    refused.map((undelivered) => `${undelivered?.member} refuses its orders: ${undelivered?.why}`).join('; '),
  );
  return {
    ...planned,
    conditions: [...(planned.conditions ?? []).filter(({ type }) => type !== finding.type), finding],
    requeueAfterMs: 2_000,
  };
}

function describeAction(action: Action): string {
  switch (action.kind) {
    case 'ApplyBudget':
    case 'ApplyPolicy':
      return `apply ${action.object.kind} ${action.object.metadata.name}`;
    case 'Record':
      return `record: ${action.why}`;
    case 'SendOrders':
      return `order ${action.member} to be ${action.orders.role}`;
    case 'Handover':
      return `hand over to ${action.target.name}`;
    case 'ClearAnnotation':
      return `take the annotation ${action.annotation} off`;
    case 'NotePosition':
      return 'note a position';
    case 'ReplacePod':
      return `replace pod ${action.name}`;
    case 'DeleteClaim':
      return `delete PersistentVolumeClaim ${action.name}`;
    default:
      return action satisfies never;
  }
}
