/**
 * What no application may do through the router, by the parsed statement. A first line only: functions and DO get around
 * any gate, so that the same is taken away by privilege inside Postgres.
 */
import type { FuncCall, Node } from '@pgsql/types';
import { functionName } from './functions.ts';
import { constantKey } from './restriction/constants.ts';
import { guardSetting } from './settings.ts';
import type { Refusal } from './types.ts';

const forbidden = (message: string, hint: string): Refusal => ({ sqlstate: '42501', message, hint });

const asManifest = 'Databases, roles and schema are declared in the Keyspace; the operator makes them on every shard.';
const notYours = 'This concerns the server itself, which the operator runs.';

/** Statements by the name of their node. */
const statements: Readonly<Record<string, readonly [what: string, hint: string]>> = {
  AlterSystemStmt: ['ALTER SYSTEM', 'Settings are declared in the Shard (spec.postgres.parameters).'],
  LoadStmt: ['LOAD', notYours],
  CheckPointStmt: ['CHECKPOINT', notYours],
  CreateSubscriptionStmt: ['CREATE SUBSCRIPTION', notYours],
  AlterSubscriptionStmt: ['ALTER SUBSCRIPTION', notYours],
  DropSubscriptionStmt: ['DROP SUBSCRIPTION', notYours],
  CreatePublicationStmt: ['CREATE PUBLICATION', notYours],
  AlterPublicationStmt: ['ALTER PUBLICATION', notYours],
  CreateForeignServerStmt: ['CREATE SERVER', notYours],
  AlterForeignServerStmt: ['ALTER SERVER', notYours],
  CreateForeignTableStmt: ['CREATE FOREIGN TABLE', notYours],
  ImportForeignSchemaStmt: ['IMPORT FOREIGN SCHEMA', notYours],
  CreateFdwStmt: ['CREATE FOREIGN DATA WRAPPER', notYours],
  AlterFdwStmt: ['ALTER FOREIGN DATA WRAPPER', notYours],
  CreateUserMappingStmt: ['CREATE USER MAPPING', notYours],
  AlterUserMappingStmt: ['ALTER USER MAPPING', notYours],
  DropUserMappingStmt: ['DROP USER MAPPING', notYours],
  CreateTableSpaceStmt: ['CREATE TABLESPACE', notYours],
  AlterTableSpaceOptionsStmt: ['ALTER TABLESPACE', notYours],
  DropTableSpaceStmt: ['DROP TABLESPACE', notYours],
  CreateEventTrigStmt: ['CREATE EVENT TRIGGER', notYours],
  AlterEventTrigStmt: ['ALTER EVENT TRIGGER', notYours],
  CreatePLangStmt: ['CREATE LANGUAGE', asManifest],
  CreateExtensionStmt: ['CREATE EXTENSION', asManifest],
  AlterExtensionStmt: ['ALTER EXTENSION', asManifest],
  AlterExtensionContentsStmt: ['ALTER EXTENSION', asManifest],
  CreatedbStmt: ['CREATE DATABASE', asManifest],
  AlterDatabaseStmt: ['ALTER DATABASE', asManifest],
  AlterDatabaseSetStmt: ['ALTER DATABASE', asManifest],
  AlterDatabaseRefreshCollStmt: ['ALTER DATABASE', asManifest],
  DropdbStmt: ['DROP DATABASE', asManifest],
  CreateRoleStmt: ['CREATE ROLE', asManifest],
  AlterRoleStmt: ['ALTER ROLE', asManifest],
  AlterRoleSetStmt: ['ALTER ROLE', asManifest],
  DropRoleStmt: ['DROP ROLE', asManifest],
  GrantRoleStmt: ['GRANT of a role', asManifest],
  DropOwnedStmt: ['DROP OWNED', asManifest],
  ReassignOwnedStmt: ['REASSIGN OWNED', asManifest],
};

