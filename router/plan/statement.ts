/**
 * What kind of statement a parsed one is, with the details that the session needs (which setting, which savepoint ...).
 * Which tenants it is restricted to is found in `restriction/`; what may not be run at all in `gate.ts`.
 */
import type { CopyStmt, CreateStmt, Node } from '@pgsql/types';
import { constantText } from './gate.ts';
import type { CopySource, StatementKind, StatementPlan, TransactionVerb } from './types.ts';

type Details = Pick<
  StatementPlan,
  | 'transaction'
  | 'set'
  | 'show'
  | 'reset'
  | 'discard'
  | 'prepared'
  | 'copy'
  | 'channel'
  | 'payload'
  | 'hold'
  | 'temporary'
  | 'dropsAtCommit'
>;

export interface Described {
  readonly kind: StatementKind;
  readonly details: Details;
  /** The SELECT, INSERT, UPDATE, DELETE or MERGE that decides about tenant and access; undefined where there is none. */
  readonly query?: Node | undefined;
}

const verbs: Readonly<Record<string, TransactionVerb>> = {
  TRANS_STMT_BEGIN: 'begin',
  TRANS_STMT_START: 'begin',
  TRANS_STMT_COMMIT: 'commit',
  TRANS_STMT_ROLLBACK: 'rollback',
  TRANS_STMT_SAVEPOINT: 'savepoint',
  TRANS_STMT_RELEASE: 'release',
  TRANS_STMT_ROLLBACK_TO: 'rollback-to',
  TRANS_STMT_PREPARE: 'prepare',
  TRANS_STMT_COMMIT_PREPARED: 'commit-prepared',
  TRANS_STMT_ROLLBACK_PREPARED: 'rollback-prepared',
};

/** CURSOR_OPT_HOLD of nodes/parsenodes.h. */
const cursorOptHold = 0x0020;

export function describe(statement: Node): Described {
  const plain = (kind: StatementKind, details: Details = {}): Described => ({ kind, details });
  if ('SelectStmt' in statement) {
    const isTemporary = statement.SelectStmt.intoClause?.rel?.relpersistence === 't';
    return { kind: 'select', details: isTemporary ? { temporary: true } : {}, query: statement };
  }
  if ('InsertStmt' in statement) return { kind: 'insert', details: {}, query: statement };
  if ('UpdateStmt' in statement) return { kind: 'update', details: {}, query: statement };
  if ('DeleteStmt' in statement) return { kind: 'delete', details: {}, query: statement };
  if ('MergeStmt' in statement) return { kind: 'merge', details: {}, query: statement };
  if ('ExplainStmt' in statement) return { ...nested(statement.ExplainStmt.query), kind: 'explain', details: {} };
  if ('TransactionStmt' in statement) return plain('transaction', transaction(statement));
  if ('VariableSetStmt' in statement) return setting(statement);
  if ('VariableShowStmt' in statement)
    return plain('show', { show: { name: statement.VariableShowStmt.name?.toLowerCase() ?? '' } });
  if ('DiscardStmt' in statement)
    return plain('discard', {
      discard: { what: (statement.DiscardStmt.target ?? 'DISCARD_ALL').slice('DISCARD_'.length).toLowerCase() },
    });
  if ('PrepareStmt' in statement) {
    const { name = '', query } = statement.PrepareStmt;
    return { ...nested(query), kind: 'prepare', details: { prepared: { name } } };
  }
  if ('ExecuteStmt' in statement) return plain('execute', { prepared: { name: statement.ExecuteStmt.name ?? '' } });
  if ('DeallocateStmt' in statement) {
    const { name } = statement.DeallocateStmt;
    return plain('deallocate', { prepared: name === undefined ? {} : { name } });
  }
  if ('DeclareCursorStmt' in statement) {
    const { query, options = 0 } = statement.DeclareCursorStmt;
    return { ...nested(query), kind: 'declare', details: (options & cursorOptHold) === 0 ? {} : { hold: true } };
  }
  if ('CopyStmt' in statement) {
    const { query, is_from } = statement.CopyStmt;
    if (is_from === true) return plain('copy', { copy: { direction: 'in', from: copySource(statement.CopyStmt) } });
    return { ...nested(query), kind: 'copy', details: { copy: { direction: 'out' } } };
  }
  if ('CreateStmt' in statement) return plain('utility', table(statement.CreateStmt));
  if ('ViewStmt' in statement) return plain('utility', temporary(statement.ViewStmt.view?.relpersistence));
  if ('CreateSeqStmt' in statement)
    return plain('utility', temporary(statement.CreateSeqStmt.sequence?.relpersistence));
  if ('CreateTableAsStmt' in statement) {
    const { query, into } = statement.CreateTableAsStmt;
    return { ...nested(query), kind: 'utility', details: temporary(into?.rel?.relpersistence) };
  }
  if ('FetchStmt' in statement) return plain('fetch');
  if ('ClosePortalStmt' in statement) return plain('close');
  if ('ListenStmt' in statement) return plain('listen', { channel: statement.ListenStmt.conditionname ?? '' });
  if ('UnlistenStmt' in statement) {
    const { conditionname } = statement.UnlistenStmt;
    return plain('unlisten', conditionname === undefined ? {} : { channel: conditionname });
  }
  if ('NotifyStmt' in statement) {
    const { conditionname = '', payload = '' } = statement.NotifyStmt;
    return plain('notify', { channel: conditionname, payload });
  }
  if ('CallStmt' in statement) return plain('call');
  if ('DoStmt' in statement) return plain('do');
  return plain('utility');
}

