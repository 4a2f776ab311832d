/**
 * What a member's pod may do in the API: read Shards of its namespace, for the start gate. One account for all members of a
 * keyspace. Nothing of it lets a member change anything.
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
      rules: [{ apiGroups: [apiGroup], resources: ['shards'], verbs: ['get', 'list', 'watch'] }],
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