/** Statements that bring code, or settings under which code runs. */
const withCode: ReadonlySet<string> = new Set(['DoStmt', 'CreateFunctionStmt', 'AlterFunctionStmt']);

const otherSessions =
  'A session may not end or cancel others. Close the connection, or use the cancel request of your driver.';

const functions: ReadonlyMap<string, string> = new Map(
  Object.entries({
    pg_terminate_backend: otherSessions,
    pg_cancel_backend: otherSessions,
    pg_notify:
      'Channels are each tenant’s own: use NOTIFY, or meridian.notify(channel, payload) in functions and triggers.',
    pg_reload_conf: notYours,
    pg_rotate_logfile: notYours,
    pg_promote: notYours,
    pg_switch_wal: notYours,
    pg_create_restore_point: notYours,
    pg_backup_start: notYours,
    pg_backup_stop: notYours,
    pg_wal_replay_pause: notYours,
    pg_wal_replay_resume: notYours,
    pg_create_physical_replication_slot: notYours,
    pg_create_logical_replication_slot: notYours,
    pg_drop_replication_slot: notYours,
    pg_replication_slot_advance: notYours,
    pg_replication_origin_create: notYours,
    pg_replication_origin_drop: notYours,
    pg_replication_origin_session_setup: notYours,
    pg_logical_emit_message: notYours,
    pg_logical_slot_get_changes: notYours,
    pg_logical_slot_peek_changes: notYours,
    pg_read_file: notYours,
    pg_read_binary_file: notYours,
    pg_ls_dir: notYours,
    pg_stat_file: notYours,
    lo_import: notYours,
    lo_export: notYours,
  }),
);

/** From SHARE on a lock keeps everybody from writing (ShareLock of storage/lockdefs.h; "Explicit Locking"). */
const shareLock = 5;

/** Why the statement, or anything that it calls or writes to, is refused; undefined where it isn't. `systemTarget`: a system relation. */
export function refusalOf(
  statement: Node,
  calls: readonly FuncCall[],
  systemTarget: string | undefined,
): Refusal | undefined {
  const [kind = ''] = Object.keys(statement);
  const known = statements[kind];
  if (known !== undefined) return forbidden(`${known[0]} is not allowed`, known[1]);
  // An UPDATE of pg_settings is a SET by another name ("pg_settings").
  if (systemTarget !== undefined)
    return forbidden(
      `writing to "${systemTarget}" is not allowed`,
      'Use SET for settings; all else is the server’s own.',
    );
  // Code inside is not parsed: a first line only, against what is written plainly.
  if (withCode.has(kind) && /synchronous_commit/i.test(JSON.stringify(statement)))
    return guardSetting('synchronous_commit', undefined);
  return (
    ofStatement(statement) ?? calls.map((call) => ofCall(call, statement)).find((refusal) => refusal !== undefined)
  );
}

function ofStatement(statement: Node): Refusal | undefined {
  if ('CopyStmt' in statement) {
    if (statement.CopyStmt.is_program === true)
      return forbidden('COPY with a program is not allowed', 'Use COPY ... TO STDOUT, or \\copy in psql.');
    if (statement.CopyStmt.filename !== undefined)
      return forbidden('COPY with a file of the server is not allowed', 'Use COPY ... TO STDOUT, or \\copy in psql.');
  }
  if ('TransactionStmt' in statement && /PREPARE/.test(statement.TransactionStmt.kind ?? ''))
    return {
      sqlstate: '0A000',
      message: 'two-phase commit by clients is not supported',
      hint: 'A prepared transaction would hold its locks while nobody may be there to end it.',
    };
  if (
    'DropStmt' in statement &&
    /FOREIGN|SUBSCRIPTION|PUBLICATION|EXTENSION|EVENT_TRIGGER/.test(statement.DropStmt.removeType ?? '')
  )
    return forbidden('DROP of this kind of object is not allowed', asManifest);
  if ('LockStmt' in statement && (statement.LockStmt.mode ?? 0) >= shareLock)
    return forbidden(
      'LOCK TABLE in this mode is not allowed',
      'It would stop all tenants of the shard: lock rows (SELECT ... FOR UPDATE), or take an advisory lock with the tenant in its key.',
    );
  if ('VariableSetStmt' in statement) return ofSetting(statement);
  return undefined;
}