const temporary = (persistence: string | undefined): Details => (persistence === 't' ? { temporary: true } : {});

function table({ relation, oncommit }: CreateStmt): Details {
  const isTemporary = relation?.relpersistence === 't' || relation?.schemaname === 'pg_temp';
  if (!isTemporary) return {};
  return { temporary: true, ...(oncommit === 'ONCOMMIT_DROP' && { dropsAtCommit: true }) };
}

function copySource({ relation, attlist, options = [], whereClause }: CopyStmt): CopySource {
  const columns = attlist?.map(textOf);
  const given = options.flatMap((node) => ('DefElem' in node ? [node.DefElem] : []));
  return {
    ...(relation?.schemaname !== undefined && { schema: relation.schemaname }),
    table: relation?.relname ?? '',
    ...(columns !== undefined && { columns }),
    options: Object.fromEntries(given.map(({ defname = '', arg }) => [defname.toLowerCase(), valueOf(arg)])),
    hasCondition: whereClause !== undefined,
  };
}

function valueOf(node: Node | undefined): string | readonly string[] {
  if (node === undefined) return '';
  if ('List' in node) return (node.List.items ?? []).map(textOf);
  if ('A_Star' in node) return ['*'];
  return textOf(node);
}

function textOf(node: Node): string {
  if ('String' in node) return node.String.sval ?? '';
  if ('Integer' in node) return String(node.Integer.ival ?? 0);
  if ('Boolean' in node) return String(node.Boolean.boolval ?? false);
  return '';
}

/** The query within EXPLAIN, PREPARE, DECLARE, COPY or CREATE TABLE AS; EXPLAIN may hold another of these. */
function nested(query: Node | undefined): { readonly query: Node | undefined } {
  return { query: query === undefined ? undefined : describe(query).query };
}

function transaction({ TransactionStmt: statement }: Extract<Node, { TransactionStmt: unknown }>): Details {
  const verb = verbs[statement.kind ?? ''] ?? 'begin';
  const options = (statement.options ?? []).flatMap((node) => ('DefElem' in node ? [node.DefElem] : []));
  const readOnly = options.findLast(({ defname }) => defname === 'transaction_read_only')?.arg;
  return {
    transaction: {
      verb,
      ...(readOnly !== undefined && { readOnly: isTrue(readOnly) }),
      ...(statement.savepoint_name !== undefined && { name: statement.savepoint_name }),
      ...(statement.chain === true && { chain: true }),
    },
  };
}

const isTrue = (node: Node): boolean => 'A_Const' in node && (node.A_Const.ival?.ival ?? 0) !== 0;

function setting({ VariableSetStmt: statement }: Extract<Node, { VariableSetStmt: unknown }>): Described {
  const name = statement.name?.toLowerCase() ?? '';
  if (statement.kind === 'VAR_RESET_ALL') return { kind: 'reset', details: { reset: { name: 'all' } } };
  if (statement.kind === 'VAR_RESET') return { kind: 'reset', details: { reset: { name } } };
  const args = statement.args ?? [];
  const value = args.length === 1 ? constantText(args[0]) : undefined;
  return {
    kind: 'set',
    details: {
      set: {
        name,
        ...(value !== undefined && { value }),
        local: statement.is_local === true,
        ...(statement.kind === 'VAR_SET_DEFAULT' && { toDefault: true }),
      },
    },
  };
}
