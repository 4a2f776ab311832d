/**
 * What one worker of a router has at the moment, as plain data that can be sent to another thread: what SHOW is made of. Looks, and
 * changes nothing. Leaves to others: how several workers' views become one (tables.ts), words and columns (table.ts).
 */
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { RouterContext } from '../context.ts';
import type { Session } from '../session/session.ts';
import { type Stat, statNames } from './table.ts';

export interface PoolView {
  readonly user: string;
  readonly member: string;
  readonly clActive: number;
  readonly clWaiting: number;
  readonly active: number;
  readonly shared: number;
  readonly kept: number;
  readonly idle: number;
  readonly tested: number;
  readonly beingCanceled: number;
  readonly login: number;
  readonly size: number;
  readonly maxWaitMs: number;
}

export interface SocketView {
  readonly user: string;
  readonly state: string;
  readonly addr: string;
  readonly port: number;
  readonly localAddr: string;
  readonly localPort: number;
  readonly connectedAtMs: number;
  readonly requestedAtMs: number;
  readonly waitMs: number;
  readonly closeNeeded: boolean;
  readonly id: string;
  readonly link: string;
  readonly pid: number;
  readonly tls: string;
  readonly applicationName: string;
  readonly prepared: number;
  readonly member: string;
  readonly tenant: string;
  readonly consistency: string;
  readonly epoch: number;
}

export interface TenantView {
  readonly tenant: string;
  readonly connections: number;
  readonly waiting: number;
  readonly active: number;
}

export type Stats = Readonly<Record<Stat, number>>;

export interface WorkerView {
  readonly worker: number;
  readonly isPaused: boolean;
  /** Connections to members, whatever they do, and those being made. */
  readonly servers: number;
  readonly clients: number;
  readonly handshakes: number;
  readonly pools: readonly PoolView[];
  readonly tenants: readonly TenantView[];
  readonly stats: Stats;
  /** At the ends of the last whole period. */
  readonly period: { readonly from: Stats; readonly to: Stats; readonly seconds: number } | undefined;
  readonly connectionsOfRoles: Readonly<Record<string, number>>;
  /** Where they were asked for. */
  readonly sockets: { readonly clients: readonly SocketView[]; readonly servers: readonly SocketView[] } | undefined;
  /** By member. */
  readonly unreachable: readonly string[];
  readonly held: number;
}

export interface Viewed {
  readonly worker: number;
  readonly context: RouterContext;
  readonly sessions: Iterable<Session>;
  readonly handshakes: number;
  readonly period: WorkerView['period'];
}

export function viewOf(viewed: Viewed, withSockets: boolean): WorkerView {
  const { context } = viewed;
  const map = context.map();
  const sessions = [...viewed.sessions];
  const pools = [...context.pools.all].map((pool) => {
    const view = { active: 0, shared: 0, kept: 0, idle: 0, tested: 0, beingCanceled: 0 };
    for (const { backend, state } of pool.backends()) {
      view[state] += 1;
      if (state === 'active' && backend.isShared) view.shared += 1;
      if (state === 'tested' && backend.wasCancelled) view.beingCanceled += 1;
    }
    const { opening: login, waiting: clWaiting } = pool.counts;
    const { role: user, member, size, longestWaitMs: maxWaitMs } = pool;
    const clActive = view.active - view.shared + view.kept;
    return { user, member, size, login, clWaiting, clActive, maxWaitMs, ...view, active: view.active + view.kept };
  });
  const connectionsOfRoles: Record<string, number> = {};
  for (const { login } of sessions) connectionsOfRoles[login.role] = (connectionsOfRoles[login.role] ?? 0) + 1;
  return {
    worker: viewed.worker,
    isPaused: context.pools.isPaused,
    servers: pools.reduce((sum, { active, idle, tested, login }) => sum + active + idle + tested + login, 0),
    clients: sessions.length,
    handshakes: viewed.handshakes,
    pools,
    tenants: tenantsOf(context),
    stats: statsOf(context),
    period: viewed.period,
    connectionsOfRoles,
    sockets: withSockets ? socketsOf(context, sessions) : undefined,
    unreachable: [...(map?.members.keys() ?? [])].filter((member) => !context.pools.isReachable(member)),
    held: context.hold.transactions,
  };
}

