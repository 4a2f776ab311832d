/**
 * One event loop's worth of router: listens, shakes hands, keeps sessions, and shares what they need. Nothing in here is shared
 * with another worker but the counters; several can listen on one port.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { getHeapStatistics } from 'node:v8';
import type { Logger } from 'pino';
import { AdminSession } from './admin/admin-session.ts';
import { AdminBus, type Question } from './admin/bus.ts';
import { configOf } from './admin/config.ts';
import { Console } from './admin/console.ts';
import { gaugesOf } from './admin/gauges.ts';
import { Periods } from './admin/periods.ts';
import { membersTable, poolsTable, type ShowInput, statsTable } from './admin/tables.ts';
import { statsOf, viewOf, type WorkerView } from './admin/view.ts';
import { Authority } from './authority/authority.ts';
import { Hold } from './authority/hold.ts';
import { TokenKeyring } from './consistency/token-keyring.ts';
import type { RouterContext } from './context.ts';
import { RouterError } from './errors.ts';
import { Parameterised } from './exec/parameterised.ts';
import { PlanCache } from './exec/plan-cache.ts';
import { Limits } from './limits/limits.ts';
import { Directory } from './map/directory.ts';
import { reachOf } from './map/logins.ts';
import { adminRightOf, type ClusterMap } from './map/map.ts';
import { mergeMaps, withAuthority } from './map/merge.ts';
import type { MapSource } from './map/source.ts';
import { Metrics } from './metrics.ts';
import { ShapeScanner } from './plan/shape.ts';
import type { Planner } from './plan/types.ts';
import { sendCancel } from './pool/connect.ts';
import { Lanes } from './pool/lane.ts';
import { PlanCosts } from './pool/plan-cost.ts';
import { Pools } from './pool/pools.ts';
import { CancelRelay } from './session/cancel-relay.ts';
import { Handshake } from './session/handshake.ts';
import { Proxies } from './session/proxies.ts';
import type { Session } from './session/session.ts';
import { SharedStatements } from './session/statements.ts';
import type { RouterSettings } from './settings.ts';
import type { TlsFiles } from './tls.ts';
import { MessageBudget, usualMessageBytes } from './wire/message-budget.ts';

export interface WorkerOptions {
  readonly settings: RouterSettings;
  readonly source: MapSource;
  readonly tls: TlsFiles;
  readonly planner: Planner;
  readonly log: Logger;
  /** Which of the process' workers this is, from 0: cancel requests find theirs by it. */
  readonly worker?: number;
  /** Counters of all of the process' workers, this one's among them: clients are bounded over all. Absent where it is the only one. */
  readonly counters?: readonly Metrics[];
}

/** They come in however many clients there are. */
const maxAdmins = 32;
const idleCheckMs = 250;
/**
 * As many as the kernel allows (net.core.somaxconn). When thousands come at once, after another router's end, those that it has no room
 * for believe to be connected, say something, and hear nothing for up to a minute.
 */
const backlog = 4_096;

/** Connections that may be before their log-in however few clients there may be: cancel requests are such. */
const minHandshakes = 64;

export class RouterWorker {
  readonly metrics: Metrics;
  readonly #options: WorkerOptions;
  readonly #directory: Directory;
  readonly #pools: Pools;
  readonly #authority: Authority;
  readonly #hold: Hold;
  readonly #limits: Limits;
  readonly #tokens: TokenKeyring;
  readonly #context: RouterContext;
  readonly #server: Server;
  readonly #sessions = new Set<Session>();
  readonly #handshakes = new Set<Socket>();
  readonly #admins = new Set<AdminSession>();
  readonly #bus: AdminBus;
  readonly #console: Console;
  readonly #periods: Periods;
  #idleTimer: NodeJS.Timeout | undefined;
  readonly #aborter = new AbortController();
  #map: ClusterMap | undefined;
  #isDraining = false;

