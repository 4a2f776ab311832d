/**
 * What the keyspace controller can do, as data. `plan.ts` makes them, `act.ts` does them.
 * Invariant: no action carries a password or a verifier; whoever does it reads the Secret itself.
 */
import type {
  Deployment,
  NetworkPolicy,
  PodDisruptionBudget,
  Role,
  RoleBinding,
  Service,
  ServiceAccount,
} from '#kube/kinds.ts';
import type { MemberTarget } from '#operator/postgres/connect.ts';
import type { TenantKey } from '#operator/postgres/ownership/install.ts';
import type { RoleTenants } from '#operator/postgres/roles.ts';
import type { ShardEntry } from './ordinals.ts';

export type RouterObject =
  | Deployment
  | NetworkPolicy
  | PodDisruptionBudget
  | Role
  | RoleBinding
  | Service
  | ServiceAccount;

/** A role as every shard should have it. */
export type RoleWish = { readonly name: string; readonly secret: string; readonly validUntil?: string } & RoleTenants;

/** A shard whose primary can be reached. */
export interface ShardTarget {
  readonly name: string;
  readonly uid: string;
  readonly ordinal: number;
  readonly epoch: number;
  readonly incarnation: string;
  readonly member: MemberTarget;
  /** Migrations that it has, as far as is recorded: counts until it is asked. */
  readonly recorded: number;
}

/** What every shard of the keyspace should have. */
export interface SchemaWish {
  readonly database: string;
  readonly tenantKey: TenantKey;
  readonly migrations: readonly { readonly name: string; readonly sql: string }[];
  /** False when the list above ends early, since the SQL of the next one can't be had now. */
  readonly hasAllMigrations: boolean;
  readonly referenceTables: readonly string[];
  readonly roles: readonly RoleWish[];
}

export interface SetUpShards {
  readonly kind: 'setUpShards';
  readonly wish: SchemaWish;
  readonly shards: readonly ShardTarget[];
  /** Shards that have a schema, as far as is recorded, and can't be reached now. */
  readonly away: readonly ShardEntry[];
}

export type KeyspaceAction =
  /** Authority, routers' certificate, the operator's own. */
  | { readonly kind: 'ensureCertificates'; readonly routerDnsNames: readonly string[] }
  | { readonly kind: 'recordOrdinals'; readonly shards: readonly ShardEntry[]; readonly nextOrdinal: number }
  | {
      readonly kind: 'ensureRoleSecret';
      /** The role logs in with a certificate, too. */
      readonly clientCertificate?: boolean;
      readonly role: string;
      readonly database: string;
      readonly regions: readonly string[];
      readonly shards: readonly ShardTarget[];
      readonly complete: boolean;
    }
  | SetUpShards
  | { readonly kind: 'applyRouterObject'; readonly object: RouterObject }
  | { readonly kind: 'deleteRouter'; readonly region: string }
  | { readonly kind: 'deleteSecret'; readonly name: string };

/** What became of one shard. */
export interface ShardOutcome {
  readonly name: string;
  readonly applied: number;
  /** What stands in the way on this shard, for people; undefined when all is as wished. */
  readonly problem?: {
    readonly step: 'connect' | 'install' | 'protect' | 'roles';
    readonly reason: string;
    readonly message: string;
  };
  readonly failedMigration?: { readonly name: string; readonly reason: string; readonly message: string };
}

export interface SetUpOutcome {
  readonly shards: readonly ShardOutcome[];
  /** Shards with a schema for which new migrations wait. */
  readonly waitingFor: readonly string[];
}

/** What became of a role's Secret. `preparing`: a rotation waits for the shards to learn of it. */
export interface RoleSecretOutcome {
  readonly role: string;
  readonly secret: string;
  readonly step: 'made' | 'remade' | 'adopted' | 'prepared' | 'published' | 'overlap ended' | 'unchanged';
  readonly preparing: boolean;
  /** When the next step is due by itself, milliseconds since 1970. */
  readonly nextStepMs: number | undefined;
}

/** When the certificates end. */
export interface CertificatesOutcome {
  readonly renewed: readonly string[];
  readonly earliestNotAfterMs: number;
}
