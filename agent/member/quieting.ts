/**
 * What comes before a primary is shut down in order. A commit that waits for its followers is made visible by the end of its
 * session (Postgres: syncrep.c, "terminating connection due to administrator command"), so nobody may be there to see it: the
 * door is shut, who waits gets a moment to be told its outcome, and then all clients are frozen, to wake with their end
 * before them (docs/design-traps.md, ambiguity 23).
 * A crash shows nothing, and the opening gate of the next start covers what is in the log: that is what everything else comes
 * to, where followers don't answer as well as where any of this fails.
 */
import type { AgentConfiguration } from '#agent/configuration.ts';
import type { Logger } from '#agent/log.ts';
import { freezeClients } from '#agent/postgres/client-processes.ts';
import { assertDoorIsClosed } from '#agent/postgres/probe.ts';
import { reloadAndSee } from '#agent/postgres/reload.ts';
import { LocalSession } from '#agent/postgres/session.ts';
import { commitsStillWaiting, whichWait } from '#agent/postgres/waiting-commits.ts';

export interface QuietPostgres {
  readonly mayBeFast: boolean;
  /** Stopped, and to be woken by whoever ends them: those whose commits wait only when the others have gone. */
  readonly frozen: readonly (readonly number[])[];
}

export interface QuietingOptions {
  readonly configuration: Pick<AgentConfiguration, 'paths' | 'ports'>;
  readonly postmaster: number;
  /** The closed access file on disk, and no other after it. */
  readonly shutDoor: () => Promise<void>;
  readonly reload: () => void;
  /** Where followers don't answer: shut down in order all the same, or at once. */
  readonly ifCommitsWait: 'fast' | 'immediate';
  readonly log: Pick<Logger, 'warn'>;
}

/** Less than a lease is long: followers that have it answer within that, or not at all. */
const COMMITS_AWAITED_MS = 1_000;

export async function quieten(options: QuietingOptions): Promise<QuietPostgres> {
  const { configuration, postmaster, shutDoor, reload, ifCommitsWait, log } = options;
  const { paths, ports } = configuration;
  // Its own: what the agent has asked last may take long.
  const session = new LocalSession(paths.postgresSockets, ports.postgres);
  try {
    await shutDoor();
    await reloadAndSee(session, reload);
    await assertDoorIsClosed(ports.postgres);
    const waiting = await commitsStillWaiting(session, COMMITS_AWAITED_MS);
    if (waiting > 0) log.warn({ waiting, ifCommitsWait }, 'commits wait for followers that do not answer');
    if (waiting > 0 && ifCommitsWait === 'immediate') return { mayBeFast: false, frozen: [] };
    const clients = await freezeClients(session, postmaster);
    const waiters = await whichWait(session, clients);
    return { mayBeFast: true, frozen: [clients.filter((pid) => !waiters.includes(pid)), waiters] };
  } catch (error) {
    log.warn({ err: error }, 'not stopped in order: who is connected could not be kept from seeing what waits');
    return { mayBeFast: false, frozen: [] };
  } finally {
    void session.close();
  }
}
