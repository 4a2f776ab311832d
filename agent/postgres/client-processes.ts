/**
 * The processes of Postgres that serve clients, found as the kernel shows them and not as Postgres lists them: one that is
 * still authenticating is in no view, has read the access file that was in force when it was forked, and gets in later
 * (docs/design-traps.md, B11). Ending them is how a door that was shut is made to hold for those already inside.
 * Ending them one by one is only for a server that nobody commits on (a standby). On a primary a commit that waits for its
 * followers becomes visible when its session is ended, and whoever is ended a moment later may have shown it by then: there
 * all of them are frozen first, and wake with their end before them (docs/design-traps.md, ambiguity 23).
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LocalSession } from './session.ts';

const POLL_MS = 10;
const GONE_MS = 2_000;
const FROZEN_MS = 500;

/** Children of the postmaster, whatever they are. */
export async function childrenOf(postmaster: number, procFolder = '/proc'): Promise<number[]> {
  const children: number[] = [];
  for (const entry of await readdir(procFolder)) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = await readFile(join(procFolder, entry, 'stat'), 'latin1').catch(() => '');
    if (parentOf(stat) === postmaster) children.push(Number(entry));
  }
  return children;
}

/** proc(5), "/proc/pid/stat": the fourth field; the second, a name in parentheses, may contain anything. Zombies have ended. */
export function parentOf(stat: string): number | undefined {
  const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return parent === undefined || state === 'Z' ? undefined : Number(parent);
}

/**
 * Ends every client of this server but `session`, until none is left. To be called once newcomers are shown to be refused.
 * @throws when some don't end.
 */
export async function endClients(session: LocalSession, postmaster: number): Promise<void> {
  const giveUpAt = performance.now() + GONE_MS;
  for (;;) {
    const clients = await clientsOf(session, postmaster, 'all');
    if (clients.length === 0) return;
    if (performance.now() > giveUpAt) throw new Error(`sessions that do not end: ${clients.join(', ')}`);
    for (const pid of clients) signal(pid, 'SIGTERM');
    await sleep(POLL_MS);
  }
}

/**
 * Keeps every client of this server but `session` from taking another step, until SIGCONT; WAL senders go on. To be called
 * once newcomers are shown to be refused. A process that is stopped in the kernel takes its signals before it comes back.
 * @returns their process numbers.
 * @throws when some don't stop; none is frozen then.
 */
export async function freezeClients(session: LocalSession, postmaster: number): Promise<number[]> {
  const clients = await clientsOf(session, postmaster, 'but WAL senders');
  const giveUpAt = performance.now() + FROZEN_MS;
  for (const pid of clients) signal(pid, 'SIGSTOP');
  for (const pid of clients) {
    while (await isRunning(pid)) {
      if (performance.now() > giveUpAt) {
        for (const frozen of clients) signal(frozen, 'SIGCONT');
        throw new Error(`a session that does not stop: ${pid}`);
      }
      await sleep(1);
    }
  }
  return clients;
}

/** A process that has gone is what was wanted. */
export function signal(pid: number, name: 'SIGTERM' | 'SIGSTOP' | 'SIGCONT'): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/**
 * In this order: what is a child now and isn't listed a moment later as one of those that stay is a client's.
 * WAL senders come back through their tunnels where they may.
 */
async function clientsOf(session: LocalSession, postmaster: number, who: 'all' | 'but WAL senders'): Promise<number[]> {
  const children = await childrenOf(postmaster);
  const rows = await session.query<{ pid: number }>(
    `select pid from pg_catalog.pg_stat_activity
      where backend_type not in ('client backend', 'walsender', 'parallel worker')
         or (backend_type = 'walsender' and $1)`,
    [who === 'but WAL senders'],
  );
  const staying = new Set(rows.map(({ pid }) => pid));
  return children.filter((pid) => !staying.has(pid) && pid !== session.backendPid);
}

/** proc(5): R runs, S sleeps and may wake; stopped, ended, or uninterruptible in the kernel are all the others. */
async function isRunning(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '');
  return /^[RS]/.test(stat.slice(stat.lastIndexOf(')') + 2)) && stat !== '';
}
