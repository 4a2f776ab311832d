/**
 * Puts every table of the keyspace under protection, or says why it can't be.
 */
import type { ClientBase } from 'pg';

export interface TableProblem {
  /** `schema.table` (or `schema.sequence`, `schema.view`). */
  readonly table: string;
  /** CamelCase, stable. */
  readonly reason: string;
  /** What is wrong, for people. */
  readonly message: string;
  /** What to change in the migration. */
  readonly hint: string;
}

export interface ProtectOptions {
  /** Tables with the same rows on every shard, `table` (in `public`) or `schema.table`. */
  readonly referenceTables: readonly string[];
}

/**
 * Connected as `meridian_operator`, inside the caller's transaction or in one of its own. Tables without a problem are protected
 * even if others have one; takes strong locks only on tables on which something has to change.
 */
export async function protectTables(_client: ClientBase, _options: ProtectOptions): Promise<readonly TableProblem[]> {
  throw new Error('not written yet');
}

/** What stands in the way of moving a tenant's rows by logical replication, whatever was declared. Changes nothing. */
export async function checkMovable(_client: ClientBase, _options: ProtectOptions): Promise<readonly TableProblem[]> {
  throw new Error('not written yet');
}
