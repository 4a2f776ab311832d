/**
 * Makes the first data directory of a shard: initdb, the fixed roles and the keyspace's database, all in a directory that
 * gets its final name only when it is whole, so that a death in between leaves nothing that could be taken for data.
 * The SQL runs in Postgres' single-user mode: no port, no replication and no waiting for acknowledgers that don't exist.
 * Source: PostgreSQL documentation, "initdb", "postgres: Options for Single-User Mode".
 */
import { rm } from 'node:fs/promises';
import { agentRole, bootstrapRolesSql, ownerRole } from '#core/roles.ts';
import type { DataDirectory } from './data-directory.ts';
import { runProgram } from './programs.ts';

export async function initialise(
  data: DataDirectory,
  database: string,
  env: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<void> {
  const path = data.workPath('initialising');
  await rm(path, { recursive: true, force: true });
  await runProgram(
    'initdb',
    [
      `--pgdata=${path}`,
      `--username=${agentRole}`,
      '--data-checksums',
      '--encoding=UTF8',
      // The built-in provider sorts the same whatever C library a member's image has, so no index goes wrong between them.
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--locale=C.UTF-8',
      '--lc-messages=C',
      // Closed for as long as the agent hasn't written its own access file.
      '--auth=reject',
      '--no-instructions',
    ],
    { env, signal },
  );
  await singleUser(path, 'postgres', [bootstrapRolesSql, createDatabase(database)], env, signal);
  await singleUser(
    path,
    database,
    [`revoke create, temporary on database ${quote(database)} from public`],
    env,
    signal,
  );
  await data.adopt('initialising');
}

const createDatabase = (database: string): string =>
  database === 'postgres'
    ? `alter database postgres owner to ${ownerRole}`
    : `create database ${quote(database)} owner ${ownerRole} template template0 encoding 'UTF8'`;

/** With -j a statement ends at a semicolon followed by an empty line, which a DO block doesn't contain. */
async function singleUser(
  path: string,
  database: string,
  statements: readonly string[],
  env: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<void> {
  const stdin = statements.map((statement) => `${statement.trim().replace(/;$/, '')};\n\n`).join('');
  const options = ['--single', '-j', '-D', path, '-c', 'exit_on_error=true', '-c', 'log_checkpoints=off', database];
  await runProgram('postgres', options, { env, signal, stdin });
}

const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;
