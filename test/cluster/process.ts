// Runs other programs: the one place from which the test cluster starts processes, so that unit tests can put a
// recorder in its place and read the command lines. Output is kept in memory (bounded by what the programs print: small
// here) or goes to a log file; a program that fails becomes a CommandError that carries the last lines it printed.
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';

export interface RunOptions {
  readonly stdin?: string | undefined;
  readonly cwd?: string | undefined;
  /** Added to this process's own environment. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Standard output and standard error go here (truncated first) instead of memory. */
  readonly logFile?: string | undefined;
  readonly timeoutMs?: number | undefined;
}

/** Resolves with standard output; rejects with a CommandError when the program can't start or ends with an error. */
export type Run = (argv: readonly string[], options?: RunOptions) => Promise<string>;

const TAIL_LINES = 20;

export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly argv: readonly string[];
  /** Null when the program was ended by a signal or never started. */
  readonly exitCode: number | null;
  readonly output: string;

  constructor(argv: readonly string[], exitCode: number | null, ending: string, output: string, logFile?: string) {
    const where = logFile === undefined ? '' : ` (log: ${logFile})`;
    const tail = lastLines(output, TAIL_LINES);
    super(`${argv.join(' ')}: ${ending}${where}${tail === '' ? '' : `\n${tail}`}`);
    this.argv = argv;
    this.exitCode = exitCode;
    this.output = output;
  }
}

export const run: Run = async (argv, options = {}) => {
  const [program, ...rest] = argv;
  if (program === undefined) throw new Error('an empty command line');
  const { logFile } = options;
  if (logFile !== undefined) await mkdir(dirname(logFile), { recursive: true });
  return new Promise((resolve, reject) => {
    const child = spawn(program, rest, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs }),
    });
    const stdout: Buffer[] = [];
    const printed: Buffer[] = [];
    const log = logFile === undefined ? undefined : createWriteStream(logFile);
    child.stdout.on('data', (chunk: Buffer) => {
      stdout.push(chunk);
      printed.push(chunk);
      log?.write(chunk);
    });
    child.stderr.on('data', (chunk: Buffer) => {
      printed.push(chunk);
      log?.write(chunk);
    });
    // A program that doesn't read its input closes the pipe: its exit status says all that matters.
    child.stdin.on('error', () => {});
    child.stdin.end(options.stdin ?? '');
    child.on('error', (error: NodeJS.ErrnoException) => {
      log?.end();
      const ending = error.code === 'ENOENT' ? 'no such program' : error.message;
      reject(new CommandError(argv, null, ending, ''));
    });
    child.on('close', (code, signal) => {
      log?.end();
      if (code === 0) {
        resolve(Buffer.concat(stdout).toString('utf8'));
        return;
      }
      const ending = code === null ? `ended by ${signal ?? 'a signal'}` : `exit status ${code}`;
      reject(new CommandError(argv, code, ending, Buffer.concat(printed).toString('utf8'), logFile));
    });
  });
};

/** True when the program is on the PATH and `argv` ends well. */
export async function succeeds(runner: Run, argv: readonly string[], options?: RunOptions): Promise<boolean> {
  try {
    await runner(argv, options);
    return true;
  } catch (error) {
    if (error instanceof CommandError) return false;
    throw error;
  }
}

export function lastLines(text: string, count: number): string {
  return text.trimEnd().split('\n').slice(-count).join('\n');
}
