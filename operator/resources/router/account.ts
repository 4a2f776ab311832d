/**
 * What a router may ask of the API server: read Meridian's own objects of its namespace, which are its map. No Secrets: its
 * certificate is mounted, and clients' verifiers come from Postgres.
 */
import { apiGroup, routerServiceAccountName } from '#core/names.ts';
import type { Role, RoleBinding, ServiceAccount } from '#kube/kinds.ts';
import type { OwnerReference } from '#kube/objects.ts';
import { routerLabels } from './wish.ts';

export interface RouterAccountObjects {
  readonly serviceAccount: ServiceAccount;
  readonly role: Role;
  readonly roleBinding: RoleBinding;
}

export function routerAccount(place: {
  readonly namespace: string;
  readonly keyspace: string;
  readonly owner: OwnerReference;
}): RouterAccountObjects {
  const name = routerServiceAccountName(place.keyspace);
  const metadata = {
    name,
    namespace: place.namespace,
    labels: routerLabels(place.keyspace),
    ownerReferences: [place.owner],
  };
  return {
    serviceAccount: { apiVersion: 'v1', kind: 'ServiceAccount', metadata },
    role: {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata,
      rules: [
        {
          apiGroups: [apiGroup],
          resources: ['keyspaces', 'shards', 'regionalreplicas', 'tenants', 'regions'],
          verbs: ['get', 'list', 'watch'],
        },
      ],
    },
    roleBinding: {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata,
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name },
      subjects: [{ kind: 'ServiceAccount', name, namespace: place.namespace }],
    },
  };
}
