/**
 * Runs one of Postgres' own programs to its end: bounded memory for what it prints, killed when the signal aborts.
 * The postmaster is not run from here (`server.ts`).
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { lockToHandOn } from '#agent/volume-lock.ts';

export interface ProgramResult {
  readonly stdout: string;
  readonly stderr: string;
}

export interface ProgramOptions {
  readonly env: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  readonly stdin?: string;
  readonly onStdout?: (text: string) => void;
  readonly onStderr?: (text: string) => void;
}

const KEPT_CHARACTERS = 16_384;

export class ProgramError extends Error {
  override readonly name = 'ProgramError';
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;

  constructor(program: string, exitCode: number | null, ending: string, { stdout, stderr }: ProgramResult) {
    super(`${program}: ${ending}${stderr === '' ? '' : `: ${lastLine(stderr)}`}`);
    this.exitCode = exitCode;
    this.stdout = stdout;
    this.stderr = stderr;
  }
}

export function runProgram(
  program: string,
  argumentList: readonly string[],
  { env, signal, stdin, onStdout, onStderr }: ProgramOptions,
): Promise<ProgramResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, argumentList, {
      env: { ...env },
      stdio: ['pipe', 'pipe', 'pipe', ...lockToHandOn()],
      killSignal: 'SIGTERM',
      ...(signal === undefined ? {} : { signal }),
    }) as ChildProcessByStdio<Writable, Readable, Readable>;
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout = (stdout + text).slice(-KEPT_CHARACTERS);
      onStdout?.(text);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-KEPT_CHARACTERS);
      onStderr?.(text);
    });
    // A program that doesn't read its input closes the pipe; its exit status says all that matters.
    child.stdin.on('error', () => {});
    child.stdin.end(stdin ?? '');
    let failure: Error | undefined;
    child.on('error', (error) => {
      failure = error;
      // Never started: no `close` with a status will follow.
      if (child.pid === undefined) reject(new ProgramError(program, null, error.message, { stdout, stderr }));
    });
    child.on('close', (code, killedBy) => {
      if (code === 0 && failure === undefined) resolve({ stdout, stderr });
      else reject(new ProgramError(program, code, describeEnding(code, killedBy, failure), { stdout, stderr }));
    });
  });
}

function describeEnding(code: number | null, killedBy: string | null, failure: Error | undefined): string {
  if (failure?.name === 'AbortError') return 'given up';
  return code === null ? `ended by ${killedBy ?? 'a signal'}` : `exit status ${code}`;
}

export const lastLine = (text: string): string =>
  text
    .trimEnd()
    .split(/[\r\n]+/)
    .at(-1) ?? '';
