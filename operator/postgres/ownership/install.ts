/**
 * Installs the `meridian` schema into a keyspace's database: tables, look-ups and trigger functions that keep tenants apart.
 * Tables of the keyspace get their policies and triggers from `protect.ts`.
 */
import type { ClientBase } from 'pg';

export type TenantKeyType = 'text' | 'uuid' | 'bigint' | 'integer';

export interface TenantKey {
  /** The column that every tenant table has. */
  readonly column: string;
  readonly type: TenantKeyType;
}

export interface OwnershipSettings {
  readonly tenantKey: TenantKey;
  /** Which range of sequence values this shard draws from; 0 to 8191, never given to another shard of the keyspace. */
  readonly shardOrdinal: number;
}

/**
 * Connected to the keyspace's database as `meridian_operator`. Idempotent; one transaction.
 * Throws if the schema was installed with another tenant key or ordinal: neither can change.
 */
export async function installOwnership(_client: ClientBase, _settings: OwnershipSettings): Promise<void> {
  throw new Error('not written yet');
}
