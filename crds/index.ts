/**
 * The resources of the API group `meridian.db`: everything that programs import about them.
 * The CRD YAML beside these files is made from the same schemas by `generate.ts`.
 */
import { keyspaceKind } from './keyspace.ts';
import type { Kind } from './kind.ts';
import { regionKind } from './region.ts';
import { regionalReplicaKind } from './regionalreplica.ts';
import { shardKind } from './shard.ts';
import { tenantKind } from './tenant.ts';

export * from './keyspace.ts';
export {
  type ConsistencyLevel,
  consistencyLevels,
} from './keyspace-consistency.ts';
export type { KeyspaceRole } from './keyspace-roles.ts';
export { serviceTypes } from './keyspace-routers.ts';
export { qualified } from './keyspace-schema.ts';
export { groupVersion, type Kind } from './kind.ts';
export {
  type Condition,
  conditionStatuses,
  deletionPolicies,
  type MeridianManifest,
  type MeridianObject,
  nameLimits,
  type ObjectMeta,
  type OwnerReference,
} from './object.ts';
export { ownedParameters, postgresVersions } from './postgres.ts';
export { quantityValue } from './quantity.ts';
export * from './region.ts';
export * from './regionalreplica.ts';
export * from './shard.ts';
export * from './shard-status.ts';
export * from './tenant.ts';

/** All kinds, in an order in which none refers to a later one. */
export const kinds: readonly Kind[] = [
  regionKind,
  keyspaceKind,
  shardKind,
  regionalReplicaKind,
  tenantKind,
] as readonly Kind[];
