/**
 * Which functions may write or leave something behind: those that Postgres calls volatile, but for a few of its own that are volatile
 * only because they answer differently each time. Functions of applications are judged by their declared volatility alone.
 */

const harmlessBuiltins: ReadonlySet<string> = new Set([
  'clock_timestamp',
  'gen_random_uuid',
  'pg_current_wal_flush_lsn',
  'pg_current_wal_insert_lsn',
  'pg_current_wal_lsn',
  'pg_is_in_recovery',
  'pg_last_wal_receive_lsn',
  'pg_last_wal_replay_lsn',
  'pg_last_xact_replay_timestamp',
  'pg_sleep',
  'pg_sleep_for',
  'pg_sleep_until',
  'random',
  'random_normal',
  'timeofday',
]);

/** Unqualified names: statements rarely say the schema, so a name counts as volatile when any function of that name does. */
export function volatileNames(functions: readonly { readonly schema: string; readonly name: string }[]): Set<string> {
  return new Set(
    functions
      .filter(({ schema, name }) => schema !== 'pg_catalog' || !harmlessBuiltins.has(name))
      .map(({ name }) => name),
  );
}