function ofSetting({ VariableSetStmt: set }: Extract<Node, { VariableSetStmt: unknown }>): Refusal | undefined {
  if (set.kind !== 'VAR_SET_VALUE' && set.kind !== 'VAR_SET_CURRENT') return undefined;
  const [argument] = set.args ?? [];
  return guardSetting(set.name ?? '', constantText(argument));
}

/** Names of the settings that set_config() leaves set after the transaction, in lower case. */
export const configuredBy = (calls: readonly FuncCall[], statement: Node): readonly string[] => [
  ...new Set(
    calls.flatMap((call) => {
      if (functionName(call) !== 'set_config') return [];
      const isLocal = call.args?.[2];
      return constantText(isLocal) === 'true' ? [] : [settingOf(call, statement)?.toLowerCase() ?? ''];
    }),
  ),
];

/** set_config('name', 'value', is_local). */
function ofCall(call: FuncCall, statement: Node): Refusal | undefined {
  const name = functionName(call);
  if (name === 'set_config') {
    const value = call.args?.[1];
    const settingName = settingOf(call, statement);
    if (settingName === undefined)
      return forbidden(
        'set_config() is allowed with a constant name only',
        'Use SET, or write the name as a constant.',
      );
    if (settingName.toLowerCase().startsWith('meridian.'))
      return forbidden(`set_config() may not change "${settingName}"`, `Use SET ${settingName} = ... instead.`);
    return guardSetting(settingName, constantText(value));
  }
  const hint = functions.get(name);
  return hint === undefined ? undefined : forbidden(`${name}() is not allowed`, hint);
}

/** The setting that set_config() names: a constant, or the column that a query of pg_settings restricts to one, as pg_dump writes it. */
function settingOf(call: FuncCall, statement: Node): string | undefined {
  const [setting] = call.args ?? [];
  const constant = constantText(setting);
  if (constant !== undefined || !('SelectStmt' in statement) || !isNameColumn(setting)) return constant;
  const { fromClause, whereClause, op, targetList } = statement.SelectStmt;
  // In the list itself: within a subquery `name` could be another's.
  const isListed = targetList?.some(
    (one) =>
      'ResTarget' in one &&
      one.ResTarget.val !== undefined &&
      'FuncCall' in one.ResTarget.val &&
      one.ResTarget.val.FuncCall === call,
  );
  if (isListed !== true) return undefined;
  const [from, ...others] = fromClause ?? [];
  if (op !== 'SETOP_NONE' || others.length > 0 || from === undefined || !('RangeVar' in from)) return undefined;
  if (from.RangeVar.relname !== 'pg_settings' || whereClause === undefined || !('A_Expr' in whereClause))
    return undefined;
  const { kind, name, lexpr, rexpr } = whereClause.A_Expr;
  const [operator, ...qualified] = name ?? [];
  const isEquality =
    kind === 'AEXPR_OP' &&
    qualified.length === 0 &&
    operator !== undefined &&
    'String' in operator &&
    operator.String.sval === '=';
  return isEquality && isNameColumn(lexpr) ? constantText(rexpr) : undefined;
}

function isNameColumn(node: Node | undefined): boolean {
  if (node === undefined || !('ColumnRef' in node)) return false;
  const [field, ...more] = node.ColumnRef.fields ?? [];
  return more.length === 0 && field !== undefined && 'String' in field && field.String.sval === 'name';
}

/** The text of a constant: a value as SET takes it. Booleans come as text there. */
export function constantText(node: Node | undefined): string | undefined {
  return constantKey(node)?.values[0];
}
