/**
 * What the router knows of the keyspace: who owns which tenant, which member may write for which shard, where members are.
 * Pure data with look-ups. Where it comes from is in the sources beside; how it may change is in `merge.ts`.
 */

import type { History } from '#core/consistency/position.ts';

export const consistencyLevels = ['strong', 'causal', 'bounded', 'eventual'] as const;
export type ConsistencyLevel = (typeof consistencyLevels)[number];

export type TenantKeyType = 'text' | 'uuid' | 'bigint' | 'integer';

export interface ConsistencyRule {
  /** Exactly one of these three is there. */
  readonly table?: string | undefined;
  readonly workflow?: string | undefined;
  readonly role?: string | undefined;
  readonly level: ConsistencyLevel;
  /** Of `bounded`. */
  readonly maxStalenessMs?: number | undefined;
}

/** How much a tenant, or a role, may use of this router; what isn't there isn't limited. */
export interface Limits {
  readonly connections?: number | undefined;
  readonly transactionsInFlight?: number | undefined;
  readonly statementsPerSecond?: number | undefined;
  readonly statementTimeoutMs?: number | undefined;
}

/** At the admin database: to look, or to act as well. */
export type AdminRight = 'stats' | 'full';

export interface KeyspaceView {
  readonly name: string;
  readonly database: string;
  readonly tenantColumn: string;
  readonly tenantType: TenantKeyType;
  readonly consistency: {
    readonly default: ConsistencyLevel;
    /** Of `bounded`, for which the manifest has to say one. */
    readonly maxStalenessMs?: number | undefined;
    readonly rules: readonly ConsistencyRule[];
  };
  /** Backends per role and member. */
  readonly poolSize: number;
  readonly maxClients: number;
  /** Roles that log in with a certificate besides the password. */
  readonly certificateRoles?: readonly string[];
  /** The roles that are declared, whether or not a member knows them yet. */
  readonly roles: readonly string[];
  /** Of those roles that have any. */
  readonly roleLimits?: Readonly<Record<string, Limits>> | undefined;
  /** Who may connect to the admin database. */
  /** To be asked by `adminRightOf`. */
  readonly admins?: Readonly<Record<string, AdminRight>> | undefined;
  /** Until a client that says nothing is disconnected: outside a transaction, and in one. 0: never. */
  readonly idleSessionMs?: number | undefined;
  readonly idleInTransactionMs?: number | undefined;
}

export interface MemberView {
  readonly name: string;
  readonly shard: string;
  readonly region: string;
  /** IP address of the pod, and the port of its Postgres. */
  readonly address: string;
  readonly port: number;
  /** Of its agent, where that isn't at the member's own address. */
  readonly agentAddress?: string | undefined;
  readonly agentPort: number;
  /** For benches on one machine only: what is measured against it speaks no TLS either. */
  readonly plaintext?: boolean | undefined;
  /** It takes connections, as far as its RegionalReplica says. */
  readonly ready: boolean;
}

export interface ShardView {
  readonly name: string;
  /** Of the object: a shard made anew under an old name has nothing to do with the former. */
  readonly uid?: string | undefined;
  /** 0 where no authority is known yet. */
  readonly epoch: number;
  /** The member with the authority; absent while there is none, or it isn't open. */
  readonly primary?: string | undefined;
  /** While the primary is handed over: the member that is to take its place. */
  readonly target?: string | undefined;
  /** Which epoch left which other one where, as the record says. */
  readonly history?: History | undefined;
}

export interface TenantView {
  readonly key: string;
  readonly uid?: string | undefined;
  readonly shard: string;
  readonly epoch: number;
  readonly state: string;
  /** Undefined where it has none. */
  readonly limits?: Limits | undefined;
}

export interface ClusterMap {
  readonly keyspace: KeyspaceView;
  readonly shards: ReadonlyMap<string, ShardView>;
  readonly members: ReadonlyMap<string, MemberView>;
  readonly tenants: ReadonlyMap<string, TenantView>;
  /** Region -> the other regions, nearest first. */
  readonly proximity: ReadonlyMap<string, readonly string[]>;
}

/** The members of a shard. */
export function membersOf(map: ClusterMap, shard: string): MemberView[] {
  return [...map.members.values()].filter((member) => member.shard === shard);
}

/** How far `region` is from `from`: 0 its own, then by the Region's proximity; regions that aren't listed come last. */
export function distance(map: ClusterMap, from: string, region: string): number {
  if (region === from) return 0;
  const order = map.proximity.get(from) ?? [];
  const index = order.indexOf(region);
  return index === -1 ? order.length + 1 : index + 1;
}

/** What a role may do at the admin database. Roles have any names, also those of what every object has. */
export const adminRightOf = (map: ClusterMap | undefined, role: string): AdminRight | undefined => {
  const { admins } = map?.keyspace ?? {};
  return admins !== undefined && Object.hasOwn(admins, role) ? admins[role] : undefined;
};
