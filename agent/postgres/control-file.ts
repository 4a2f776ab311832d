/**
 * What `pg_controldata` says of a data directory, as far as the agent goes by it. Pure; running the program is
 * `DataDirectory`'s. Text of the program is read in the C locale, where it doesn't vary.
 * Source: PostgreSQL documentation, "pg_controldata"; src/include/catalog/pg_control.h.
 */
import { type Lsn, parseLsn } from '#core/lsn.ts';

export interface ControlFile {
  readonly systemIdentifier: string;
  /** In Postgres' words: `shut down`, `shut down in recovery`, `in archive recovery`, `in production`, ... */
  readonly state: string;
  readonly checkpoint: Lsn;
  readonly redo: Lsn;
  readonly checkpointTimeline: number;
  /** Zero where no recovery has to be reached. */
  readonly minRecovery: Lsn;
  readonly minRecoveryTimeline: number;
  readonly segmentBytes: bigint;
  /**
   * What the primary had of the parameters that a standby may not have less of: replay stops otherwise.
   * Source: PostgreSQL documentation, "Hot Standby", "Administrator's Overview".
   */
  readonly limits: Readonly<Record<string, number>>;
}

const limitsShown = [
  ['max_connections', 'max_connections'],
  ['max_worker_processes', 'max_worker_processes'],
  ['max_wal_senders', 'max_wal_senders'],
  ['max_prepared_xacts', 'max_prepared_transactions'],
  ['max_locks_per_xact', 'max_locks_per_transaction'],
] as const;

/** @throws Error when something that is relied on isn't shown. */
export function readControlFile(text: string): ControlFile {
  const shown = new Map(
    text.split('\n').map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon), line.slice(colon + 1).trim()] as const;
    }),
  );
  const wanted = (name: string): string => {
    const value = shown.get(name);
    if (value === undefined) throw new Error(`pg_controldata shows no "${name}"`);
    return value;
  };
  const limits: Record<string, number> = {};
  for (const [name, parameter] of limitsShown) {
    const value = Number(shown.get(`${name} setting`));
    if (Number.isInteger(value)) limits[parameter] = value;
  }
  return {
    systemIdentifier: wanted('Database system identifier'),
    state: wanted('Database cluster state'),
    checkpoint: parseLsn(wanted('Latest checkpoint location')),
    redo: parseLsn(wanted("Latest checkpoint's REDO location")),
    checkpointTimeline: Number(wanted("Latest checkpoint's TimeLineID")),
    minRecovery: parseLsn(wanted('Minimum recovery ending location')),
    minRecoveryTimeline: Number(wanted("Min recovery ending loc's timeline")),
    segmentBytes: BigInt(wanted('Bytes per WAL segment')),
    limits,
  };
}

/** The timeline that the data is on for certain; what lies in pg_wal may go on to a later one. */
export const timelineOfControl = (control: ControlFile): number =>
  Math.max(control.checkpointTimeline, control.minRecoveryTimeline);
