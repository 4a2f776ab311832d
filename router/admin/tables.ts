/**
 * The answers of SHOW, out of the views of all workers and the map: pure. Columns are PgBouncer's, in its order, and ours behind them.
 * What PgBouncer has and a router has not is 0, or null where it isn't known.
 */
import { chooseMembers } from '../exec/member-choice.ts';
import { adminRightOf, type ClusterMap, consistencyLevels } from '../map/map.ts';
import { shows } from './command.ts';
import type { Cell, Table } from './table.ts';
import * as table from './table.ts';
import { type PoolView, type SocketView, type Stats, sumOfStats, type WorkerView } from './view.ts';

export interface ShowInput {
  readonly map: ClusterMap;
  readonly region: string;
  readonly views: readonly WorkerView[];
  /** How a member is, by this worker's own knowledge: its lease, or that it comes or goes. */
  readonly stateOf: (member: string) => 'open' | 'serving' | 'closed';
  readonly admins: number;
  readonly settings: readonly (readonly [key: string, value: string, byDefault: string])[];
  readonly version: string;
}

export const poolMode = 'transaction';

export function poolsTable({ map, views }: ShowInput): Table {
  const pools = new Map<string, PoolView>();
  for (const pool of views.flatMap((view) => view.pools)) {
    const key = `${pool.user}\0${pool.member}`;
    const before = pools.get(key);
    pools.set(key, before === undefined ? pool : sumOfPools(before, pool));
  }
  const rows = [...pools.values()].toSorted(byUserAndMember).map((pool): Cell[] => {
    const shard = map.members.get(pool.member)?.shard ?? '';
    const { clActive, clWaiting, active, beingCanceled, idle, tested, login, shared, kept, size } = pool;
    const canceling = [0, 0, active, 0, beingCanceled];
    const wait = timeOf(pool.maxWaitMs);
    const ours = [shard, pool.member, shared, kept, size];
    return [
      map.keyspace.database,
      pool.user,
      clActive,
      clWaiting,
      ...canceling,
      idle,
      0,
      tested,
      login,
      ...wait,
      poolMode,
      null,
      ...ours,
    ];
  });
  return { columns: table.poolColumns, rows };
}

export function clientsTable({ map, views }: ShowInput): Table {
  const rows = views
    .flatMap(({ sockets }) => sockets?.clients ?? [])
    .map((view) => socketRow('C', map, view, view.consistency));
  return { columns: table.clientColumns, rows };
}

export function serversTable({ map, views }: ShowInput): Table {
  const rows = views
    .flatMap(({ sockets }) => sockets?.servers ?? [])
    .map((view) => socketRow('S', map, view, view.epoch));
  return { columns: table.serverColumns, rows };
}

/** `part`: the columns that are wanted. */
export function statsTable({ map, views }: ShowInput, part: 'all' | 'totals' | 'averages'): Table {
  const database = map.keyspace.database;
  const totals = valuesOf(sumOfStats(views.map(({ stats }) => stats)));
  const columns = [
    table.databaseColumn,
    ...(part === 'averages' ? [] : table.totalColumns),
    ...(part === 'totals' ? [] : table.averageColumns),
  ];
  const row = [database, ...(part === 'averages' ? [] : totals), ...(part === 'totals' ? [] : averagesOf(views))];
  return { columns, rows: [row] };
}

export function totalsTable(input: ShowInput): Table {
  const { columns, rows } = statsTable(input, 'all');
  return { columns: columns.slice(1), rows: rows.map((row) => row.slice(1)) };
}

/** Where statements of each shard and level would go now, best first. */
export function routesTable({ map, region, views, stateOf }: ShowInput): Table {
  const unreachable = new Set(views.flatMap((view) => view.unreachable));
  const rows: Cell[][] = [];
  for (const shard of [...map.shards.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1)))
    for (const level of consistencyLevels) {
      const primaryOnly = level === 'strong';
      const waiting = primaryOnly ? views.reduce((sum, view) => sum + view.held, 0) : 0;
      let chosen: ReturnType<typeof chooseMembers> = [];
      try {
        chosen = chooseMembers(
          { shard: shard.name, primaryOnly, level },
          {
            map,
            region,
            isReachable: (member) => !unreachable.has(member),
            isClosed: (member) => stateOf(member) === 'closed',
            previous: undefined,
          },
        );
      } catch {
        rows.push([shard.name, shard.epoch, level, 0, null, null, null, 'none', waiting]);
      }
      for (const [index, { member, isPrimary }] of chosen.entries()) {
        const state = unreachable.has(member.name) ? 'unreachable' : stateOf(member.name);
        const role = isPrimary ? 'primary' : 'follower';
        rows.push([shard.name, shard.epoch, level, index + 1, member.name, member.region, role, state, waiting]);
      }
    }
  return { columns: table.routeColumns, rows };
}

