/**
 * Schema migrations of a keyspace on one shard, in the declared order, each in a transaction as `meridian_owner`, recorded in
 * `meridian.migrations` by Kysely's migrator and with a checksum of its text by us.
 *
 * A migration's tables are protected in the migration's own transaction, so no table is ever seen without protection, and a migration
 * that leaves one that can't be protected is rolled back whole.
 * Migrations are trusted: whoever may write a Keyspace's migrations may do with its members' Postgres what its superuser may.
 */
import { createHash } from 'node:crypto';
import { Kysely, PostgresDialect, type PostgresPool, type PostgresPoolClient, sql } from 'kysely';
import { Migrator } from 'kysely/migration';
import type { ClientBase } from 'pg';
import { ownerRole } from '#core/roles.ts';
import { statementsToRefuse } from './migration-text.ts';
import { type ProtectOptions, protectTablesWithin } from './ownership/protect.ts';
import type { TableProblem } from './ownership/table-problems.ts';

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
  | {
      readonly reason: 'SqlError';
      /** SQLSTATE. */
      readonly code: string;
      /** Character of the migration's text, from 1. */
      readonly position?: number;
      readonly hint?: string;
    }
  /** Its text has a statement that would end or leave its transaction. */
  | { readonly reason: 'NotTransactional' }
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

export interface MigrationOptions extends ProtectOptions {
  /**
   * Applies at most this many of the declared list, so that the shards of a keyspace can go step by step. Default: all.
   * The whole list is compared with what is applied, whatever is given here.
   */
  readonly upTo?: number;
}

/**
 * Connected to the keyspace's database as `meridian_operator`, after `installOwnership`. Throws only what isn't the migrations' fault
 * (a lost connection, a missing installation); everything else is in `failure`.
 */
export async function runMigrations(
  client: ClientBase,
  migrations: readonly Migration[],
  options: MigrationOptions,
): Promise<MigrationRun> {
  const applied: string[] = [];
  for (;;) {
    const record = await readRecord(client);
    const finish = (failure?: MigrationFailure): MigrationRun => ({
      applied,
      total: record.length,
      schemaVersion: record.at(-1)?.name,
      failure,
    });
    const broken = compareWithRecord(migrations, record);
    if (broken !== undefined) return finish(broken);
    const next = migrations[record.length];
    if (next === undefined || record.length >= (options.upTo ?? migrations.length)) return finish();
    const failure = await applyMigration(client, migrations.slice(0, record.length + 1), next, options);
    if (failure !== undefined) return finish(failure);
    applied.push(next.name);
  }
}

export interface AppliedMigration {
  readonly name: string;
  readonly sha256: string;
}

export const migrationChecksum = (text: string): string => createHash('sha256').update(text, 'utf8').digest('hex');

/** What is applied must be the beginning of what is declared, word for word. */
export function compareWithRecord(
  declared: readonly Migration[],
  record: readonly AppliedMigration[],
): MigrationFailure | undefined {
  for (const [index, { name, sha256 }] of record.entries()) {
    const here = declared[index];
    if (here?.name !== name) {
      const message =
        here === undefined || !record.some((other) => other.name === here.name)
          ? `migration "${name}" is applied as number ${index + 1}, but ${here === undefined ? 'is no longer declared' : `"${here.name}" is declared there`}`
          : `migration "${here.name}" is declared as number ${index + 1}, but "${name}" was applied there`;
      return { reason: 'OrderChanged', name: here?.name ?? name, message: `${message}; add new ones at the end` };
    }
    if (migrationChecksum(here.sql) !== sha256) {
      const message = `migration "${name}" is applied and its text was changed since; put it back and add a new one`;
      return { reason: 'Changed', name, message };
    }
  }
  return undefined;
}

async function readRecord(client: ClientBase): Promise<readonly AppliedMigration[]> {
  const { rows } = await client.query<AppliedMigration>(
    'select name, sha256 from meridian.migration_text order by position',
  );
  return rows;
}

