/**
 * The keyspace controller: authority and certificates, ordinals, role Secrets, schema and roles on every shard, routers per region.
 * Leaves members to the shard and regional replica controllers and ownership rows to the tenant controller.
 */
import { labels, protectFinalizer } from '#core/names.ts';
import {
  configMaps,
  deployments,
  networkPolicies,
  podDisruptionBudgets,
  roleBindings,
  roles,
  secrets,
  serviceAccounts,
  services,
} from '#kube/kinds.ts';
import { type Keyspace, keyspaces, regionalReplicas, regions, shards } from '#kube/meridian.ts';
import { type KubeObject, keyOf, type ObjectKey, type Stored } from '#kube/objects.ts';
import { type Cache, type Controller, type ControllerDeps, watch } from '#operator/runtime/controller.ts';
import { KeyspaceActor } from './act.ts';
import type { KeyspaceAction } from './actions.ts';
import { concludeFarewell, concludeKeyspace } from './conclude.ts';
import { observeKeyspace } from './observe.ts';
import { planFarewell, planKeyspace } from './plan.ts';
import type { KeyspaceSnapshot } from './snapshot.ts';

export function createKeyspaceController(deps: ControllerDeps): Controller<Keyspace, KeyspaceSnapshot, KeyspaceAction> {
  const actor = new KeyspaceActor(deps.kube);
  return {
    type: keyspaces,
    // The record of ordinals is compared and swapped.
    readsFresh: true,
    finalizer: protectFinalizer,
    watches: [
      watch(shards, (shard) => [keyOf({ namespace: shard.metadata.namespace, name: shard.spec.keyspace })]),
      watch(regionalReplicas, (replica, cache) =>
        keyspaceOfShard(cache, replica.metadata.namespace, replica.spec.shard),
      ),
      watch(regions, (region, cache) =>
        cache
          .list(keyspaces, { namespace: region.metadata.namespace })
          .filter(({ spec }) => spec.routers.regions.some((router) => router.region === region.metadata.name))
          .map((keyspace) => keyOf(keyspace)),
      ),
      ...[
        secrets,
        deployments,
        services,
        podDisruptionBudgets,
        networkPolicies,
        serviceAccounts,
        roles,
        roleBindings,
      ].map((type) => watch<KubeObject>(type, keyspaceOfLabel)),
      // Those that a keyspace's people label; others are read when the keyspace is looked at.
      watch(configMaps, keyspaceOfLabel, { labelSelector: labels.keyspace }),
    ],
    observe: (keyspace, context) => observeKeyspace(deps.kube, deps.images.programs, keyspace, context),
    plan(snapshot) {
      if (snapshot.keyspace.metadata.deletionTimestamp === undefined) return { actions: planKeyspace(snapshot) };
      return { ...concludeFarewell(snapshot), ...planFarewell(snapshot) };
    },
    act: (action, context) => actor.act(action, context),
    conclude: (snapshot, _plan, results, now) =>
      snapshot.keyspace.metadata.deletionTimestamp === undefined
        ? concludeKeyspace(snapshot, results, now)
        : concludeFarewell(snapshot),
    describe,
  };
}

const keyspaceOfShard = (cache: Cache, namespace: string | undefined, shard: string): readonly ObjectKey[] => {
  const found = cache.get(shards, { namespace, name: shard });
  return found === undefined ? [] : [keyOf({ namespace, name: found.spec.keyspace })];
};

/** Everything made for a keyspace says so; the members' objects do too, and are the shard controller's. */
function keyspaceOfLabel(object: Stored<KubeObject>): readonly ObjectKey[] {
  const { namespace, labels: found = {} } = object.metadata;
  const name = found[labels.keyspace];
  return name === undefined || found[labels.shard] !== undefined ? [] : [keyOf({ namespace, name })];
}

/** Names only: an action's log line never holds what a Secret holds. */
function describe(action: KeyspaceAction): string {
  switch (action.kind) {
    case 'ensureRoleSecret':
      return `ensure Secret of role ${action.role}`;
    case 'setUpShards':
      return `set up shards ${action.shards.map(({ name }) => name).join(', ')}`;
    case 'applyRouterObject':
      return `apply ${action.object.kind} ${action.object.metadata.name}`;
    case 'deleteRouter':
      return `delete router of ${action.region}`;
    case 'deleteSecret':
      return `delete Secret ${action.name}`;
    case 'ensureCertificates':
    case 'recordOrdinals':
      return action.kind;
  }
}
