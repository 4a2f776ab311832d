/**
 * What Postgres says about itself, in one round of short queries over the local session. Facts only; the status adds what
 * the agent knows. Works on a primary and on a standby.
 * Source: PostgreSQL documentation, "The Cumulative Statistics System" (pg_stat_replication, pg_stat_wal_receiver),
 * "Recovery Information Functions".
 */
import { lsnDistanceBytes, parseLsn, zeroLsn } from '#core/lsn.ts';
import type { LocalSession } from './session.ts';
import { anchorSlot } from './slots.ts';

export interface StandbySeen {
  readonly applicationName: string;
  readonly state: string;
  readonly flushed: string;
  readonly replayed: string;
  readonly lagBytes: number;
  readonly sync: string;
}

export interface PostgresSeen {
  readonly inRecovery: boolean;
  readonly version: string;
  readonly timeline: number;
  readonly written: string;
  readonly flushed: string;
  readonly replayed: string;
  readonly replayAgeMs: number | undefined;
  readonly pendingRestart: boolean;
  /** On a standby with a WAL receiver. */
  readonly receiver: { readonly isStreaming: boolean; readonly lagBytes: number } | undefined;
  readonly standbys: readonly StandbySeen[];
  readonly slots: readonly {
    readonly name: string;
    readonly active: boolean;
    readonly retainedBytes: number;
    readonly walStatus: string;
  }[];
}

interface PositionRow {
  inRecovery: boolean;
  version: string;
  timeline: number;
  written: string;
  flushed: string;
  replayed: string;
  replayAgeMs: string | null;
  pendingRestart: boolean;
  receiverStatus: string | null;
  receiverLatestEnd: string | null;
}

// The timeline: on a primary that of the WAL being written; on a standby that of the receiver or, without one, of the
// last restart point (the position that counts in a failover is found otherwise: docs/design-traps.md, A4).
// The replay age is 0 where everything received is replayed, as on an idle shard no commit comes along.
const positionSql = `
  select r.recovering as "inRecovery", current_setting('server_version') as version,
         case when r.recovering
              then coalesce(w.received_tli, (select timeline_id from pg_catalog.pg_control_checkpoint()))
              else ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int end as timeline,
         (case when r.recovering then coalesce(w.written_lsn, r.received, r.replayed) else pg_catalog.pg_current_wal_insert_lsn() end)::text as written,
         (case when r.recovering then greatest(r.received, r.replayed) else pg_catalog.pg_current_wal_flush_lsn() end)::text as flushed,
         (case when r.recovering then r.replayed else pg_catalog.pg_current_wal_flush_lsn() end)::text as replayed,
         case when r.recovering then
           case when r.received is null or r.replayed >= r.received then 0
                else extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) * 1000 end
         end::text as "replayAgeMs",
         exists (select from pg_catalog.pg_settings where pending_restart) as "pendingRestart",
         w.status as "receiverStatus", w.latest_end_lsn::text as "receiverLatestEnd"
    from (select pg_catalog.pg_is_in_recovery() as recovering,
                 pg_catalog.pg_last_wal_receive_lsn() as received,
                 coalesce(pg_catalog.pg_last_wal_replay_lsn(), '0/0') as replayed) r
    left join pg_catalog.pg_stat_wal_receiver w on true`;

const standbysSql = `
  select application_name as "applicationName", coalesce(state, '') as state,
         coalesce(flush_lsn, '0/0')::text as flushed, coalesce(replay_lsn, '0/0')::text as replayed,
         coalesce(sync_state, '') as sync,
         pg_catalog.pg_wal_lsn_diff(
           case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn() else pg_catalog.pg_current_wal_lsn() end,
           coalesce(replay_lsn, flush_lsn, '0/0'))::text as "lagBytes"
    from pg_catalog.pg_stat_replication`;

const slotsSql = `
  select slot_name as name, active, coalesce(wal_status, '') as "walStatus",
         coalesce(pg_catalog.pg_wal_lsn_diff(
           case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn() else pg_catalog.pg_current_wal_lsn() end,
           restart_lsn), 0)::text as "retainedBytes"
    from pg_catalog.pg_replication_slots where not temporary and slot_name <> '${anchorSlot}' order by slot_name`;

export async function observePostgres(session: LocalSession): Promise<PostgresSeen> {
  const [position] = await session.query<PositionRow>(positionSql);
  if (position === undefined) throw new Error('Postgres shows no position');
  const standbys = await session.query<Omit<StandbySeen, 'lagBytes'> & { lagBytes: string }>(standbysSql);
  const slots = await session.query<{ name: string; active: boolean; walStatus: string; retainedBytes: string }>(
    slotsSql,
  );
  const { receiverStatus, receiverLatestEnd, replayAgeMs, ...rest } = position;
  return {
    ...rest,
    replayAgeMs: replayAgeMs === null ? undefined : Math.max(0, Math.round(Number(replayAgeMs))),
    receiver: receiverOf(receiverStatus, receiverLatestEnd, position.replayed),
    standbys: standbys.map((standby) => ({ ...standby, lagBytes: Math.max(0, Number(standby.lagBytes)) })),
    slots: slots.map((slot) => ({ ...slot, retainedBytes: Math.max(0, Number(slot.retainedBytes)) })),
  };
}

/** Lag: from what this member has replayed to the end of WAL that its sender last told it. */
export function receiverOf(
  status: string | null,
  latestEnd: string | null,
  replayed: string,
): PostgresSeen['receiver'] {
  if (status === null) return undefined;
  const end = latestEnd === null ? zeroLsn : parseLsn(latestEnd);
  const lag = lsnDistanceBytes(parseLsn(replayed), end);
  return { isStreaming: status === 'streaming', lagBytes: lag > 0n ? Number(lag) : 0 };
}

/** Settings that Postgres refused at its last reload, as sentences. */
export async function refusedSettings(session: LocalSession): Promise<string[]> {
  const rows = await session.query<{ name: string; error: string }>(
    `select name, error from pg_catalog.pg_file_settings
      where error is not null and error <> 'setting could not be applied'`,
  );
  return rows.map(({ name, error }) => `parameter ${name}: ${error}`);
}
