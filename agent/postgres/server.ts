/**
 * The postmaster as a child of the agent: started, stopped, reloaded, and seen to be gone. It decides nothing: when to
 * start, as what and with which access is told by `agent/member`. A start begins with no Postgres process left in the
 * container (docs/design-traps.md, B13) and with the closed access file on disk.
 * Stop modes, by signal ("Shutting Down the Server"): fast is SIGINT, immediate SIGQUIT; past both, SIGKILL to every
 * process of Postgres, since each backend has a process group of its own (docs/design-traps.md, B8).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { lockToHandOn } from '#agent/volume-lock.ts';
import { parentOf, signal } from './client-processes.ts';
import { postgresProcesses } from './data-directory.ts';

export interface ServerExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** False when a stop had been asked for. */
  readonly isUnexpected: boolean;
}

export interface PostgresServerOptions {
  readonly dataDirectory: string;
  readonly configFile: string;
  readonly env: Readonly<Record<string, string>>;
  readonly onExit: (exit: ServerExit) => void;
}

/** Long enough for children to end by themselves; one that is stopped or hangs is killed (docs/design-traps.md, ambiguity 11). */
const IMMEDIATE_STOP_MS = 500;
const KILLED_GONE_MS = 5_000;
const GROUP_POLL_MS = 2;

export class PostgresServer {
  readonly #options: PostgresServerOptions;
  #child: ChildProcess | undefined;
  #isStopping = false;
  #gone: Promise<void> = Promise.resolve();

  constructor(options: PostgresServerOptions) {
    this.#options = options;
  }

  /** Of the postmaster; undefined while none runs. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** To be called before a start: no process of Postgres is left when this resolves. */
  async clearLeftovers(): Promise<void> {
    if (this.#child !== undefined) throw new Error('Postgres is running already');
    await killLeftovers();
  }

  /** Whether it takes connections is seen by connecting; an end, also of a start that failed, is told by `onExit`. */
  start(): void {
    if (this.#child !== undefined) throw new Error('Postgres is running already');
    const { dataDirectory, configFile, env, onExit } = this.#options;
    const child = spawn('postgres', ['-D', dataDirectory, '-c', `config_file=${configFile}`], {
      env: { ...env },
      stdio: ['ignore', 'inherit', 'inherit', ...lockToHandOn()],
    });
    this.#child = child;
    this.#isStopping = false;
    this.#gone = new Promise((resolve) => {
      let ended = false;
      const end = (code: number | null, signal: NodeJS.Signals | null): void => {
        if (ended) return;
        ended = true;
        this.#child = undefined;
        resolve();
        onExit({ code, signal, isUnexpected: !this.#isStopping });
      };
      child.on('exit', end);
      child.on('error', () => {
        if (child.pid === undefined) end(null, null);
      });
    });
  }

  reload(): void {
    this.#child?.kill('SIGHUP');
  }

  /**
   * Bounded: fast for `fastMs` (0: not tried), then immediate, then killed. Resolves when no process is left.
   * @param frozen Clients that are stopped (`freezeClients`), in groups. All of them have the signal that ends them before any
   * goes on, and no group goes on before the one before it has gone: what one shows by ending, nobody is left to see, not
   * even by an error that comes before it looks at its signals (a duplicate key: nbtinsert.c, _bt_check_unique).
   */
  async stop(fastMs: number, frozen: readonly (readonly number[])[] = []): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#isStopping = true;
    if (fastMs > 0) {
      const giveUpAt = performance.now() + fastMs;
      for (const pid of frozen.flat()) signal(pid, 'SIGTERM');
      child.kill('SIGINT');
      // Where a group doesn't end, Postgres wouldn't either: the others are killed as they are.
      await wakeInTurn(frozen, giveUpAt);
      if (await this.#isGoneWithin(Math.max(0, giveUpAt - performance.now()))) return;
    }
    child.kill('SIGQUIT');
    if (await this.#isGoneWithin(IMMEDIATE_STOP_MS)) return;
    child.kill('SIGKILL');
    await this.#gone;
    await killLeftovers();
  }

  async #isGoneWithin(ms: number): Promise<boolean> {
    const cancel = new AbortController();
    const isGone = await Promise.race([
      this.#gone.then(() => true),
      sleep(ms, false, { signal: cancel.signal }).catch(() => false),
    ]);
    cancel.abort();
    return isGone;
  }
}

async function wakeInTurn(groups: readonly (readonly number[])[], giveUpAt: number): Promise<void> {
  let before: readonly number[] = [];
  for (const group of groups) {
    while (await isSomebodyLeft(before)) {
      if (performance.now() > giveUpAt) return;
      await sleep(GROUP_POLL_MS);
    }
    for (const pid of group) signal(pid, 'SIGCONT');
    before = group;
  }
}

/** Whoever their parent is by now: another stop may have ended the postmaster meanwhile. */
async function isSomebodyLeft(pids: readonly number[]): Promise<boolean> {
  for (const pid of pids) {
    if (parentOf(await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '')) !== undefined) return true;
  }
  return false;
}

/** SIGKILL to every Postgres process of this container, until /proc shows none. */
export async function killLeftovers(): Promise<void> {
  const giveUpAt = performance.now() + KILLED_GONE_MS;
  for (;;) {
    const left = (await postgresProcesses()).filter((pid) => !isZombieOrGone(pid));
    if (left.length === 0) return;
    if (performance.now() > giveUpAt) throw new Error(`Postgres processes that can't be killed: ${left.join(', ')}`);
    await sleep(50);
  }
}

/** Sends the signal; a process that is no longer there is what we want. */
function isZombieOrGone(pid: number): boolean {
  try {
    process.kill(pid, 'SIGKILL');
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}
