/**
 * Schema migrations of a keyspace on one shard, in the declared order, each in a transaction as `meridian_owner`, recorded in
 * `meridian.migrations`.
 */
import type { ClientBase } from 'pg';
import type { ProtectOptions, TableProblem } from './ownership/protect.ts';

export interface Migration {
  readonly name: string;
  readonly sql: string;
}

export type MigrationFailure = {
  /** The migration that stopped the run; nothing of it is kept. */
  readonly name: string;
  /** For people; one line. */
  readonly message: string;
} & (
  | { readonly reason: 'SqlError'; readonly code: string; readonly position?: number; readonly hint?: string }
  /** An applied migration's text differs from the declared one. */
  | { readonly reason: 'Changed' }
  /** A migration was declared before one that is applied, or an applied one is no longer declared. */
  | { readonly reason: 'OrderChanged' }
  /** It leaves tables that can't be protected or could never move. */
  | { readonly reason: 'Unprotectable'; readonly problems: readonly TableProblem[] }
);

export interface MigrationRun {
  /** Names of those applied in this run. */
  readonly applied: readonly string[];
  /** How many are applied in all. */
  readonly total: number;
  /** The last applied one; undefined when there is none. */
  readonly schemaVersion: string | undefined;
  readonly failure: MigrationFailure | undefined;
}

/**
 * Connected to the keyspace's database as `meridian_operator`, after `installOwnership`. Each migration's tables are protected in the
 * migration's own transaction, so that no table is ever seen without. Throws only when the connection fails.
 */
export async function runMigrations(
  _client: ClientBase,
  _migrations: readonly Migration[],
  _options: ProtectOptions,
): Promise<MigrationRun> {
  throw new Error('not written yet');
}
