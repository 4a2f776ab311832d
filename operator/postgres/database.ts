/**
 * The keyspace's database on one shard: made once, owned by `meridian_owner`, with nothing granted to PUBLIC.
 * Leaves what is inside to `ownership/` and `migrations.ts`.
 */
import type { ClientBase } from 'pg';
import { applicationGroup, directGroup, ownerRole, replicationRole, routerRole } from '#core/roles.ts';
import { identifier } from './sql-text.ts';

const duplicateDatabase = '42P04';

/**
 * Connected to any database as `meridian_operator`, outside a transaction (CREATE DATABASE allows none). Safe to run twice.
 *
 * The collation is Postgres' own (`builtin`, PG 17), which no C library decides: rows that move to a shard on another operating system
 * keep their order. Applications may make temporary tables: the router keeps the connection for whoever has one.
 */
export async function ensureDatabase(client: ClientBase, name: string): Promise<void> {
  const database = identifier(name);
  const { rowCount } = await client.query('select from pg_catalog.pg_database where datname = $1', [name]);
  if (rowCount === 0) {
    const create = `create database ${database} owner ${ownerRole} template template0 encoding 'UTF8' locale_provider builtin builtin_locale 'C.UTF-8' locale 'C.UTF-8'`;
    await client.query(create).catch((error: unknown) => {
      if ((error as { code?: string }).code !== duplicateDatabase) throw error;
    });
  }
  await client.query(`revoke all on database ${database} from public`);
  // Followers copy slots from it as the replication role, and pg_rewind looks at it so.
  const mayConnect = [applicationGroup, routerRole, directGroup, replicationRole].join(', ');
  await client.query(`grant connect on database ${database} to ${mayConnect}`);
  await client.query(`grant temporary on database ${database} to ${applicationGroup}`);
}
