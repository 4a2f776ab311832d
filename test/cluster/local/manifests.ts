// What the API server itself must hold for the nodes' programs to work: rights of the DNS servers, of the volume
// provisioner and of the API server towards kubelets, and the storage class. Applied on every `up`.
import { stringify } from 'yaml';
import { DNS_USER, KUBELET_CLIENT_USER, VOLUMES_USER } from './pki.ts';

export const STORAGE_CLASS = 'meridian-local';
/** As go/kube/volumes.go calls itself. */
export const PROVISIONER = 'meridian.test/local';

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

const WATCH = ['get', 'list', 'watch'] as const;

export function clusterManifests(): string {
  const objects = [
    ...role('meridian:dns', DNS_USER, [
      { apiGroups: [''], resources: ['services', 'pods', 'namespaces', 'endpoints', 'nodes'], verbs: WATCH },
      { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: WATCH },
    ]),
    ...role('meridian:volumes', VOLUMES_USER, [
      { apiGroups: [''], resources: ['persistentvolumes'], verbs: [...WATCH, 'create', 'delete'] },
      { apiGroups: [''], resources: ['persistentvolumeclaims', 'nodes'], verbs: WATCH },
      { apiGroups: ['storage.k8s.io'], resources: ['storageclasses'], verbs: WATCH },
      { apiGroups: [''], resources: ['events'], verbs: ['create', 'patch'] },
    ]),
    // Logs, exec and port-forward: the API server calls kubelets, who ask it back whether it may.
    binding('meridian:kubelet-api', 'system:kubelet-api-admin', KUBELET_CLIENT_USER),
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: STORAGE_CLASS, annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } },
      provisioner: PROVISIONER,
      volumeBindingMode: 'WaitForFirstConsumer',
      reclaimPolicy: 'Delete',
    },
  ];
  return objects.map((object) => stringify(object)).join('---\n');
}

function role(name: string, user: string, rules: readonly Rule[]): unknown[] {
  const clusterRole = { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRole', metadata: { name }, rules };
  return [clusterRole, binding(name, name, user)];
}

function binding(name: string, roleName: string, user: string): unknown {
  return {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRoleBinding',
    metadata: { name },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: roleName },
    subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: user }],
  };
}
