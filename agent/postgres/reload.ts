/**
 * A reload of the configuration that is seen to have happened. The postmaster tells its children after it has read the files
 * itself: once a session has them, so has every new one. Each walsender follows by itself, later (docs/design-traps.md, A9).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { LocalSession } from './session.ts';

const RELOAD_SEEN_MS = 3_000;
const POLL_MS = 20;

/** @param reload Signals the postmaster. @throws when it wasn't done in time. */
export async function reloadAndSee(session: Pick<LocalSession, 'query'>, reload: () => void): Promise<void> {
  const before = await loadedAt(session);
  reload();
  const giveUpAt = performance.now() + RELOAD_SEEN_MS;
  while ((await loadedAt(session)) === before) {
    if (performance.now() > giveUpAt) throw new Error('Postgres did not read its changed configuration');
    await sleep(POLL_MS);
  }
}

async function loadedAt(session: Pick<LocalSession, 'query'>): Promise<string> {
  const [row] = await session.query<{ at: string }>('select pg_catalog.pg_conf_load_time()::text as at');
  return row?.at ?? '';
}
