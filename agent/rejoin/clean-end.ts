/**
 * Brings a stopped data directory to the clean end that pg_rewind asks for, as pg_rewind itself would: recovery in single-user
 * mode, which opens no socket and lets nobody in. What it writes is behind the fork, on the data's own timeline, and goes
 * with the rewind. Not with a signal file (single-user mode refuses recovery towards a primary), and with all of the log kept:
 * the checkpoint at the end would otherwise remove what the rewind has to read.
 * Source: PostgreSQL documentation, "pg_rewind", "postgres: Options for Single-User Mode".
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder } from '#agent/durable-file.ts';
import type { ControlFile } from '#agent/postgres/control-file.ts';
import type { DataDirectory } from '#agent/postgres/data-directory.ts';
import { runProgram } from '#agent/postgres/programs.ts';
import type { Lsn } from '#core/lsn.ts';

/** It ended cleanly and had replayed all that lies on its disk: pg_rewind goes by the control file's end alone. */
export function isCleanlyEnded({ state, minRecovery }: ControlFile, end: Lsn): boolean {
  return state === 'shut down' || (state === 'shut down in recovery' && minRecovery >= end);
}

/** Can be done again after having been ended anywhere. */
export async function recoverToCleanEnd(data: DataDirectory, signal: AbortSignal): Promise<void> {
  const { limits } = await data.control();
  await data.prepareForStart();
  for (const file of ['standby.signal', 'recovery.signal']) await rm(join(data.path, file), { force: true });
  await syncFolder(data.path);
  const settings = {
    ...limits,
    wal_keep_size: '1TB',
    max_slot_wal_keep_size: '-1',
    wal_recycle: 'off',
    wal_level: 'logical',
    wal_log_hints: 'on',
    log_checkpoints: 'off',
    restore_command: '',
    exit_on_error: 'true',
  };
  const options = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  await runProgram('postgres', ['--single', '-D', data.path, ...options, 'postgres'], { env: data.env, signal });
}
