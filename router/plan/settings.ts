/**
 * Settings that a client may not change: those on which the tenants' separation, durability or the router's own reading of
 * SQL rest. For SET, for set_config(), and for start-up options. RESET goes back to what the server says, and is harmless.
 * Source: PostgreSQL documentation, "Server Configuration", "Client Connection Defaults".
 */
import type { Refusal } from './types.ts';

/** What of `meridian.*` clients may set; the router acts on them and Postgres never sees them so set. */
export const clientSettings: ReadonlySet<string> = new Set([
  'meridian.tenant',
  'meridian.consistency',
  'meridian.max_staleness',
  'meridian.causal_wait',
  'meridian.workflow',
  'meridian.token',
  'meridian.transaction',
]);

const durable: ReadonlySet<string> = new Set(['on', 'true', 'yes', '1', 't', 'y', 'remote_apply']);
const isOn = (value: string): boolean => ['on', 'true', 'yes', '1', 't', 'y'].includes(value.toLowerCase());
const isUtf8 = (value: string): boolean =>
  ['utf8', 'unicode'].includes(value.toLowerCase().replaceAll(/[^a-z0-9]/gi, ''));

const refused = (message: string, hint: string): Refusal => ({ sqlstate: '42501', message, hint });

/**
 * Why the setting may not have that value; undefined where it may. `value` undefined: not known before it runs.
 * The name is compared as Postgres does, without regard to case.
 */
export function guardSetting(name: string, value: string | undefined): Refusal | undefined {
  const setting = name.toLowerCase();
  switch (setting) {
    case 'role':
      if (value?.toLowerCase() === 'none') return undefined;
      return refused(
        'SET ROLE is not allowed',
        'Connect as the role that you want to be: a session keeps the rights of its login.',
      );
    case 'session_authorization':
      if (value?.toLowerCase() === 'default') return undefined;
      return refused('SET SESSION AUTHORIZATION is not allowed', 'Connect as the role that you want to be.');
    case 'session_replication_role':
      return refused(`"${setting}" may not be changed`, 'It would switch the ownership check of tenants off.');
    case 'row_security':
      if (value !== undefined && isOn(value)) return undefined;
      return refused(`"${setting}" may not be changed`, 'Row-level security keeps tenants apart.');
    case 'synchronous_commit':
      if (value !== undefined && durable.has(value.toLowerCase())) return undefined;
      return refused(
        '"synchronous_commit" may not be weakened',
        "What a commit waits for is the Shard's spec.durability; on and remote_apply are allowed.",
      );
    case 'standard_conforming_strings':
      if (value !== undefined && isOn(value)) return undefined;
      return refused(`"${setting}" must stay on`, "Write escapes as E'...'.");
    case 'client_encoding':
      if (value !== undefined && isUtf8(value)) return undefined;
      return { sqlstate: '0A000', message: 'the client encoding must be UTF8', hint: 'Set client_encoding to UTF8.' };
    default:
      break;
  }
  if (!setting.startsWith('meridian.') || clientSettings.has(setting)) return undefined;
  return refused(`unknown setting "${setting}"`, `Settings are ${[...clientSettings].join(', ')}.`);
}
