/**
 * Which Postgres parameters hold: the agent's defaults, over them the Shard's, over them what the design fixes.
 * A fixed parameter that the Shard names is left out and reported; it is never silently overridden.
 * Pure. Whether Postgres accepts a value is found out by `validate.ts`.
 * Source: PostgreSQL documentation, "Server Configuration"; docs/design.md, section 4.
 */
import { type MemberIdentity, nobody, replicationName, slotName } from '#core/identity.ts';

/** What a Shard may change. Sizes are for small machines; whoever gives a member more memory says so in the Shard. */
export const defaultParameters: Readonly<Record<string, string>> = {
  max_connections: '200',
  max_locks_per_transaction: '64',
  superuser_reserved_connections: '10',
  shared_buffers: '64MB',
  max_wal_size: '1GB',
  checkpoint_timeout: '5min',
  checkpoint_completion_target: '0.9',
  // How much WAL an absent follower may hold back before its slot is given up: it bounds the disk (Postgres: "lost").
  max_slot_wal_keep_size: '2GB',
  wal_compression: 'lz4',
  // Finite: a follower's long query may not hold back replay, and with it causal reads, for ever.
  max_standby_streaming_delay: '30s',
  max_standby_archive_delay: '30s',
  random_page_cost: '1.1',
  log_min_messages: 'warning',
  log_checkpoints: 'off',
  log_lock_waits: 'on',
  timezone: 'UTC',
  log_timezone: 'UTC',
};

/** What the design's promises rest on; the same on every member, whatever its role. */
const alwaysFixed: Readonly<Record<string, string>> = {
  wal_level: 'logical',
  fsync: 'on',
  full_page_writes: 'on',
  synchronous_commit: 'on',
  // A crashed backend must not be followed by an in-place restart that Postgres opens by itself: the postmaster exits and
  // the agent starts it again, through the start gate and closed.
  restart_after_crash: 'off',
  hot_standby: 'on',
  hot_standby_feedback: 'on',
  sync_replication_slots: 'on',
  wal_log_hints: 'on',
  max_prepared_transactions: '200',
  max_worker_processes: '32',
  max_logical_replication_workers: '16',
  // For the largest membership (maxMembers in core/authority), copies and moves on top of it.
  max_wal_senders: '128',
  max_replication_slots: '96',
  track_commit_timestamp: 'on',
  // A slot admits one walsender and a half-dead one keeps it: noticed within 5 s (docs/design-traps.md, A20).
  wal_sender_timeout: '5s',
  wal_receiver_timeout: '5s',
  wal_receiver_status_interval: '1s',
  wal_retrieve_retry_interval: '100ms',
  // A move of the fork at promotion would follow from a restore command (docs/design-traps.md, B13).
  restore_command: '',
  archive_mode: 'off',
  recovery_target_timeline: 'latest',
  // The agent reads messages by SQLSTATE, people read them in one language (trap of section 4: ambiguity 21).
  lc_messages: 'C',
  allow_alter_system: 'off',
  // LLVM is not in the image; short statements gain nothing from it.
  jit: 'off',
  ssl: 'on',
  ssl_min_protocol_version: 'TLSv1.3',
  password_encryption: 'scram-sha-256',
  logging_collector: 'off',
  log_destination: 'stderr',
  log_line_prefix: 'postgres %m [%p] %q%u@%d ',
  listen_addresses: '*',
  unix_socket_permissions: '0700',
};

/** Named by the agent's own rendering (places, names, lists): a Shard can't set these either. */
const rendered = [
  'port',
  'unix_socket_directories',
  'data_directory',
  'config_file',
  'hba_file',
  'ident_file',
  'external_pid_file',
  'ssl_cert_file',
  'ssl_key_file',
  'ssl_ca_file',
  'cluster_name',
  'primary_conninfo',
  'primary_slot_name',
  'synchronous_standby_names',
  'include',
  'include_if_exists',
  'include_dir',
] as const;

const fixedNames: ReadonlySet<string> = new Set([...Object.keys(alwaysFixed), ...rendered]);
const nameForm = /^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$/;

export interface MergedParameters {
  readonly parameters: Readonly<Record<string, string>>;
  /** One sentence for each parameter of the Shard that was left out. */
  readonly problems: readonly string[];
}

export function mergeParameters(wanted: Readonly<Record<string, string>>): MergedParameters {
  const problems: string[] = [];
  const taken: Record<string, string> = {};
  for (const [given, value] of Object.entries(wanted)) {
    const name = given.toLowerCase();
    if (!nameForm.test(name)) problems.push(`parameter ${JSON.stringify(given)} has no valid name`);
    else if (fixedNames.has(name)) problems.push(`parameter ${name} is fixed by Meridian and can't be set`);
    else if (/[\n\r\0]/.test(value)) problems.push(`parameter ${name} has a line break in its value`);
    else taken[name] = value;
  }
  return { parameters: { ...defaultParameters, ...taken, ...alwaysFixed }, problems };
}

/** A standby may not have less than its primary had: `limits` are raised to, never lowered. */
export function atLeast(
  parameters: Readonly<Record<string, string>>,
  limits: Readonly<Record<string, number>>,
): Record<string, string> {
  const raised: Record<string, string> = { ...parameters };
  for (const [name, limit] of Object.entries(limits)) {
    if (!(Number(raised[name]) >= limit)) raised[name] = String(limit);
  }
  return raised;
}

/**
 * `synchronous_standby_names`. Never empty where k >= 1 (docs/design-traps.md, A9 c): an empty list would release every
 * waiting commit as if it had been acknowledged.
 */
export function synchronousStandbyNames(acknowledgements: number, members: readonly MemberIdentity[]): string {
  if (acknowledgements === 0) return '';
  const names = (members.length === 0 ? [nobody] : members).map((member) => `"${replicationName(member)}"`);
  return `ANY ${acknowledgements} (${names.join(', ')})`;
}

/** Where a follower's Postgres finds its WAL: its own agent's socket, which leads to the primary's agent. */
export function upstreamParameters(
  member: MemberIdentity,
  upstreamSockets: string,
  port: number,
  database: string,
  user: string,
): Readonly<Record<string, string>> {
  const words = {
    host: upstreamSockets,
    port: String(port),
    user,
    // Used by the slot synchronisation worker only; the WAL receiver names no database.
    dbname: database,
    application_name: replicationName(member),
    connect_timeout: '5',
  };
  return {
    primary_conninfo: Object.entries(words)
      .map(([name, value]) => `${name}='${value.replaceAll(/['\\]/g, String.raw`\$&`)}'`)
      .join(' '),
    primary_slot_name: slotName(member.incarnation),
  };
}
