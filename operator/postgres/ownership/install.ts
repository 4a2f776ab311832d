/**
 * Installs the `meridian` schema into a keyspace's database: tables, look-ups and trigger functions that keep tenants apart.
 * The SQL is in the `*-sql.ts` files beside this one; tables of the keyspace get their policies and triggers from `protect.ts`.
 * Invariant: the tenant key and the ordinal of a database never change once they are written to `meridian.settings`.
 */
import { createHash } from 'node:crypto';
import type { ClientBase } from 'pg';
import { ownerRole } from '#core/roles.ts';
import { inTransaction } from '../sql-text.ts';
import { channelPrivilegesSql, channelSql } from './channel-sql.ts';
import { claimSql } from './claim-sql.ts';
import { loginSql } from './login-sql.ts';
import { patternSql } from './pattern-sql.ts';
import { privilegesSql } from './privileges-sql.ts';
import { routerSql } from './router-sql.ts';
import { schemaSql } from './schema-sql.ts';
import type { TenantKey } from './tenant-key.ts';

export type { TenantKey, TenantKeyType } from './tenant-key.ts';

export interface OwnershipSettings {
  readonly tenantKey: TenantKey;
  /** Which range of sequence values this shard draws from; 0 to 8191, never given to another shard of the keyspace. */
  readonly shardOrdinal: number;
}

/** The database was installed with another tenant key or ordinal. */
export class OwnershipSettingsError extends Error {
  override name = 'OwnershipSettingsError';
}

/** Keeps two installations apart; in the one-bigint form, so that it can't meet a tenant's lock. */
const installationLock = 0x4d5244494e53n;

/**
 * Connected to the keyspace's database as `meridian_operator`. Idempotent, one transaction; an installed and unchanged schema costs one
 * look-up or two. Throws OwnershipSettingsError if the schema was installed with another tenant key or ordinal.
 */
export async function installOwnership(client: ClientBase, settings: OwnershipSettings): Promise<void> {
  const sql = installationSql(settings.tenantKey);
  const version = createHash('sha256').update(sql).digest('hex').slice(0, 16);
  if ((await installedVersion(client, settings)) === version) return settleVersion(client);
  await inTransaction(client, async () => {
    await client.query('select pg_catalog.pg_advisory_xact_lock($1)', [installationLock]);
    if ((await installedVersion(client, settings)) === version) return;
    await client.query(`set local search_path = pg_catalog; ${sql}`);
    await client.query(
      `insert into meridian.settings (tenant_column, tenant_type, shard_ordinal, installed) values ($1, $2, $3, $4)
       on conflict (only_row) do update set installed = excluded.installed`,
      [settings.tenantKey.column, settings.tenantKey.type, settings.shardOrdinal, version],
    );
  });
}

/** After a change of ownership that was rolled back or cut off, writers would take the slow way until the next one (claim-sql.ts). */
async function settleVersion(client: ClientBase): Promise<void> {
  await client.query(
    `select meridian.next_version() from meridian.ownership_change c
     where c.version is distinct from pg_catalog.pg_sequence_last_value('meridian.ownership_version'::regclass)`,
  );
}

/** What the database was installed with. Throws if it wasn't. */
export async function readSettings(client: ClientBase): Promise<OwnershipSettings> {
  const { rows } = await client.query<SettingsRow>('select * from meridian.settings');
  const row = rows[0];
  if (row === undefined) throw new OwnershipSettingsError('schema meridian is not installed in this database');
  return { tenantKey: { column: row.tenant_column, type: row.tenant_type }, shardOrdinal: row.shard_ordinal };
}

interface SettingsRow {
  readonly tenant_column: string;
  readonly tenant_type: TenantKey['type'];
  readonly shard_ordinal: number;
  readonly installed: string;
}

async function installedVersion(client: ClientBase, wanted: OwnershipSettings): Promise<string | undefined> {
  const exists = await client.query<{ found: boolean }>(
    `select pg_catalog.to_regclass('meridian.settings') is not null as found`,
  );
  if (exists.rows[0]?.found !== true) return undefined;
  const { rows } = await client.query<SettingsRow>('select * from meridian.settings');
  const row = rows[0];
  if (row === undefined) return undefined;
  const { column, type } = wanted.tenantKey;
  if (row.tenant_column !== column || row.tenant_type !== type || row.shard_ordinal !== wanted.shardOrdinal) {
    throw new OwnershipSettingsError(
      `this database was installed for tenant key ${row.tenant_column} ${row.tenant_type} and shard ordinal ${row.shard_ordinal}; it can't become ${column} ${type} and ${wanted.shardOrdinal}`,
    );
  }
  return row.installed;
}

function installationSql(key: TenantKey): string {
  const functions = `set local role ${ownerRole};\n${loginSql(key)}${claimSql(key)}${channelSql(key)}${routerSql(key)}${patternSql(key)}reset role;\n`;
  return `${schemaSql(key)}${functions}${privilegesSql(key)}${channelPrivilegesSql}`;
}
