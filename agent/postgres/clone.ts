/**
 * Makes this member's data directory as a copy of the primary's, with pg_basebackup through the agent's own upstream
 * socket. The copy is made under another name and becomes the data directory only when it is whole and marked as a
 * standby. WAL is streamed through this member's own slot, so that nothing is missing between the copy and the first
 * stream after it.
 * Source: PostgreSQL documentation, "pg_basebackup".
 */
import { rm } from 'node:fs/promises';
import { slotName } from '#core/identity.ts';
import { replicationRole } from '#core/roles.ts';
import type { DataDirectory } from './data-directory.ts';
import { runProgram } from './programs.ts';

export interface CloneProgress {
  readonly receivedBytes: number;
  readonly totalBytes: number;
}

export interface CloneOptions {
  readonly data: DataDirectory;
  readonly incarnation: string;
  readonly upstreamSockets: string;
  readonly port: number;
  readonly env: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: CloneProgress) => void;
}

export async function clone(options: CloneOptions): Promise<void> {
  const { data, incarnation, upstreamSockets, port, env, signal, onProgress } = options;
  const path = data.workPath('cloning');
  await rm(path, { recursive: true, force: true });
  await runProgram(
    'pg_basebackup',
    [
      `--pgdata=${path}`,
      `--host=${upstreamSockets}`,
      `--port=${port}`,
      `--username=${replicationRole}`,
      '--no-password',
      '--format=plain',
      '--wal-method=stream',
      `--slot=${slotName(incarnation)}`,
      '--checkpoint=fast',
      '--progress',
    ],
    {
      env,
      signal,
      onStderr: (text) => {
        const progress = parseProgress(text);
        if (progress !== undefined) onProgress(progress);
      },
    },
  );
  await data.makeStandby(path);
  await data.adopt('cloning');
}

/** The last of pg_basebackup's lines, such as ` 23119/31245 kB (73%), 0/1 tablespace`. */
export function parseProgress(text: string): CloneProgress | undefined {
  const last = [...text.matchAll(/(\d+)\/(\d+) kB/g)].at(-1);
  if (last === undefined) return undefined;
  return { receivedBytes: Number(last[1]) * 1024, totalBytes: Number(last[2]) * 1024 };
}
