/**
 * What the tenant controller looks at in one round. Filled by `observe.ts`, read by `plan.ts`.
 */
import type { ShardCandidate } from '#core/placement/placement.ts';
import type { Keyspace, Tenant } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import type { MemberTarget } from '#operator/postgres/connect.ts';
import type { TenantAuthority as OwnershipRow } from '#operator/postgres/ownership/tenants.ts';
import type { PrimaryLookup } from '#operator/postgres/primary.ts';

export interface TenantSnapshot {
  readonly tenant: Stored<Tenant>;
  readonly keyspace: Stored<Keyspace> | undefined;
  /** Other Tenants with the same keyspace and key. */
  readonly rivals: readonly Rival[];
  /** All shards of the namespace, with tenants to come already counted. Empty when the tenant is placed: nobody asks then. */
  readonly candidates: readonly ShardCandidate[];
  /** How to reach the primaries of the keyspace's shards that have its schema, by shard. Those that can't be reached now are missing. */
  readonly access: ReadonlyMap<string, ShardAccess>;
  /** Which placements of this process the counts above contain: one made since makes them stale. */
  readonly placementsSeen: number;
  /** The shard of `status.authority`; undefined when the tenant isn't placed. */
  readonly home: Home | undefined;
  /** The rows of this tenant have been deleted by this process. */
  readonly isCleaned: boolean;
}

export interface ShardAccess {
  readonly shard: string;
  readonly member: MemberTarget;
  readonly database: string;
}

export interface Rival {
  readonly name: string;
  readonly creationTimestamp: string;
  readonly isPlaced: boolean;
  readonly isDeleting: boolean;
}

export interface Home {
  readonly shard: string;
  readonly state: 'present' | 'deleting' | 'absent';
  readonly primaryRegion: string;
  readonly replicaRegions: readonly string[];
  /** The keyspace's schema is there, so that an ownership row can be written. */
  readonly hasSchema: boolean;
  readonly primary: PrimaryLookup;
  readonly row: RowView;
}

/** The tenant's ownership row, as the shard's primary has it. */
export type RowView =
  | { readonly kind: 'unknown'; readonly message: string }
  | { readonly kind: 'absent' }
  | { readonly kind: 'present'; readonly row: OwnershipRow };

export type { OwnershipRow };
