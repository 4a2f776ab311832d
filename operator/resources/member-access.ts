/**
 * What a member's pod may do in the API: read Shards of its namespace, for the start gate, and keep the Lease of a shard
 * whose commits nobody acknowledges (`<shard>-authority`, made by its first holder; the name of what is made can't be
 * demanded). One account for all members of a keyspace. It lets a member change nothing else, least of all the record.
 */
import { apiGroup, labels, managedByValue, memberServiceAccountName } from '#core/names.ts';
import type { Role, RoleBinding, ServiceAccount } from '#kube/kinds.ts';
import type { ObjectMeta, OwnerReference } from '#kube/objects.ts';
import { memberComponent } from './member-labels.ts';

export interface MemberAccessWish {
  readonly namespace: string;
  readonly keyspace: string;
  /** The Keyspace. */
  readonly owner: OwnerReference;
}

export function memberAccess(wish: MemberAccessWish): {
  readonly serviceAccount: ServiceAccount;
  readonly role: Role;
  readonly roleBinding: RoleBinding;
} {
  const name = memberServiceAccountName(wish.keyspace);
  const metadata: ObjectMeta = {
    namespace: wish.namespace,
    name,
    labels: {
      [labels.managedBy]: managedByValue,
      [labels.component]: memberComponent,
      [labels.keyspace]: wish.keyspace,
    },
    ownerReferences: [wish.owner],
  };
  return {
    serviceAccount: { apiVersion: 'v1', kind: 'ServiceAccount', metadata },
    role: {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata,
      rules: [
        { apiGroups: [apiGroup], resources: ['shards'], verbs: ['get', 'list', 'watch'] },
        { apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: ['get', 'create', 'update'] },
      ],
    },
    roleBinding: {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata,
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name },
      subjects: [{ kind: 'ServiceAccount', name, namespace: wish.namespace }],
    },
  };
}
