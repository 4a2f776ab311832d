/**
 * The keyspace's database on one shard: made once, with nothing granted to PUBLIC.
 * Leaves what is inside to `ownership/` and `migrations.ts`.
 */
import type { ClientBase } from 'pg';

/** Connected to any database as `meridian_operator`. Makes the database when there is none; safe to run twice. */
export async function ensureDatabase(_client: ClientBase, _name: string): Promise<void> {
  throw new Error('not written yet');
}
