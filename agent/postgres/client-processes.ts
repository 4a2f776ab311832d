/**
 * The processes of Postgres that serve clients, found as the kernel shows them and not as Postgres lists them: one that is
 * still authenticating is in no view, has read the access file that was in force when it was forked, and gets in later
 * (docs/design-traps.md, B11). Ending them is how a door that was shut is made to hold for those already inside.
 * Only for a server that nobody commits on (a standby), or that goes down: a session that waits for its acknowledgement
 * reports success when it is ended.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LocalSession } from './session.ts';

const POLL_MS = 10;
const GONE_MS = 2_000;

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
    // In this order: what is a child now and isn't listed a moment later as one of Postgres' own is a client's.
    const children = await childrenOf(postmaster);
    const own = new Set(await backgroundPids(session));
    const clients = children.filter((pid) => !own.has(pid) && pid !== session.backendPid);
    if (clients.length === 0) return;
    if (performance.now() > giveUpAt) throw new Error(`sessions that do not end: ${clients.join(', ')}`);
    for (const pid of clients) end(pid);
    await sleep(POLL_MS);
  }
}

/** Those of Postgres itself; WAL senders count as clients, and come back through their tunnels where they may. */
async function backgroundPids(session: LocalSession): Promise<number[]> {
  const rows = await session.query<{ pid: number }>(
    `select pid from pg_catalog.pg_stat_activity
      where backend_type not in ('client backend', 'walsender', 'parallel worker')`,
  );
  return rows.map(({ pid }) => pid);
}

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGTERM');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
