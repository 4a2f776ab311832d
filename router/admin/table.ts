/**
 * What SHOW answers with, as data: columns with their types in Postgres, and rows. The same definitions give the Prometheus metrics, so
 * that both have the same words.
 */
export type Cell = string | number | null;
export type ColumnType = 'text' | 'int4' | 'int8';

export interface Column {
  readonly name: string;
  readonly type: ColumnType;
  /** Of a metric: what it counts, and how. Without: it is none. */
  readonly metric?: 'gauge' | 'counter' | 'label';
  readonly help?: string;
}

export interface Table {
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly Cell[])[];
}

const text = (name: string): Column => ({ name, type: 'text' });
const label = (name: string): Column => ({ name, type: 'text', metric: 'label' });
const whole = (name: string): Column => ({ name, type: 'int4' });
const gauge = (name: string, help: string, type: ColumnType = 'int4'): Column => ({
  name,
  type,
  metric: 'gauge',
  help,
});
const total = (name: string, help: string): Column => ({
  name: `total_${name}`,
  type: 'int8',
  metric: 'counter',
  help,
});
const average = (name: string): Column => ({ name: `avg_${name}`, type: 'int8' });

export const poolColumns: readonly Column[] = [
  label('database'),
  label('user'),
  gauge('cl_active', 'Clients that have a connection of the pool'),
  gauge('cl_waiting', 'Clients that wait for a connection of the pool'),
  gauge('cl_active_cancel_req', 'Cancel requests passed on that the member has not answered yet'),
  gauge('cl_waiting_cancel_req', 'Cancel requests that have not been passed on yet'),
  gauge('sv_active', 'Connections that are lent to a client'),
  gauge('sv_active_cancel', 'Connections over which a cancel request is passed on'),
  gauge('sv_being_canceled', 'Connections that wait until a cancel request has surely arrived'),
  gauge('sv_idle', 'Connections that are free'),
  gauge('sv_used', 'Connections that were free for so long that they are looked at before use: none'),
  gauge('sv_tested', 'Connections that are cleaned between two clients'),
  gauge('sv_login', 'Connections that are being made'),
  gauge('maxwait', 'Seconds that the first in line has waited'),
  gauge('maxwait_us', 'Microseconds beyond them'),
  text('pool_mode'),
  text('load_balance_hosts'),
  label('shard'),
  label('member'),
  gauge('sv_shared', 'Connections that several clients share by pipelining'),
  gauge('sv_kept', 'Connections that a session keeps between its transactions'),
  gauge('pool_size', 'Connections that the pool may have'),
];

const socketColumns = (isClient: boolean): readonly Column[] => [
  text('type'),
  text('user'),
  text('database'),
  text('replication'),
  text('state'),
  text('addr'),
  whole('port'),
  text('local_addr'),
  whole('local_port'),
  text('connect_time'),
  text('request_time'),
  whole('wait'),
  whole('wait_us'),
  whole('close_needed'),
  text('ptr'),
  text('link'),
  whole('remote_pid'),
  text('tls'),
  text('application_name'),
  whole('prepared_statements'),
  text('id'),
  text('shard'),
  text('member'),
  text('tenant'),
  ...(isClient ? [text('consistency')] : [{ name: 'epoch', type: 'int8' } as const]),
];
export const clientColumns = socketColumns(true);
export const serverColumns = socketColumns(false);

const statWords: readonly (readonly [total: string, average: string, help: string])[] = [
  ['xact_count', 'xact_count', 'Transactions that ended'],
  ['query_count', 'query_count', 'Statements and batches sent to members'],
  ['server_assignment_count', 'server_assignment_count', 'Times that a client was lent a connection'],
  ['server_closed_count', 'server_closed_count', 'Connections to members that were closed'],
  ['received', 'recv', 'Bytes received from clients'],
  ['sent', 'sent', 'Bytes sent to clients'],
  ['xact_time', 'xact_time', 'Microseconds that connections were lent'],
  ['query_time', 'query_time', 'Microseconds that members worked on statements'],
  ['wait_time', 'wait_time', 'Microseconds that clients waited for a connection'],
  ['server_lifetime', 'server_lifetime', 'Microseconds that connections lasted which were closed'],
  ['client_parse_count', 'client_parse_count', 'Prepared statements that clients made'],
  ['server_parse_count', 'server_parse_count', 'Prepared statements that the router made at members'],
  ['bind_count', 'bind_count', 'Prepared statements that clients had run'],
];
export type Stat = (typeof statNames)[number];
export const statNames = [
  'xact_count',
  'query_count',
  'server_assignment_count',
  'server_closed_count',
  'received',
  'sent',
  'xact_time',
  'query_time',
  'wait_time',
  'server_lifetime',
  'client_parse_count',
  'server_parse_count',
  'bind_count',
] as const;
export const totalColumns = statWords.map(([name, , help]) => total(name, help));
export const averageColumns = statWords.map(([, name]) => average(name));
export const databaseColumn = label('database');

export const routeColumns: readonly Column[] = [
  text('shard'),
  { name: 'epoch', type: 'int8' },
  text('consistency'),
  whole('choice'),
  text('member'),
  text('region'),
  text('role'),
  text('state'),
  whole('waiting'),
];

export const tenantColumns: readonly Column[] = [
  text('tenant'),
  text('shard'),
  { name: 'epoch', type: 'int8' },
  text('state'),
  whole('cl_active'),
  whole('cl_waiting'),
  whole('sv_active'),
  whole('connections'),
  whole('transactions_in_flight'),
  whole('statements_per_second'),
  whole('statement_timeout_ms'),
];

export const memberColumns: readonly Column[] = [
  label('member'),
  label('shard'),
  label('region'),
  label('role'),
  text('addr'),
  whole('port'),
  { name: 'epoch', type: 'int8' },
  text('state'),
  gauge('reachable', '1: it could be reached the last time that a connection was made'),
  gauge('sv_active', 'Connections that are lent to a client'),
  gauge('sv_idle', 'Connections that are free'),
  gauge('sv_login', 'Connections that are being made'),
  gauge('cl_waiting', 'Clients that wait for a connection to it'),
];

export const databaseColumns: readonly Column[] = [
  text('name'),
  text('host'),
  whole('port'),
  text('database'),
  text('force_user'),
  whole('pool_size'),
  whole('min_pool_size'),
  whole('reserve_pool_size'),
  whole('server_lifetime'),
  text('pool_mode'),
  text('load_balance_hosts'),
  whole('max_connections'),
  whole('current_connections'),
  whole('max_client_connections'),
  whole('current_client_connections'),
  whole('paused'),
  whole('disabled'),
];

export const userColumns: readonly Column[] = [
  text('name'),
  whole('pool_size'),
  whole('reserve_pool_size'),
  text('pool_mode'),
  whole('max_user_connections'),
  whole('current_connections'),
  whole('max_user_client_connections'),
  whole('current_client_connections'),
  text('admin'),
];

export const listColumns: readonly Column[] = [text('list'), whole('items')];
export const configColumns: readonly Column[] = [text('key'), text('value'), text('default'), text('changeable')];
export const stateColumns: readonly Column[] = [text('key'), text('value')];
export const versionColumns: readonly Column[] = [text('version')];
