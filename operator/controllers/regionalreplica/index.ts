/**
 * The controller of RegionalReplicas: makes and keeps a StatefulSet, its Service and its certificates, and says who runs where.
 * Wiring only: `snapshot.ts` observes, `plan.ts` decides, `act.ts` does.
 */
import { labels, protectFinalizer } from '#core/names.ts';
import { pods, roleBindings, roles, secrets, serviceAccounts, services, statefulSets } from '#kube/kinds.ts';
import { keyspaces, type RegionalReplica, regionalReplicas, regions, shards } from '#kube/meridian.ts';
import { type KubeObject, keyOf, type ObjectKey } from '#kube/objects.ts';
import { agentAccess } from '../../agents/access.ts';
import { Applier } from '../../resources/applier.ts';
import { type Cache, type Controller, type ControllerDeps, watch } from '../../runtime/controller.ts';
import { act } from './act.ts';
import { type Action, plan } from './plan.ts';
import { observe, type Snapshot } from './snapshot.ts';

export function createRegionalReplicaController(deps: ControllerDeps): Controller<RegionalReplica, Snapshot, Action> {
  const agents = agentAccess(deps);
  const applier = new Applier(deps.kube);
  return {
    type: regionalReplicas,
    finalizer: protectFinalizer,
    watches: [
      watch(shards, (shard, cache) => replicasWhere(cache, shard, ({ spec }) => spec.shard === shard.metadata.name)),
      watch(regions, (region, cache) =>
        replicasWhere(cache, region, ({ spec }) => spec.region === region.metadata.name),
      ),
      watch(keyspaces, (keyspace, cache) => replicasOfKeyspace(cache, keyspace, keyspace.metadata.name)),
      watch(pods, labelledReplica),
      watch(statefulSets, labelledReplica),
      watch(services, labelledReplica),
      // A member's Secret wakes its RegionalReplica; the authority's (without that label) those of the keyspace.
      watch(secrets, (secret, cache) => {
        const keyspace = secret.metadata.labels?.[labels.keyspace];
        const own = labelledReplica(secret);
        if (own.length > 0 || keyspace === undefined) return own;
        return secret.metadata.labels?.[labels.component] === 'authority'
          ? replicasOfKeyspace(cache, secret, keyspace)
          : [];
      }),
      watch(serviceAccounts, () => []),
      watch(roles, () => []),
      watch(roleBindings, () => []),
    ],
    observe: (replica, context) => observe(replica, deps, agents, context),
    plan,
    act: (action, context) => act(action, deps, applier, context),
    describe: describeAction,
  };
}

const labelledReplica = ({ metadata }: KubeObject): ObjectKey[] => {
  const name = metadata.labels?.[labels.regionalReplica];
  return name === undefined ? [] : [keyOf({ namespace: metadata.namespace, name })];
};

const replicasWhere = (
  cache: Cache,
  { metadata }: KubeObject,
  matches: (replica: RegionalReplica) => boolean,
): ObjectKey[] => cache.list(regionalReplicas, { namespace: metadata.namespace }).filter(matches).map(keyOf);

const replicasOfKeyspace = (cache: Cache, { metadata }: KubeObject, keyspace: string): ObjectKey[] =>
  replicasWhere(cache, { metadata } as KubeObject, ({ spec }) => {
    const shard = cache.get(shards, { namespace: metadata.namespace, name: spec.shard });
    return shard?.spec.keyspace === keyspace;
  });

function describeAction(action: Action): string {
  switch (action.kind) {
    case 'EnsureAuthority':
      return `make the authority of keyspace ${action.keyspace.metadata.name}`;
    case 'IssueCertificates':
      return `issue certificates (${action.why === '' ? 'bundle or list changed' : action.why})`;
    case 'AnnounceLeaving':
      return `announce on Shard ${action.shard} that its members go`;
    case 'DeleteStatefulSet':
      return `delete StatefulSet ${action.name}`;
    case 'ApplyServiceAccount':
    case 'ApplyRole':
    case 'ApplyRoleBinding':
    case 'ApplyService':
    case 'ApplyStatefulSet':
      return `apply ${action.object.kind} ${action.object.metadata.name}`;
  }
}
