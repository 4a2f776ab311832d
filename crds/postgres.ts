/**
 * Which Postgres a shard runs, and which of its settings people may change.
 * Settings on which authority, replication, ownership or access rest are Meridian's own and are refused here; the agent
 * writes them. What a value means, and whether Postgres takes it, only Postgres can say (a condition tells).
 */
import { z } from 'zod';
import { immutable, ruled } from './rule.ts';

export const postgresVersions = ['17', '18'] as const;

/** Settings that the agent alone writes. Source: PostgreSQL documentation, "Server Configuration". */
export const ownedParameters = [
  'allow_alter_system',
  'archive_cleanup_command',
  'archive_command',
  'archive_library',
  'archive_mode',
  'cluster_name',
  'config_file',
  'data_directory',
  'external_pid_file',
  'fsync',
  'full_page_writes',
  'hba_file',
  'hot_standby',
  'hot_standby_feedback',
  'ident_file',
  'include',
  'include_dir',
  'include_if_exists',
  'lc_messages',
  'listen_addresses',
  'log_destination',
  'logging_collector',
  'password_encryption',
  'port',
  'primary_conninfo',
  'primary_slot_name',
  'promote_trigger_file',
  'recovery_end_command',
  'recovery_target',
  'recovery_target_action',
  'recovery_target_inclusive',
  'recovery_target_lsn',
  'recovery_target_name',
  'recovery_target_time',
  'recovery_target_timeline',
  'recovery_target_xid',
  'restart_after_crash',
  'restore_command',
  'row_security',
  'session_replication_role',
  'sync_replication_slots',
  'synchronized_standby_slots',
  'synchronous_commit',
  'synchronous_standby_names',
  'unix_socket_directories',
  'unix_socket_group',
  'unix_socket_permissions',
  'wal_level',
  'wal_log_hints',
  'zero_damaged_pages',
] as const;

const owned: ReadonlySet<string> = new Set(ownedParameters);
const nameForm = /^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$/;

/** Whole groups that are Meridian's: TLS, and its own settings. */
const isOwned = (name: string): boolean => owned.has(name) || name.startsWith('ssl') || name.startsWith('meridian.');

export const parameters = ruled(
  z.record(z.string(), z.string().max(1024)).meta({ maxProperties: 100 }),
  {
    cel: `self.all(name, name.size() <= 63 && name.matches('${nameForm.source.replaceAll('\\', '\\\\')}'))`,
    message: 'the name of a setting is lower-case letters, digits and _, 63 characters at most, such as work_mem',
    holds: (settings) => Object.keys(settings).every((name) => name.length <= 63 && nameForm.test(name)),
  },
  {
    cel: `self.all(name, !(name in [${ownedParameters.map((name) => `'${name}'`).join(', ')}]) && !name.startsWith('ssl') && !name.startsWith('meridian.'))`,
    message:
      "one of these settings is Meridian's own, since authority, replication, ownership or access rest on it: take it out (docs/resources.md lists them)",
    holds: (settings) => !Object.keys(settings).some(isOwned),
  },
);

export const postgres = z.strictObject({
  version: ruled(
    z.enum(postgresVersions),
    immutable('spec.postgres.version', 'make a new Shard with the other version and move its tenants'),
  )
    .default('17')
    .describe('The major version of Postgres: 17 or 18. Can not be changed. Default: 17.'),
  image: z
    .string()
    .min(1)
    .max(512)
    .regex(/^[a-z0-9][A-Za-z0-9._:/@-]*$/)
    .optional()
    .describe("The image of the members' pods. Left out: the operator's own for this version."),
  parameters: parameters
    .default({})
    .describe(
      "Settings for postgresql.conf, such as work_mem: '16MB'; names in lower case, values as text, 100 at most. A change " +
        'is rolled out, followers first. Those that Meridian itself rests on (wal_level, synchronous_commit, ssl, ...) are ' +
        'refused. Default: none.',
    ),
});
