/**
 * The member: one loop that looks, decides the next step (`plan.ts`) and takes it, until what is there is what the orders
 * say. It owns Postgres, the data directory and both ends of the tunnels; the API hands it orders and asks it for its
 * status. Interrupted anywhere, it finds its way by looking again.
 * Invariants: orders count once promise and orders are on disk; tunnels that the new orders don't allow are closed
 * before `takeOrders` resolves.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type AuthoritySource, confirmAuthority } from '#agent/authority/source.ts';
import { type AgentConfiguration, environmentOfPostgres } from '#agent/configuration.ts';
import type { Logger } from '#agent/log.ts';
import { decideOrders } from '#agent/orders/decide.ts';
import { writeOrders } from '#agent/orders/store.ts';
import { type CloneProgress, clone } from '#agent/postgres/clone.ts';
import { DataDirectory } from '#agent/postgres/data-directory.ts';
import { initialise } from '#agent/postgres/initialise.ts';
import { observePostgres, type PostgresSeen, refusedSettings } from '#agent/postgres/observe.ts';
import { PostgresServer, type ServerExit } from '#agent/postgres/server.ts';
import { LocalSession } from '#agent/postgres/session.ts';
import { applySlotAction, isUnwanted, planSlots, readSlots } from '#agent/postgres/slots.ts';
import { validateParameters } from '#agent/postgres/validate.ts';
import type { PromiseFile } from '#agent/promise/file.ts';
import { type CredentialsWatch, writePostgresTls } from '#agent/tls/credentials.ts';
import type { TunnelContext } from '#agent/tunnel/handshake.ts';
import type { TunnelServer } from '#agent/tunnel/server.ts';
import type { Upstream } from '#agent/tunnel/upstream.ts';
import type { MemberIdentity } from '#core/identity.ts';
import { parseLsn } from '#core/lsn.ts';
import { digestOfOrders } from '#core/protocol/digest.ts';
import type { Orders, OrdersRefusal } from '#core/protocol/orders.ts';
import type { AgentPhase, AgentStatus } from '#core/protocol/status.ts';
import { Backoff } from './backoff.ts';
import {
  configurationPlaces,
  type RenderedConfiguration,
  renderConfiguration,
  writeConfiguration,
} from './configuration.ts';
import { type MemberView, nextStep, type ServerView, type Step } from './plan.ts';
import { statusOf } from './status.ts';
import { compareLists, type SynchronousList } from './synchronous-list.ts';
import { isAnotherWork } from './work.ts';

export interface MemberOptions {
  readonly configuration: AgentConfiguration;
  readonly promise: PromiseFile;
  readonly orders: Orders | undefined;
  readonly authority: AuthoritySource;
  readonly credentials: CredentialsWatch;
  readonly upstream: Upstream;
  readonly log: Logger;
}

const LOOK_AGAIN_MS = 1_000;
const READY_POLL_MS = 150;
const CONFIRM_RETRY_MS = 1_000;
/** A confirmation this old is asked for again before a closed Postgres is opened. */
const CONFIRMATION_MS = 5_000;
const RELOAD_SEEN_MS = 3_000;
const BARRIER_MS = 10_000;
const CHECKPOINT_MS = 300_000;
const FAILURES_THAT_SHOW = 3;
/** Postgres that has run this long has started well: the next crash is restarted at once again. */
const STEADY_MS = 10_000;
const SEEN_FRESH_MS = 250;