  constructor(options: WorkerOptions) {
    const { settings, tls, log } = options;
    this.#options = options;
    this.metrics = options.counters?.[options.worker ?? 0] ?? new Metrics();
    const map = (): ClusterMap | undefined => this.#map;
    const clientContext = () => tls.contexts.client;
    const proxies = new Proxies(settings.proxyFrom);
    this.#directory = new Directory({
      map,
      clientContext,
      region: settings.region,
      refreshMs: settings.times.catalogueRefreshMs,
      unknownUserMs: settings.times.unknownUserMs,
      timeoutMs: settings.times.connectMs,
      log,
    });
    this.#pools = new Pools({
      map,
      clientContext,
      reachOf: (role) => reachOf(this.#directory.current(role)),
      fixedTenantOf: (role) => this.#directory.current(role)?.fixedTenant,
      connectTimeoutMs: settings.times.connectMs,
      limits: {
        waitMs: settings.times.waitMs,
        idleMs: settings.times.backendIdleMs,
        lifetimeMs: settings.times.backendLifetimeMs,
      },
      now: () => performance.now(),
      maxPools: 5_000,
      workers: settings.workers ?? 1,
    });
    this.#authority = new Authority({
      map,
      clientContext,
      inFlightAt: (member) => this.#pools.busyAt(member),
      onEpoch: (shard, epoch, primary) => this.#learn(shard, epoch, primary),
      onAnswer: (shard) => this.#hold.wake(shard),
      onClosed: (member) => this.#pools.expel(member),
      metrics: this.metrics,
      log,
    });
    this.#hold = new Hold({
      limits: settings.hold,
      isOpen: (shard) => this.#isOpen(shard),
      now: () => performance.now(),
      onHeld: () => this.metrics.add('held_total'),
      onRefused: () => this.metrics.add('held_refused_total'),
    });
    this.#limits = new Limits({
      map,
      workers: settings.workers ?? 1,
      waitMs: settings.times.waitMs,
      now: () => performance.now(),
      onRefused: () => this.metrics.add('limited_total'),
    });
    this.#tokens = new TokenKeyring({
      keyspace: settings.keyspace,
      folder: settings.tokenFolder ?? '',
      secret: () => tls.contexts.mockSecret,
    });
    const shared = new SharedStatements();
    this.#context = {
      region: settings.region,
      allowPlaintext: settings.allowPlaintext,
      map,
      tls: () => tls.contexts,
      directory: this.#directory,
      plans: new PlanCache(options.planner),
      pools: this.#pools,
      limits: this.#limits,
      lanes: new Lanes((member) => this.#authority.leaseOf(member)),
      costs: new PlanCosts(),
      authority: this.#authority,
      hold: this.#hold,
      tokens: this.#tokens,
      shared,
      parameterised: settings.parameters === false ? undefined : new Parameterised(new ShapeScanner(), shared),
      cancels: new CancelRelay({
        worker: options.worker ?? 0,
        address: settings.podAddress,
        peers: settings.peers,
        proxies,
        clientContext,
        timeoutMs: settings.times.connectMs,
        metrics: this.metrics,
        log,
      }),
      proxies,
      messages: new MessageBudget(
        settings.messageBytes ?? usualMessageBytes(process.constrainedMemory(), settings.workers ?? 1),
      ),
      metrics: this.metrics,
      log,
      cancelAt: async (backend) => {
        const member = this.#map?.members.get(backend.member);
        if (member === undefined) throw new Error(`member ${backend.member} is gone`);
        await sendCancel(member, tls.contexts.client, backend.processId, backend.secret, settings.times.connectMs);
      },
    };
    this.#periods = new Periods(() => statsOf(this.#context));
    const { workers = 1 } = settings;
    this.#bus = new AdminBus({
      worker: options.worker ?? 0,
      workers,
      timeoutMs: 2_000,
      answer: (question) => this.#answer(question),
    });
    this.#console = new Console({
      bus: this.#bus,
      workers,
      input: () => this.#showInput(),
      log: (action, role) => log.warn({ action, role }, 'said at the admin database'),
    });
    this.#server = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 }, (socket) =>
      this.#accept(socket),
    );
  }

  /** Resolves with the port once the first map is there and clients can connect. */
  async start(): Promise<number> {
    const { settings, source, log } = this.#options;
    await source.start((map) => this.#takeMap(map), this.#aborter.signal);
    if (this.#isDraining) return 0;
    this.#directory.start();
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      const isShared = (settings.workers ?? 1) > 1;
      this.#server.listen({ host: settings.address, port: settings.port, backlog, reusePort: isShared }, resolve);
    });
    const address = this.#server.address();
    const port = typeof address === 'object' && address !== null ? address.port : settings.port;
    this.#context.cancels.start(port);
    this.#bus.start(`${settings.podAddress} ${port}`);
    this.#periods.start();
    this.#idleTimer = setInterval(() => this.#expire(), idleCheckMs);
    this.#idleTimer.unref();
    log.info({ port, region: settings.region }, 'listening');
    return port;
  }

  /** It can serve: knows the keyspace and who may log in, and isn't going. */
  get isReady(): boolean {
    return this.#map !== undefined && this.#directory.isReady && !this.#isDraining;
  }

  get gauges(): Record<string, number> {
    const { pools, idle, busy, kept, opening, waiting } = this.#pools.counts;
    return {
      pools,
      backends_idle: idle,
      backends_busy: busy,
      backends_kept: kept,
      backends_opening: opening,
      statements_waiting: waiting,
      tenants: this.#map?.tenants.size ?? 0,
      held_transactions: this.#hold.transactions,
      held_bytes: this.#hold.bytes,
      silent_agents: this.#authority.silent,
      ...memoryGauges(),
      ...this.#shownGauges,
      ...Object.fromEntries(
        [...(this.#map?.shards.values() ?? [])].map(({ name, epoch }) => [`shard_epoch{shard="${name}"}`, epoch]),
      ),
    };
  }

  /** Takes no more clients, lets transactions end for so long, then closes everything. */
  async stop(drainMs: number): Promise<void> {
    this.#isDraining = true;
    this.#server.close();
    for (const socket of this.#handshakes) socket.destroy();
    for (const session of this.#sessions) session.drain();
    for (const admin of this.#admins) admin.terminate();
    this.#pools.resume();
    const deadline = performance.now() + drainMs;
    while (this.#sessions.size > 0 && performance.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 20));
    for (const session of this.#sessions) session.terminate();
    this.#aborter.abort();
    this.#context.cancels.stop();
    this.#bus.stop();
    this.#periods.stop();
    clearInterval(this.#idleTimer);
    this.#directory.stop();
    this.#hold.close();
    this.#tokens.stop();
    this.#pools.close();
    await this.#authority.stop();
  }

  /** What is read again without being asked is read at once: who may log in, which tables there are, the map where it is a file. */
  async reload(): Promise<void> {
    try {
      await this.#options.source.reload?.();
    } catch (error) {
      throw new RouterError(
        'InvalidSetting',
        `the map can not be read: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
    this.#pools.sweep();
    await this.#directory.refresh();
  }

  /** This worker's part; those of several are summed. */
  get #shownGauges(): Record<string, number> {
    if (this.#map === undefined) return {};
    const input = { ...this.#showInput(), views: [this.#view(false)] };
    return {
      ...gaugesOf('pools', poolsTable(input)),
      ...gaugesOf('stats', statsTable(input, 'totals')),
      ...gaugesOf('members', membersTable(input)),
    };
  }

  async #answer(question: Question): Promise<WorkerView> {
    if (question.kind === 'act')
      switch (question.action) {
        case 'pause':
          this.#pools.pause();
          break;
        case 'resume':
          this.#pools.resume();
          break;
        case 'reconnect':
          this.#pools.renew();
          break;
        case 'reload':
          await this.reload();
          break;
      }
    return this.#view(question.kind === 'view' && question.withSockets);
  }

  #view(withSockets: boolean): WorkerView {
    return viewOf(
      {
        worker: this.#options.worker ?? 0,
        context: this.#context,
        sessions: this.#sessions,
        handshakes: this.#handshakes.size,
        period: this.#periods.last,
      },
      withSockets,
    );
  }

  #showInput(): Omit<ShowInput, 'views'> {
    const map = this.#map;
    if (map === undefined) throw new RouterError('NotReady', 'the router does not know the keyspace yet');
    const { settings } = this.#options;
    return {
      map,
      region: settings.region,
      admins: this.#admins.size,
      settings: configOf(settings),
      version: `Meridian router of keyspace ${map.keyspace.name} in region ${settings.region}`,
      stateOf: (member) => {
        if (this.#authority.isClosed(member)) return 'closed';
        return this.#authority.leaseOf(member) === undefined ? 'serving' : 'open';
      },
    };
  }

  #expire(): void {
    const { idleSessionMs = 0, idleInTransactionMs = 0 } = this.#map?.keyspace ?? {};
    if (idleSessionMs === 0 && idleInTransactionMs === 0) return;
    const nowMs = performance.now();
    for (const session of this.#sessions) session.expire(nowMs, idleSessionMs, idleInTransactionMs);
  }

  #openAdmin(socket: Socket, role: string): AdminSession {
    if (this.#admins.size >= maxAdmins) throw new RouterError('TooManyClients', 'sorry, too many admins already');
    const admin: AdminSession = new AdminSession(socket, {
      role,
      right: () => (this.#directory.current(role) === undefined ? undefined : adminRightOf(this.#map, role)),
      console: this.#console,
      log: this.#options.log,
      onClosed: () => this.#admins.delete(admin),
    });
    this.#admins.add(admin);
    return admin;
  }

  #takeMap(map: ClusterMap): void {
    this.#apply(mergeMaps(this.#map, map));
  }

  /** A member's agent knows of an epoch that the source of maps hasn't told yet, or can't. */
  #learn(shard: string, epoch: number, primary: string): void {
    if (this.#map === undefined) return;
    this.metrics.add('epochs_learnt_total');
    this.#apply(withAuthority(this.#map, shard, epoch, primary));
  }

  #apply(map: ClusterMap): void {
    const before = this.#map;
    this.#map = map;
    this.#authority.follow(map);
    this.#limits.changed();
    if (before === undefined || placesOf(before) === placesOf(map)) return;
    for (const { name, epoch, primary } of map.shards.values()) {
      const old = before.shards.get(name);
      if (old === undefined || old.epoch >= epoch) continue;
      const cut = this.#pools.cut(name, epoch);
      this.metrics.add('cuts_total', cut);
      this.#options.log.warn({ shard: name, epoch, primary, before: old.primary, cut }, 'new epoch');
      if (old.primary !== undefined) this.#pools.expel(old.primary);
      this.#hold.calm(name);
    }
    this.#pools.sweep();
    void this.#directory.refresh();
  }

  /** Its primary may be sent something new. */
  #isOpen(shard: string): boolean {
    const primary = this.#map?.shards.get(shard)?.primary;
    return primary !== undefined && this.#authority.leaseOf(primary) !== undefined;
  }

  /** Of all workers. */
  get #clients(): number {
    const { counters = [this.metrics] } = this.#options;
    return counters.reduce((sum, metrics) => sum + metrics.get('clients'), 0);
  }

  get #maxHandshakes(): number {
    return Math.max(minHandshakes, this.#map?.keyspace.maxClients ?? 0);
  }

  #accept(socket: Socket): void {
    this.metrics.add('clients_total');
    if (this.#isDraining) return void socket.destroy();
    // Those who haven't logged in cost memory, too, and anybody can be one: no more of them than clients may be.
    if (this.#handshakes.size >= this.#maxHandshakes) {
      this.metrics.add('logins_refused_total');
      return void socket.destroy();
    }
    this.#handshakes.add(socket);
    socket.once('close', () => this.#handshakes.delete(socket));
    // Lives as long as the socket, which holds it by its listeners.
    void new Handshake(this.#context, socket, {
      timeoutMs: this.#options.settings.times.authenticationMs,
      mayAdmit: () => this.#clients < (this.#map?.keyspace.maxClients ?? 0),
      onSession: (session) => {
        this.#handshakes.delete(socket);
        this.#sessions.add(session);
        this.metrics.add('clients');
        if (this.#isDraining) session.drain();
      },
      onAdmin: (own, role) => {
        this.#handshakes.delete(socket);
        return this.#openAdmin(own, role);
      },
      onSessionClosed: (session) => {
        if (this.#sessions.delete(session)) this.metrics.add('clients', -1);
      },
    });
  }
}

/** Of this worker's own heap, and what its objects hold outside it. */
function memoryGauges(): Record<string, number> {
  const { used_heap_size, total_heap_size, external_memory, malloced_memory } = getHeapStatistics();
  return {
    heap_used_bytes: used_heap_size,
    heap_total_bytes: total_heap_size,
    heap_external_bytes: external_memory + malloced_memory,
  };
}

/** What pools and the directory depend on: tenants come and go without touching it. */
const placesOf = (map: ClusterMap): string =>
  JSON.stringify([map.keyspace, [...map.shards.values()], [...map.members.values()]]);