export function tenantsTable({ map, views }: ShowInput): Table {
  const used = new Map<string, [connections: number, waiting: number, active: number]>();
  for (const { tenant, connections, waiting, active } of views.flatMap((view) => view.tenants)) {
    const [c, w, a] = used.get(tenant) ?? [0, 0, 0];
    used.set(tenant, [c + connections, w + waiting, a + active]);
  }
  const rows = [...map.tenants.values()]
    .toSorted((a, b) => (a.key < b.key ? -1 : 1))
    .map(({ key, shard, epoch, state, limits }): Cell[] => [
      key,
      shard,
      epoch,
      state,
      ...(used.get(key) ?? [0, 0, 0]),
      limits?.connections ?? null,
      limits?.transactionsInFlight ?? null,
      limits?.statementsPerSecond ?? null,
      limits?.statementTimeoutMs ?? null,
    ]);
  return { columns: table.tenantColumns, rows };
}

export function membersTable({ map, views, stateOf }: ShowInput): Table {
  const unreachable = new Set(views.flatMap((view) => view.unreachable));
  const rows = [...map.members.values()]
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map((member): Cell[] => {
      const pools = views.flatMap((view) => view.pools).filter((pool) => pool.member === member.name);
      const sum = (pick: (pool: PoolView) => number): number => pools.reduce((total, pool) => total + pick(pool), 0);
      const { primary, epoch = 0 } = map.shards.get(member.shard) ?? {};
      return [
        member.name,
        member.shard,
        member.region,
        member.name === primary ? 'primary' : 'follower',
        member.address,
        member.port,
        epoch,
        stateOf(member.name),
        unreachable.has(member.name) ? 0 : 1,
        sum(({ active }) => active),
        sum(({ idle }) => idle),
        sum(({ login }) => login),
        sum(({ clWaiting }) => clWaiting),
      ];
    });
  return { columns: table.memberColumns, rows };
}

/** One row for each member: PgBouncer's databases are ways to a server. */
export function databasesTable({ map, views, admins }: ShowInput): Table {
  const { database, poolSize, maxClients } = map.keyspace;
  const isPaused = views.some((view) => view.isPaused) ? 1 : 0;
  const clients = views.reduce((sum, view) => sum + view.clients, 0);
  const rows = [...map.members.values()].map(({ name, address, port }): Cell[] => {
    const pools = views.flatMap((view) => view.pools).filter(({ member }) => member === name);
    const servers = pools.reduce((sum, { active, idle, tested, login }) => sum + active + idle + tested + login, 0);
    return [
      database,
      address,
      port,
      database,
      null,
      poolSize,
      0,
      0,
      null,
      poolMode,
      null,
      0,
      servers,
      maxClients,
      clients,
      isPaused,
      0,
    ];
  });
  rows.push(['meridian', null, null, 'meridian', null, 0, 0, 0, null, 'statement', null, 0, 0, 0, admins, 0, 0]);
  return { columns: table.databaseColumns, rows };
}

export function usersTable({ map, views }: ShowInput): Table {
  const { roles, roleLimits } = map.keyspace;
  const names = new Set([...roles, ...views.flatMap((view) => Object.keys(view.connectionsOfRoles))]);
  const rows = [...names].toSorted().map((name): Cell[] => {
    const pools = views.flatMap((view) => view.pools).filter(({ user }) => user === name);
    const servers = pools.reduce((sum, { active, idle, tested, login }) => sum + active + idle + tested + login, 0);
    const clients = views.reduce((sum, view) => sum + (view.connectionsOfRoles[name] ?? 0), 0);
    const limits = roleLimits?.[name];
    return [
      name,
      null,
      null,
      null,
      limits?.transactionsInFlight ?? 0,
      servers,
      limits?.connections ?? 0,
      clients,
      adminRightOf(map, name) ?? null,
    ];
  });
  return { columns: table.userColumns, rows };
}