/** Carries what is wrong with the schema out of the migration's transaction, which it thereby rolls back. */
class UnprotectableError extends Error {
  readonly problems: readonly TableProblem[];
  constructor(problems: readonly TableProblem[]) {
    super(problems.map((problem) => `${problem.table}: ${problem.message} (${problem.hint})`).join('; '));
    this.problems = problems;
  }
}

/** Kysely orders by name; the declared order is what counts. */
const recordedName = (index: number, name: string): string => `${String(index + 1).padStart(5, '0')} ${name}`;

/** What Postgres said to the migration's own text; an error of anything else isn't the migration's fault. */
class MigrationTextError extends Error {
  constructor(cause: unknown) {
    super('the migration failed', { cause });
  }
}

/** The last of `migrations`; those before it are applied. */
async function applyMigration(
  client: ClientBase,
  migrations: readonly Migration[],
  migration: Migration,
  options: ProtectOptions,
): Promise<MigrationFailure | undefined> {
  const refused = await statementsToRefuse(migration.sql);
  if (refused.length > 0) {
    const message = `migration "${migration.name}" contains ${refused.join(', ')}: each migration runs whole in one transaction as ${ownerRole}`;
    return { reason: 'NotTransactional', name: migration.name, message };
  }
  const database = new Kysely<unknown>({ dialect: new PostgresDialect({ pool: poolOf(client) }) });
  const up = async (transaction: Kysely<unknown>): Promise<void> => {
    await sql.raw(`set local role ${ownerRole}; set local search_path = public`).execute(transaction);
    await sql
      .raw(migration.sql)
      .execute(transaction)
      .catch((error: unknown) => {
        throw new MigrationTextError(error);
      });
    await sql`reset role`.execute(transaction);
    const problems = await protectTablesWithin(client, options);
    if (problems.length > 0) throw new UnprotectableError(problems);
    await sql`insert into meridian.migration_text (position, name, sha256) values (${migrations.length}, ${migration.name}, ${migrationChecksum(migration.sql)})`.execute(
      transaction,
    );
  };
  const migrator = new Migrator({
    db: database,
    // Kysely asks for all of them; only the last one is ever run.
    provider: {
      getMigrations: async () =>
        Object.fromEntries(migrations.map(({ name }, index) => [recordedName(index, name), { up }])),
    },
    migrationTableSchema: 'meridian',
    migrationTableName: 'migrations',
    migrationLockTableName: 'migration_lock',
  });
  const { error } = await migrator.migrateUp();
  return error === undefined ? undefined : describeFailure(migration, error);
}

function describeFailure(migration: Migration, error: unknown): MigrationFailure {
  const { name } = migration;
  if (error instanceof UnprotectableError) {
    const message = `migration "${name}" leaves what can't be protected: ${error.message}`;
    return { reason: 'Unprotectable', name, message, problems: error.problems };
  }
  if (!(error instanceof MigrationTextError)) throw error;
  const { code, message, position, hint } = error.cause as {
    code?: string;
    message: string;
    position?: string;
    hint?: string;
  };
  // A SQLSTATE has five characters; system errors (ECONNRESET) are longer.
  if (code === undefined || !/^[0-9A-Z]{5}$/.test(code)) throw error.cause;
  return {
    reason: 'SqlError',
    name,
    code,
    message: `migration "${name}": ${message} (SQLSTATE ${code})`,
    ...(position !== undefined && { position: Number(position) }),
    ...(hint !== undefined && { hint }),
  };
}

/** Kysely wants a pool; it gets the one connection that we have, and leaves it open. It never asks for a cursor here. */
function poolOf(client: ClientBase): PostgresPool {
  const borrowed = { query: client.query.bind(client), release: () => {} } as unknown as PostgresPoolClient;
  return { connect: async () => borrowed, end: async () => {}, options: {} };
}