/** As of now, since the worker began. */
export function statsOf({ metrics, pools }: RouterContext): Stats {
  const { tally } = pools;
  let parses = tally.parses;
  for (const pool of pools.all) for (const { backend } of pool.backends()) parses += backend.prepared.made;
  return {
    xact_count: metrics.get('transactions_total'),
    query_count: metrics.get('statements_total'),
    server_assignment_count: tally.assignments,
    server_closed_count: tally.closed,
    received: metrics.get('client_bytes_total'),
    sent: metrics.get('server_bytes_total'),
    xact_time: Math.round(tally.lentMicros),
    query_time: Math.round(tally.queryMicros),
    wait_time: Math.round(tally.waitMicros),
    server_lifetime: Math.round(tally.lifetimeMicros),
    client_parse_count: metrics.get('client_parses_total'),
    server_parse_count: parses,
    bind_count: metrics.get('binds_total'),
  };
}

export const sumOfStats = (all: readonly Stats[]): Stats =>
  Object.fromEntries(statNames.map((name) => [name, all.reduce((sum, stats) => sum + stats[name], 0)])) as Record<
    Stat,
    number
  >;

function tenantsOf({ limits, pools, directory }: RouterContext): TenantView[] {
  const found = new Map<string, { tenant: string; connections: number; waiting: number; active: number }>();
  const of = (tenant: string) => {
    const view = found.get(tenant) ?? { tenant, connections: 0, waiting: 0, active: 0 };
    found.set(tenant, view);
    return view;
  };
  for (const { tenant, connections, waiting } of limits.tenants()) {
    const view = of(tenant);
    view.connections += connections;
    view.waiting += waiting;
  }
  for (const pool of pools.all) {
    const fixed = directory.current(pool.role)?.fixedTenant;
    for (const { backend, state } of pool.backends()) {
      const tenant = fixed ?? backend.lentTo ?? '';
      if (tenant !== '' && (state === 'active' || state === 'kept')) of(tenant).active += 1;
    }
    for (const waiting of pool.waiting()) if ((fixed ?? waiting) !== '') of(fixed ?? waiting).waiting += 1;
  }
  return [...found.values()];
}

function socketsOf(context: RouterContext, sessions: readonly Session[]): NonNullable<WorkerView['sockets']> {
  const offsetMs = Date.now() - performance.now();
  const nowMs = performance.now();
  const holders = new Map<object, Session>();
  const clients = sessions.map((session) => {
    const { login, socket, settings, loan, state } = session;
    const { backend } = loan;
    if (backend !== undefined) holders.set(backend, session);
    return {
      user: login.role,
      state,
      ...placeOf(socket),
      addr: session.address ?? '',
      connectedAtMs: session.connectedAtMs,
      requestedAtMs: offsetMs + session.heardAtMs,
      waitMs: state === 'waiting' ? nowMs - session.heardAtMs : 0,
      closeNeeded: false,
      id: clientId(session),
      link: backend === undefined ? '' : serverId(backend.identity),
      pid: session.key?.processId ?? 0,
      applicationName: session.applicationName,
      prepared: session.statements.size,
      member: backend?.identity.member ?? '',
      tenant: login.fixedTenant ?? settings.meridian.tenant ?? '',
      consistency: settings.meridian.level ?? '',
      epoch: 0,
    };
  });
  const servers: SocketView[] = [];
  for (const pool of context.pools.all)
    for (const { backend, state } of pool.backends()) {
      const { member, processId, primaryEpoch } = backend.identity;
      const session = holders.get(backend);
      servers.push({
        user: pool.role,
        state: state === 'kept' ? 'active' : state,
        ...placeOf(backend.socket),
        connectedAtMs: offsetMs + backend.openedAtMs,
        requestedAtMs: offsetMs + Math.max(backend.lentAtMs, backend.openedAtMs),
        waitMs: 0,
        closeNeeded: state !== 'idle' && !pool.isCurrent(backend),
        id: serverId(backend.identity),
        link: session === undefined ? '' : clientId(session),
        pid: processId,
        applicationName: session?.applicationName ?? '',
        prepared: backend.prepared.size,
        member,
        tenant: context.directory.current(pool.role)?.fixedTenant ?? backend.lentTo ?? '',
        consistency: '',
        epoch: primaryEpoch,
      });
    }
  return { clients, servers };
}

const clientId = ({ key }: Session): string => `c${key?.processId ?? 0}`;
const serverId = ({ member, processId }: { member: string; processId: number }): string => `${member}/${processId}`;

const placeOf = (socket: Socket | TLSSocket) => ({
  addr: socket.remoteAddress ?? '',
  port: socket.remotePort ?? 0,
  localAddr: socket.localAddress ?? '',
  localPort: socket.localPort ?? 0,
  tls:
    socket instanceof TLSSocket && !socket.destroyed
      ? `${socket.getProtocol() ?? ''}/${socket.getCipher()?.name ?? ''}`
      : '',
});