export function listsTable({ map, views }: ShowInput): Table {
  const sum = (pick: (view: WorkerView) => number): number => views.reduce((total, view) => total + pick(view), 0);
  const pools = new Set(views.flatMap((view) => view.pools.map(({ user, member }) => `${user}\0${member}`)));
  const rows: Cell[][] = [
    ['databases', 1],
    ['users', map.keyspace.roles.length],
    ['pools', pools.size],
    ['free_clients', 0],
    ['used_clients', sum(({ clients }) => clients)],
    ['login_clients', sum(({ handshakes }) => handshakes)],
    ['free_servers', sum((view) => view.pools.reduce((total, { idle }) => total + idle, 0))],
    [
      'used_servers',
      sum((view) => view.pools.reduce((total, { active, tested, login }) => total + active + tested + login, 0)),
    ],
    ['dns_names', 0],
    ['dns_zones', 0],
    ['dns_queries', 0],
    ['dns_pending', 0],
    ['workers', views.length],
    ['shards', map.shards.size],
    ['members', map.members.size],
    ['tenants', map.tenants.size],
  ];
  return { columns: table.listColumns, rows };
}

export const configTable = ({ settings }: ShowInput): Table => ({
  columns: table.configColumns,
  rows: settings.map(([key, value, byDefault]) => [key, value, byDefault, 'no']),
});

export const stateTable = ({ views }: ShowInput): Table => ({
  columns: table.stateColumns,
  rows: [
    ['active', views.some(({ isPaused }) => isPaused) ? 'no' : 'yes'],
    ['paused', views.some(({ isPaused }) => isPaused) ? 'yes' : 'no'],
    ['suspended', 'no'],
  ],
});

export const versionTable = ({ version }: ShowInput): Table => ({ columns: table.versionColumns, rows: [[version]] });

export const helpText = `
\tSHOW ${shows.map((show) => show.toUpperCase()).join('|')}
\tPAUSE [<db>]
\tRESUME [<db>]
\tRECONNECT [<db>]
\tRELOAD
`;

function socketRow(type: 'C' | 'S', map: ClusterMap, view: SocketView, last: Cell): Cell[] {
  const shard = map.members.get(view.member)?.shard ?? '';
  return [
    type,
    view.user,
    map.keyspace.database,
    'none',
    view.state,
    view.addr,
    view.port,
    view.localAddr,
    view.localPort,
    timestamp(view.connectedAtMs),
    timestamp(view.requestedAtMs),
    ...timeOf(view.waitMs),
    view.closeNeeded ? 1 : 0,
    view.id,
    view.link,
    view.pid,
    view.tls,
    view.applicationName,
    view.prepared,
    view.id,
    shard,
    view.member,
    view.tenant,
    last,
  ];
}

function sumOfPools(one: PoolView, other: PoolView): PoolView {
  const sum: Record<string, unknown> = { ...one };
  for (const [name, value] of Object.entries(other))
    if (typeof value === 'number') sum[name] = (sum[name] as number) + value;
  return { ...(sum as unknown as PoolView), maxWaitMs: Math.max(one.maxWaitMs, other.maxWaitMs) };
}

const byUserAndMember = (one: PoolView, other: PoolView): number =>
  one.user === other.user ? (one.member < other.member ? -1 : 1) : one.user < other.user ? -1 : 1;

/** Whole seconds, and microseconds beyond them. */
const timeOf = (ms: number): [number, number] => [Math.floor(ms / 1_000), Math.floor((ms % 1_000) * 1_000)];

const timestamp = (ms: number): string =>
  new Date(ms)
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, ' UTC');

const valuesOf = (stats: Stats): number[] => table.statNames.map((name) => stats[name]);

/** Counts and bytes are per second; times are per what they are the time of. */
function averagesOf(views: readonly WorkerView[]): number[] {
  const periods = views.flatMap(({ period }) => period ?? []);
  const seconds = periods[0]?.seconds ?? 0;
  const from = sumOfStats(periods.map((period) => period.from));
  const to = sumOfStats(periods.map((period) => period.to));
  const since = (name: table.Stat): number => to[name] - from[name];
  const each: Readonly<Partial<Record<table.Stat, table.Stat>>> = {
    xact_time: 'xact_count',
    query_time: 'query_count',
    wait_time: 'server_assignment_count',
    server_lifetime: 'server_closed_count',
  };
  return table.statNames.map((name) => {
    const of = each[name];
    const divisor = of === undefined ? seconds : since(of);
    return divisor === 0 ? 0 : Math.round(since(name) / divisor);
  });
}
