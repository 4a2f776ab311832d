/**
 * Commits that wait for followers, as Postgres shows them: how many are still not acknowledged after a while. For a primary
 * that is about to be stopped: those that wait now are given a chance to be told their outcome; later ones have no claim.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { LocalSession } from './session.ts';

const POLL_MS = 20;

/** The agent's own tell nobody anything. */
const waitingSql = `select pg_catalog.concat(pid, ' ', xact_start) as id from pg_catalog.pg_stat_activity
  where wait_event = 'SyncRep' and backend_type = 'client backend' and application_name <> 'meridian agent'`;

/** Of those that wait at the call, how many still do after `withinMs`; returns as soon as none does. */
export async function commitsStillWaiting(session: Pick<LocalSession, 'query'>, withinMs: number): Promise<number> {
  const giveUpAt = performance.now() + withinMs;
  let left = await waitingCommits(session);
  while (left.size > 0 && performance.now() < giveUpAt) {
    await sleep(POLL_MS);
    const now = await waitingCommits(session);
    left = new Set([...left].filter((id) => now.has(id)));
  }
  return left.size;
}

/** Of these processes, which wait; of those that are frozen it stays so. */
export async function whichWait(session: Pick<LocalSession, 'query'>, pids: readonly number[]): Promise<number[]> {
  const rows = await session.query<{ pid: number }>(
    "select pid from pg_catalog.pg_stat_activity where wait_event = 'SyncRep'",
  );
  const waiting = new Set(rows.map(({ pid }) => pid));
  return pids.filter((pid) => waiting.has(pid));
}

async function waitingCommits(session: Pick<LocalSession, 'query'>): Promise<Set<string>> {
  const rows = await session.query<{ id: string }>(waitingSql);
  return new Set(rows.map(({ id }) => id));
}
