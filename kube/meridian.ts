/**
 * Meridian's own kinds as the API has them. What their fields mean is in `crds/`, from whose schemas the types come.
 */
import type {
  KeyspaceSpec,
  KeyspaceStatus,
  RegionalReplicaSpec,
  RegionalReplicaStatus,
  RegionSpec,
  RegionStatus,
  ShardSpec,
  ShardStatus,
  TenantSpec,
  TenantStatus,
} from '#crds/index.ts';
import type { Condition } from './conditions.ts';
import { meridianType } from './kinds.ts';
import type { CustomObject } from './objects.ts';

/** Conditions as `conditions.ts` makes and reads them. */
type Conditioned<Status> = Omit<Status, 'conditions'> & { readonly conditions?: readonly Condition[] | undefined };

export type Region = CustomObject<RegionSpec, Conditioned<RegionStatus>>;
export type Keyspace = CustomObject<KeyspaceSpec, Conditioned<KeyspaceStatus>>;
export type Shard = CustomObject<ShardSpec, Conditioned<ShardStatus>>;
export type RegionalReplica = CustomObject<RegionalReplicaSpec, Conditioned<RegionalReplicaStatus>>;
export type Tenant = CustomObject<TenantSpec, Conditioned<TenantStatus>>;

export const regions = meridianType<Region>('Region', 'regions');
export const keyspaces = meridianType<Keyspace>('Keyspace', 'keyspaces');
export const shards = meridianType<Shard>('Shard', 'shards');
export const regionalReplicas = meridianType<RegionalReplica>('RegionalReplica', 'regionalreplicas');
export const tenants = meridianType<Tenant>('Tenant', 'tenants');
