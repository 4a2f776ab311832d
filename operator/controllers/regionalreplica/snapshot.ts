/**
 * What is known about one RegionalReplica at the beginning of a round: the object, those it names, those it owns, and what its
 * members' agents say. Reads only.
 */

import { caSecretName, memberTlsSecretName } from '#core/names.ts';
import { isTrue } from '#kube/conditions.ts';
import {
  type Pod,
  pods,
  type Role,
  type RoleBinding,
  roleBindings,
  roles,
  type Secret,
  type Service,
  type ServiceAccount,
  type StatefulSet,
  secrets,
  serviceAccounts,
  services,
  statefulSets,
} from '#kube/kinds.ts';
import {
  type Keyspace,
  keyspaces,
  type Region,
  type RegionalReplica,
  regions,
  type Shard,
  shards,
} from '#kube/meridian.ts';
import { controllerReference, type Stored } from '#kube/objects.ts';
import type { AgentAccess } from '../../agents/access.ts';
import type { StatusAnswer } from '../../agents/client.ts';
import type { KeyspaceCa } from '../../pki/authority.ts';
import { caOfSecret } from '../../pki/secrets.ts';
import { memberAccess } from '../../resources/member-access.ts';
import { memberSetSelector } from '../../resources/member-labels.ts';
import type { ControllerDeps, ObserveContext } from '../../runtime/controller.ts';

export interface OwnedObjects {
  readonly statefulSet: Stored<StatefulSet> | undefined;
  readonly service: Stored<Service> | undefined;
  readonly tls: Stored<Secret> | undefined;
  readonly serviceAccount: Stored<ServiceAccount> | undefined;
  readonly role: Stored<Role> | undefined;
  readonly roleBinding: Stored<RoleBinding> | undefined;
}

export interface Snapshot {
  readonly replica: Stored<RegionalReplica>;
  /** Read from the API server, not from the cache: whether a member may go depends on it. */
  readonly shard: Stored<Shard> | undefined;
  readonly keyspace: Stored<Keyspace> | undefined;
  readonly region: Stored<Region> | undefined;
  /** Undefined until it has been made. */
  readonly ca: KeyspaceCa | undefined;
  readonly owned: OwnedObjects;
  readonly pods: readonly Stored<Pod>[];
  /** By pod name. */
  readonly answers: ReadonlyMap<string, StatusAnswer>;
  /** Image where the Shard names none. */
  readonly defaultImage: string;
}

/**
 * The shard is being deleted and nothing holds that any more; until then (tenants that it owns) it serves as before. Its own
 * controller says so in a condition, and removes itself once the StatefulSets are gone.
 */
export const isGoing = (shard: Shard): boolean =>
  shard.metadata.deletionTimestamp !== undefined && isTrue(shard.status?.conditions, 'DeletionAllowed');

/** Phases and roles needn't be newer than this. */
const answerAgeMs = 1_500;

export async function observe(
  replica: Stored<RegionalReplica>,
  deps: ControllerDeps,
  agents: AgentAccess,
  { cache }: ObserveContext,
): Promise<Snapshot> {
  const { namespace, name } = replica.metadata;
  const here = (other: string) => ({ namespace, name: other });
  const shard = await deps.kube.of(shards).find(here(replica.spec.shard));
  const keyspace = shard && cache.get(keyspaces, here(shard.spec.keyspace));
  const caSecret = keyspace && cache.get(secrets, here(caSecretName(keyspace.metadata.name)));
  const ownPods = cache.list(pods, {
    namespace,
    labels: memberSetSelector({ shard: replica.spec.shard, regionalReplica: name }),
  });
  const access =
    keyspace &&
    memberAccess({
      namespace: namespace ?? '',
      keyspace: keyspace.metadata.name,
      owner: controllerReference(keyspace),
    }).serviceAccount.metadata;
  return {
    replica,
    shard,
    keyspace,
    region: cache.get(regions, here(replica.spec.region)),
    ca: caSecret && caOfSecret(caSecret),
    owned: {
      statefulSet: cache.get(statefulSets, here(name)),
      service: cache.get(services, here(name)),
      tls: cache.get(secrets, here(memberTlsSecretName(name))),
      serviceAccount: access && cache.get(serviceAccounts, access),
      role: access && cache.get(roles, access),
      roleBinding: access && cache.get(roleBindings, access),
    },
    pods: ownPods.toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1)),
    answers: await agents.ask(keyspace, ownPods, answerAgeMs),
    defaultImage: deps.images.postgres,
  };
}
