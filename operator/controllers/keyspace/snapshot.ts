/**
 * What the keyspace controller looks at in one round: facts, with nothing decided. Filled by `observe.ts`, read by `plan.ts`.
 */
import type { Deployment, Secret, Service } from '#kube/kinds.ts';
import type { Keyspace, Region } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import type { PrimaryLookup } from '#operator/postgres/primary.ts';

export interface KeyspaceSnapshot {
  readonly keyspace: Stored<Keyspace>;
  /** All Shards that name the keyspace, by name; those being deleted too. */
  readonly shards: readonly ShardView[];
  /** All Regions of the namespace, by name. */
  readonly regions: ReadonlyMap<string, Stored<Region>>;
  readonly migrations: readonly MigrationSource[];
  /** Deployments and Services of routers of this keyspace, by region; of regions no longer wished too. */
  readonly deployments: ReadonlyMap<string, Stored<Deployment>>;
  readonly services: ReadonlyMap<string, Stored<Service>>;
  /** Secrets of application roles of this keyspace, by role; of roles no longer declared too. */
  readonly roleSecrets: ReadonlyMap<string, Stored<Secret>>;
  readonly routerImage: string;
}

export interface ShardView {
  readonly name: string;
  readonly uid: string;
  readonly deleting: boolean;
  readonly primary: PrimaryLookup;
}

/** A migration with its SQL, or why there is none. */
export type MigrationSource =
  | { readonly name: string; readonly kind: 'found'; readonly sql: string }
  | { readonly name: string; readonly kind: 'missing'; readonly reason: string; readonly message: string };
