/**
 * How far this Postgres is, for routers that ask all the time: on a primary what it has flushed, on a follower what it has
 * replayed, with the epoch that its data shows. One look serves all who ask at about the same time, over a connection of its
 * own, and nobody waits for it long: an older look says when it began, which is all that makes it worth less.
 *
 * What a look says holds at any later time of the same Postgres, as lower bounds: replay doesn't go back while it runs (it may
 * after a restart, hence its start time), and the row of the epoch is read no later than the LSN.
 * Source: PostgreSQL documentation, "Recovery Information Functions", "System Information Functions" (pg_postmaster_start_time).
 */
import { bootTimeMs } from '#clock/boot-time.ts';
import { LocalSession } from './session.ts';

export interface PositionSeen {
  /** When the look began, or up to 10 ms before; on the boot-time clock, which a suspended machine doesn't stop. */
  readonly begunAt: number;
  readonly postmaster: string;
  readonly isRecovering: boolean;
  readonly epoch: number;
  readonly lsn: string;
  /** Of a primary: how far those who stream from it say that they have flushed, by the name that their agents gave them. */
  readonly flushed: ReadonlyMap<string, string>;
}

interface Row {
  postmaster: string;
  recovering: boolean;
  epoch: number;
  lsn: string;
  flushed: Record<string, string> | null;
}

/** A look that began this recently serves the next one who asks. */
const FRESH_MS = 30;
/** Nobody waits longer for one. */
const PATIENCE_MS = 50;
const LOOK_TIMEOUT_MS = 1_000;

/** One row: postmaster, recovering, epoch, lsn, flushed. */
export const positionSql = `
  select (extract(epoch from pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint::text as postmaster,
         pg_catalog.pg_is_in_recovery() as recovering,
         coalesce((select epoch from meridian.authority), 0)::int as epoch,
         (case when pg_catalog.pg_is_in_recovery() then coalesce(pg_catalog.pg_last_wal_replay_lsn(), '0/0')
               else pg_catalog.pg_current_wal_flush_lsn() end)::text as lsn,
         case when pg_catalog.pg_is_in_recovery() then null
              else (select pg_catalog.json_object_agg(application_name, flush_lsn::text)
                      from pg_catalog.pg_stat_replication where flush_lsn is not null) end as flushed`;

export class Positions {
  readonly #socketFolder: string;
  readonly #port: number;
  #session: LocalSession | undefined;
  #database = '';
  #last: PositionSeen | undefined;
  #running: Promise<void> | undefined;

  constructor(socketFolder: string, port: number) {
    this.#socketFolder = socketFolder;
    this.#port = port;
  }

  /** The newest there is, after waiting for a new one for a moment. Undefined before the first. */
  async latest(database: string): Promise<PositionSeen | undefined> {
    if (this.#last !== undefined && bootTimeMs() - this.#last.begunAt < FRESH_MS) return this.#last;
    this.#running ??= this.#look(database).finally(() => {
      this.#running = undefined;
    });
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, PATIENCE_MS);
    });
    await Promise.race([this.#running, patience]);
    clearTimeout(timer);
    return this.#last;
  }

  /** Postgres has gone. What was seen of it stays true of it. */
  async close(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    await session?.close();
  }

  async #look(database: string): Promise<void> {
    if (this.#session !== undefined && this.#database !== database) await this.close();
    this.#database = database;
    this.#session ??= new LocalSession(this.#socketFolder, this.#port, { database, queryTimeoutMs: LOOK_TIMEOUT_MS });
    const begunAt = bootTimeMs();
    // Before the first opening there is no such table, and Postgres may be down: then there is nothing new to say.
    const [row] = await this.#session.query<Row>(positionSql).catch(() => []);
    if (row === undefined) return;
    const { postmaster, recovering, epoch, lsn } = row;
    const flushed = new Map(Object.entries(row.flushed ?? {}));
    this.#last = { begunAt, postmaster, isRecovering: recovering, epoch, lsn, flushed };
  }
}
