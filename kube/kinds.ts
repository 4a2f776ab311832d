/**
 * The kinds that Meridian reads or writes: where each lives in the API, and its TypeScript type.
 * Types only from @kubernetes/client-node: importing it costs 0.6 s and 87 MB, which neither router nor agent may pay.
 */
import type {
  V1ConfigMap,
  V1Deployment,
  V1Lease,
  V1NetworkPolicy,
  V1Node,
  V1PersistentVolumeClaim,
  V1Pod,
  V1PodDisruptionBudget,
  V1Role,
  V1RoleBinding,
  V1Secret,
  V1Service,
  V1ServiceAccount,
  V1StatefulSet,
} from '@kubernetes/client-node';
import { apiGroup, apiVersion } from '#core/names.ts';
import type { BuiltIn, KubeObject } from './objects.ts';

export interface ResourceType<T extends KubeObject = KubeObject> {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** Carries the type only; never set. */
  readonly object?: T;
}

export function resourceType<T extends KubeObject>(
  kind: string,
  plural: string,
  groupVersion: string,
  scope: 'Namespaced' | 'Cluster' = 'Namespaced',
): ResourceType<T> {
  const slash = groupVersion.indexOf('/');
  return {
    group: slash < 0 ? '' : groupVersion.slice(0, slash),
    version: groupVersion.slice(slash + 1),
    plural,
    kind,
    namespaced: scope === 'Namespaced',
  };
}

export const apiVersionOf = (type: ResourceType): string =>
  type.group === '' ? type.version : `${type.group}/${type.version}`;

/** One of Meridian's own kinds. */
export const meridianType = <T extends KubeObject>(kind: string, plural: string): ResourceType<T> =>
  resourceType<T>(kind, plural, `${apiGroup}/${apiVersion}`);

export type ConfigMap = BuiltIn<V1ConfigMap>;
export type Deployment = BuiltIn<V1Deployment>;
export type Lease = BuiltIn<V1Lease>;
export type NetworkPolicy = BuiltIn<V1NetworkPolicy>;
export type Node = BuiltIn<V1Node>;
export type PersistentVolumeClaim = BuiltIn<V1PersistentVolumeClaim>;
export type Pod = BuiltIn<V1Pod>;
export type PodDisruptionBudget = BuiltIn<V1PodDisruptionBudget>;
export type Role = BuiltIn<V1Role>;
export type RoleBinding = BuiltIn<V1RoleBinding>;
export type Secret = BuiltIn<V1Secret>;
export type Service = BuiltIn<V1Service>;
export type ServiceAccount = BuiltIn<V1ServiceAccount>;
export type StatefulSet = BuiltIn<V1StatefulSet>;

export const configMaps = resourceType<ConfigMap>('ConfigMap', 'configmaps', 'v1');
export const deployments = resourceType<Deployment>('Deployment', 'deployments', 'apps/v1');
export const leases = resourceType<Lease>('Lease', 'leases', 'coordination.k8s.io/v1');
export const networkPolicies = resourceType<NetworkPolicy>('NetworkPolicy', 'networkpolicies', 'networking.k8s.io/v1');
export const nodes = resourceType<Node>('Node', 'nodes', 'v1', 'Cluster');
export const persistentVolumeClaims = resourceType<PersistentVolumeClaim>(
  'PersistentVolumeClaim',
  'persistentvolumeclaims',
  'v1',
);
export const pods = resourceType<Pod>('Pod', 'pods', 'v1');
export const podDisruptionBudgets = resourceType<PodDisruptionBudget>(
  'PodDisruptionBudget',
  'poddisruptionbudgets',
  'policy/v1',
);
export const roles = resourceType<Role>('Role', 'roles', 'rbac.authorization.k8s.io/v1');
export const roleBindings = resourceType<RoleBinding>('RoleBinding', 'rolebindings', 'rbac.authorization.k8s.io/v1');
export const secrets = resourceType<Secret>('Secret', 'secrets', 'v1');
export const services = resourceType<Service>('Service', 'services', 'v1');
export const serviceAccounts = resourceType<ServiceAccount>('ServiceAccount', 'serviceaccounts', 'v1');
export const statefulSets = resourceType<StatefulSet>('StatefulSet', 'statefulsets', 'apps/v1');