export class Member {
  readonly #options: MemberOptions;
  readonly #data: DataDirectory;
  readonly #server: PostgresServer;
  readonly #session: LocalSession;
  readonly #env: Record<string, string>;
  readonly #log: Logger;
  readonly #retry = new Backoff(250, 10_000);
  #tunnels: TunnelServer | undefined;
  #orders: Orders | undefined;
  #serverView: ServerView = { state: 'stopped' };
  #startedAt = 0;
  #confirmation: { readonly epoch: number; readonly at: number } | undefined;
  #validated: {
    readonly key: string;
    readonly accepted: Readonly<Record<string, string>>;
    readonly problems: readonly string[];
  } = { key: '', accepted: {}, problems: [] };
  /** Of the primary, read from the control file before a standby's start. */
  #limits: Readonly<Record<string, number>> = {};
  /** The list that the running Postgres has. */
  #listInForce: SynchronousList = { acknowledgements: 0, members: [] };
  /** Digest of the orders that the running Postgres works by. */
  #applied = '';
  #phase: AgentPhase = 'Waiting';
  #problem = '';
  #standing: readonly string[] = [];
  #clone: CloneProgress | undefined;
  #hasData = false;
  #seen: { readonly at: number; readonly value: PostgresSeen | undefined } = { at: -Infinity, value: undefined };
  #observing: Promise<PostgresSeen | undefined> | undefined;
  #taking: Promise<unknown> = Promise.resolve();
  #isStopping = false;
  #running: Promise<void> = Promise.resolve();
  #wakeUp: () => void = () => {};
  /** Something changed since the last look. */
  #isStale = false;
  /** Ends a long step (initialise, clone) whose orders are no longer wanted. */
  #step = new AbortController();
  #restarts = 0;

  constructor(options: MemberOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#orders = options.orders;
    this.#env = environmentOfPostgres(process.env);
    const { paths, ports, runConfiguration } = options.configuration;
    this.#data = new DataDirectory(paths.pgdata, this.#env);
    this.#session = new LocalSession(paths.postgresSockets, ports.postgres);
    this.#server = new PostgresServer({
      dataDirectory: paths.pgdata,
      configFile: configurationPlaces(runConfiguration).parameters,
      env: this.#env,
      onExit: (exit) => this.#onServerExit(exit),
    });
  }

  get identity(): MemberIdentity {
    return { name: this.#options.configuration.podName, incarnation: this.#options.promise.current.incarnation };
  }

  /** Unexpected ends of Postgres since the agent's start. */
  get restarts(): number {
    return this.#restarts;
  }

  get phase(): AgentPhase {
    return this.#phase;
  }

  /** A primary that is open, or a follower that answers reads. */
  get isReady(): boolean {
    const view = this.#serverView;
    return !this.#isStopping && view.state === 'running' && view.isReady && view.isOpen;
  }

  get seen(): PostgresSeen | undefined {
    return this.#seen.value;
  }

  /** The server's end of the tunnels is made with `tunnelContext`, hence after the member. */
  use(tunnels: TunnelServer): void {
    this.#tunnels = tunnels;
  }

  tunnelContext(): TunnelContext | undefined {
    const orders = this.#orders;
    if (orders === undefined) return undefined;
    const view = this.#serverView;
    const isOpen = view.state === 'running' && view.as === 'primary' && view.isOpen;
    return {
      member: this.identity,
      shardUid: orders.shard.uid,
      epoch: orders.epoch,
      generation: orders.generation,
      isPrimary: (orders.role === 'Primary' || orders.role === 'Initialise') && isOpen,
      isReady: isOpen && view.isReady,
      peers: orders.slots,
    };
  }

  /** Undefined when the orders were taken (and are on disk). */
  takeOrders(orders: Orders): Promise<OrdersRefusal | undefined> {
    const result = this.#taking.then(() => this.#take(orders));
    this.#taking = result.catch(() => undefined);
    return result;
  }

  async status(): Promise<AgentStatus> {
    const { configuration, promise, credentials, upstream } = this.#options;
    const seen = await this.#observe();
    const problems = [this.#problem, ...this.#standing, upstream.problem].filter((problem) => problem !== '');
    return statusOf({
      member: this.identity,
      region: configuration.region,
      phase: this.#phase,
      problem: problems.join('; '),
      hasData: this.#hasData,
      promise: promise.current,
      orders: this.#orders,
      isApplied: this.#isApplied(),
      server: this.#serverView,
      seen,
      clone: this.#clone,
      certificateNotAfter: credentials.current.notAfter,
    });
  }

  /** After the certificate changed: Postgres gets its copies and reads them. */
  async renewCertificate(): Promise<void> {
    await writePostgresTls(this.#options.configuration.runTls, this.#options.credentials.current);
    this.#server.reload();
  }

  run(): Promise<void> {
    this.#running = this.#loop();
    return this.#running;
  }

  async #loop(): Promise<void> {
    for (const removed of await this.#data.removeHalfMade()) this.#log.info({ removed }, 'half-made data removed');
    while (!this.#isStopping) {
      const pauseMs = await this.#turn();
      if (pauseMs > 0 && !this.#isStale && !this.#isStopping) await this.#pause(pauseMs);
      this.#isStale = false;
    }
  }

  /** Bounded by the stop's time limits. Tunnels stay open until Postgres has gone, so that followers get its last WAL. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#step.abort();
    this.#wake();
    await this.#session.close();
    await this.#server.stop(this.#options.configuration.stopTimeoutMs);
    // The loop may have been about to start it.
    await this.#running.catch(() => undefined);
    await this.#server.stop(0);
    await this.#options.upstream.stop();
    await this.#tunnels?.stop();
    await this.#taking;
    await this.#options.promise.close();
  }

  /** One look and one step. Returns how long to rest before the next. */
  async #turn(): Promise<number> {
    let step: Step | undefined;
    try {
      step = nextStep(await this.#view());
      this.#enter(step);
      return await this.#perform(step);
    } catch (error) {
      if (this.#step.signal.aborted) return 0;
      const problem = error instanceof Error ? error.message : String(error);
      this.#log.warn({ step: step?.kind, err: error }, 'step failed');
      this.#problem = problem;
      this.#retry.fail();
      return Math.min(LOOK_AGAIN_MS, Math.max(READY_POLL_MS, this.#retry.remainingMs));
    } finally {
      if (this.#step.signal.aborted) this.#step = new AbortController();
    }
  }

  async #view(): Promise<MemberView> {
    const data = await this.#data.state();
    this.#hasData = data !== 'absent';
    const view = this.#serverView;
    const isOpen = view.state === 'running' && view.isOpen;
    const confirmation = this.#confirmation;
    const holds = confirmation !== undefined && (isOpen || performance.now() - confirmation.at < CONFIRMATION_MS);
    return {
      orders: this.#orders,
      data,
      server: view,
      wantedConfiguration: this.#hasData ? ((await this.#rendered())?.digest ?? '') : '',
      confirmedEpoch: holds ? confirmation.epoch : 0,
      retryInMs: this.#retry.remainingMs,
    };
  }

  async #rendered(): Promise<RenderedConfiguration | undefined> {
    const orders = this.#orders;
    if (orders === undefined) return undefined;
    const key = JSON.stringify(orders.parameters);
    if (this.#validated.key !== key) {
      const { paths } = this.#options.configuration;
      this.#validated = { key, ...(await validateParameters(paths.pgdata, orders.parameters, this.#env)) };
    }
    const rendered = renderConfiguration(orders, this.#validated.accepted, this.#limits, this.#options.configuration);
    return { ...rendered, problems: [...rendered.problems, ...this.#validated.problems] };
  }

  #enter(step: Step): void {
    const isFailing =
      step.kind === 'rest' && step.retryInMs !== undefined && this.#retry.failures >= FAILURES_THAT_SHOW;
    const phase = isFailing ? 'Failed' : step.phase;
    if (phase !== this.#phase) this.#log.info({ from: this.#phase, to: phase, step: step.kind }, 'phase');
    this.#phase = phase;
    if (step.kind === 'rest' && step.retryInMs === undefined) this.#problem = step.problem ?? '';
  }

  async #perform(step: Step): Promise<number> {
    switch (step.kind) {
      case 'rest':
        return Math.min(LOOK_AGAIN_MS, step.retryInMs ?? LOOK_AGAIN_MS);
      case 'confirm':
        return this.#confirm();
      case 'stop':
        this.#log.info({ why: step.why }, 'stopping Postgres');
        await this.#session.close();
        await this.#server.stop(this.#options.configuration.stopTimeoutMs);
        return 0;
      case 'initialise':
        return this.#initialise();
      case 'clone':
        return this.#cloneFromPrimary();
      case 'makeStandby':
        await this.#data.makeStandby();
        return 0;
      case 'start':
        return this.#start(step.as);
      case 'awaitReady':
        return this.#awaitReady();
      case 'reconfigure':
        return this.#reconfigure(step.access);
      case 'maintain':
        return this.#maintain();
    }
  }

  async #confirm(): Promise<number> {
    const orders = this.#orders;
    if (orders === undefined) return 0;
    const readAt = performance.now();
    let reason: string;
    try {
      const shard = await this.#options.authority.read();
      const wanted = { shardUid: orders.shard.uid, member: this.identity, epoch: orders.epoch };
      const answer = confirmAuthority(shard, wanted);
      if (answer.confirmed) {
        this.#confirmation = { epoch: orders.epoch, at: readAt };
        this.#problem = '';
        return 0;
      }
      reason = answer.reason;
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
    }
    const problem = `waiting for the Shard to name this member at epoch ${orders.epoch}: ${reason}`;
    if (problem !== this.#problem) this.#log.warn({ reason }, 'authority not confirmed');
    this.#problem = problem;
    return CONFIRM_RETRY_MS;
  }

  async #initialise(): Promise<number> {
    const orders = this.#orders;
    if (orders === undefined) return 0;
    const startedAt = performance.now();
    await initialise(this.#data, orders.shard.database, this.#env, this.#step.signal);
    this.#log.info({ tookMs: Math.round(performance.now() - startedAt) }, 'initialised');
    this.#succeeded();
    return 0;
  }

  async #cloneFromPrimary(): Promise<number> {
    const { promise, configuration } = this.#options;
    const startedAt = performance.now();
    this.#aim(true);
    try {
      await clone({
        data: this.#data,
        incarnation: promise.current.incarnation,
        upstreamSockets: configuration.paths.upstreamSockets,
        port: configuration.ports.postgres,
        env: this.#env,
        signal: this.#step.signal,
        onProgress: (progress) => {
          this.#clone = progress;
        },
      });
    } finally {
      this.#clone = undefined;
      this.#options.upstream.closeAll();
    }
    this.#log.info({ tookMs: Math.round(performance.now() - startedAt) }, 'cloned');
    this.#succeeded();
    return 0;
  }

  async #start(as: 'primary' | 'standby'): Promise<number> {
    const { promise, configuration, credentials } = this.#options;
    await this.#rememberSystemIdentifier();
    this.#limits = as === 'standby' ? await this.#data.primaryLimits() : {};
    const orders = this.#orders;
    const rendered = await this.#rendered();
    if (rendered === undefined || orders === undefined) return 0;
    await writePostgresTls(configuration.runTls, credentials.current);
    await writeConfiguration(configuration.runConfiguration, rendered, 'closed');
    await this.#data.prepareForStart();
    if (as === 'standby') this.#aim(false);
    // Orders that came meanwhile are looked at first.
    if (this.#orders !== orders || this.#isStopping) return 0;
    this.#serverView = {
      state: 'running',
      as,
      isReady: false,
      isOpen: false,
      configuration: rendered.digest,
      restartNonce: orders.restartNonce,
    };
    this.#standing = rendered.problems;
    this.#listInForce = orders.synchronous;
    this.#startedAt = performance.now();
    await this.#server.start();
    this.#log.info({ as, epoch: promise.current.epoch }, 'Postgres started');
    return READY_POLL_MS;
  }

  /** A data directory that isn't the one this promise was made beside is never started. */
  async #rememberSystemIdentifier(): Promise<void> {
    const { promise } = this.#options;
    const found = await this.#data.systemIdentifier();
    const known = promise.current.systemIdentifier;
    if (known !== '' && known !== found) {
      throw new Error(`the data directory has system identifier ${found}, this member's is ${known}`);
    }
    if (known === '') await promise.update((current) => ({ ...current, systemIdentifier: found }));
  }

  async #awaitReady(): Promise<number> {
    try {
      await this.#session.query('select');
    } catch (error) {
      this.#problem = `Postgres takes no connections yet: ${error instanceof Error ? error.message : String(error)}`;
      return READY_POLL_MS;
    }
    if (this.#serverView.state === 'running') this.#serverView = { ...this.#serverView, isReady: true };
    this.#problem = '';
    return 0;
  }

  async #reconfigure(access: 'closed' | 'open'): Promise<number> {
    const orders = this.#orders;
    const rendered = await this.#rendered();
    if (rendered === undefined || orders === undefined) return 0;
    await writeConfiguration(this.#options.configuration.runConfiguration, rendered, access);
    const [before] = await this.#session.query<{ at: string }>('select pg_catalog.pg_conf_load_time()::text as at');
    this.#server.reload();
    await this.#reloaded(before?.at ?? '');
    if (this.#serverView.state === 'running' && this.#serverView.as === 'primary') {
      await this.#passBarrier(this.#listInForce, orders.synchronous);
    }
    this.#listInForce = orders.synchronous;
    this.#standing = [...rendered.problems, ...(await refusedSettings(this.#session))];
    for (const problem of this.#standing) this.#log.warn({ problem }, 'configuration');
    const view = this.#serverView;
    if (view.state === 'running') {
      if (!view.isOpen && access === 'open') this.#log.info({ as: view.as }, 'open');
      this.#serverView = { ...view, configuration: rendered.digest, isOpen: access === 'open' };
    }
    return 0;
  }

  /** The reload has reached new sessions; each walsender follows by itself (docs/design-traps.md, A9). */
  async #reloaded(before: string): Promise<void> {
    const giveUpAt = performance.now() + RELOAD_SEEN_MS;
    for (;;) {
      const [now] = await this.#session.query<{ at: string }>('select pg_catalog.pg_conf_load_time()::text as at');
      if (now !== undefined && now.at !== before) return;
      if (performance.now() > giveUpAt) throw new Error('Postgres did not read its changed configuration');
      await sleep(20);
    }
  }

  /**
   * After it no walsender goes by the former list. A list that only grew, with the same k, needs none: whoever still has
   * the shorter one waits for members that the longer one has, too. Otherwise every stream is ended, and their walsenders
   * are seen to be gone: the new ones start with the new list (docs/design-traps.md, A9).
   */
  async #passBarrier(before: SynchronousList, after: SynchronousList): Promise<void> {
    const change = compareLists(before, after);
    if (change === 'same' || change === 'grown') return;
    if (change === 'begun') await this.#session.query('checkpoint', [], CHECKPOINT_MS);
    const walsenders = `select pid from pg_catalog.pg_stat_replication`;
    const former = (await this.#session.query<{ pid: number }>(walsenders)).map(({ pid }) => pid);
    this.#tunnels?.closeAll();
    const giveUpAt = performance.now() + BARRIER_MS;
    for (;;) {
      const present = new Set((await this.#session.query<{ pid: number }>(walsenders)).map(({ pid }) => pid));
      if (!former.some((pid) => present.has(pid))) return;
      if (performance.now() > giveUpAt) throw new Error('a walsender with the former synchronous list does not end');
      await sleep(50);
    }
  }

  async #maintain(): Promise<number> {
    const orders = this.#orders;
    if (orders === undefined) return 0;
    if (orders.role === 'Follower') this.#aim(false);
    this.#tunnels?.closeUnaccepted();
    const seen = await this.#observe();
    const replayed = seen?.inRecovery === true ? parseLsn(seen.replayed) : undefined;
    const slots = await readSlots(this.#session);
    for (const action of planSlots(orders.slots, slots, replayed)) {
      await applySlotAction(this.#session, action);
      if (action.kind !== 'advance') this.#log.info({ slot: action.name }, `slot: ${action.kind}`);
    }
    // The plan that led here saw the configuration of these orders in force; a slot still to go waits for its walsender.
    const isDone = this.#orders === orders && !slots.some((slot) => slot.active && isUnwanted(slot, orders.slots));
    if (isDone) this.#applied = digestOfOrders(orders);
    if (performance.now() - this.#startedAt > STEADY_MS) this.#retry.succeed();
    this.#problem = '';
    return LOOK_AGAIN_MS;
  }

  #isApplied(): boolean {
    const orders = this.#orders;
    if (orders === undefined) return false;
    if (orders.role === 'Hold') return this.#serverView.state === 'stopped';
    return this.#serverView.state === 'running' && this.#applied === digestOfOrders(orders);
  }

  #succeeded(): void {
    this.#retry.succeed();
    this.#problem = '';
  }

  #aim(isCloning: boolean): void {
    const orders = this.#orders;
    const source = orders?.role === 'Follower' ? orders.source : undefined;
    this.#options.upstream.aim(
      orders === undefined || source === undefined
        ? undefined
        : {
            address: source.address,
            port: source.tunnelPort,
            to: { name: source.name, incarnation: source.incarnation },
            from: this.identity,
            shardUid: orders.shard.uid,
            epoch: orders.epoch,
            generation: orders.generation,
            isCloning,
          },
    );
  }

  async #take(orders: Orders): Promise<OrdersRefusal | undefined> {
    const { promise, configuration } = this.#options;
    const decision = decideOrders(orders, {
      member: this.identity,
      namespace: configuration.namespace,
      shard: configuration.shard,
      promise: promise.current,
      taken: this.#orders,
      hasData: (await this.#data.state()) !== 'absent',
    });
    if (decision.kind === 'refuse') {
      this.#log.warn({ refusal: decision.refusal }, 'orders refused');
      return decision.refusal;
    }
    // First the promise: whatever happens next, nothing older is taken any more.
    await promise.update(() => ({ ...decision.promise, systemIdentifier: promise.current.systemIdentifier }));
    await writeOrders(configuration.paths.orders, orders);
    const before = this.#orders;
    this.#orders = orders;
    if (!decision.isNew) return undefined;
    const { role, epoch, leaderTerm, sequence, generation } = orders;
    this.#log.info({ role, epoch, leaderTerm, sequence, generation }, 'orders taken');
    if (isAnotherWork(before, orders)) {
      this.#confirmation = undefined;
      this.#step.abort();
      this.#aim(false);
    }
    this.#tunnels?.closeUnaccepted();
    this.#retry.succeed();
    this.#wake();
    return undefined;
  }

  #onServerExit({ code, signal, isUnexpected }: ServerExit): void {
    this.#serverView = { state: 'stopped' };
    this.#applied = '';
    this.#confirmation = undefined;
    this.#seen = { at: -Infinity, value: undefined };
    this.#tunnels?.closeAll();
    void this.#session.close();
    if (isUnexpected) {
      this.#restarts += 1;
      this.#problem = `Postgres ended by itself (${code === null ? signal : `exit status ${code}`})`;
      this.#log.error({ code, signal }, 'Postgres ended by itself');
      this.#retry.fail();
    }
    this.#wake();
  }

  /** What Postgres shows, not older than a moment; several who ask at once share one look. */
  #observe(): Promise<PostgresSeen | undefined> {
    const view = this.#serverView;
    if (view.state === 'stopped' || !view.isReady) return Promise.resolve(undefined);
    if (performance.now() - this.#seen.at < SEEN_FRESH_MS) return Promise.resolve(this.#seen.value);
    this.#observing ??= observePostgres(this.#session)
      .catch((error: unknown) => {
        this.#log.debug({ err: error }, 'Postgres could not be asked');
        return undefined;
      })
      .then((value) => {
        this.#seen = { at: performance.now(), value };
        this.#observing = undefined;
        return value;
      });
    return this.#observing;
  }

  #wake(): void {
    this.#isStale = true;
    this.#wakeUp();
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

export const postgresSocketPath = (folder: string, port: number): string => join(folder, `.s.PGSQL.${port}`);
