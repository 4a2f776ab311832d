/**
 * The member: one loop that looks, decides the next step (`plan.ts`) and takes it, until what is there is what the orders
 * say. The API hands it orders and asks it for its status. Interrupted anywhere, it finds its way by looking again.
 * It owns Postgres (`member-postgres.ts`) and says where the tunnels lead; both ends of these are made by `main.ts`.
 * Invariants: orders count once promise and orders are on disk, and only for as long as the promise doesn't outdate them;
 * tunnels that a new promise doesn't allow are closed before anything else happens to the orders that came with it.
 */
import { join } from 'node:path';
import { StartGate } from '#agent/authority/gate.ts';
import { type AuthoritySource, confirmRelease } from '#agent/authority/source.ts';
import type { AgentConfiguration } from '#agent/configuration.ts';
import type { Logger } from '#agent/log.ts';
import { decideOrders, isWithinPromise } from '#agent/orders/decide.ts';
import { writeOrders } from '#agent/orders/store.ts';
import type { ServerExit } from '#agent/postgres/server.ts';
import type { PromiseFile } from '#agent/promise/file.ts';
import type { CredentialsWatch } from '#agent/tls/credentials.ts';
import type { TunnelContext } from '#agent/tunnel/handshake.ts';
import type { TunnelServer } from '#agent/tunnel/server.ts';
import type { Upstream } from '#agent/tunnel/upstream.ts';
import type { MemberIdentity } from '#core/identity.ts';
import { digestOfOrders } from '#core/protocol/digest.ts';
import type { Orders, OrdersRefusal } from '#core/protocol/orders.ts';
import type { AgentPhase, AgentStatus } from '#core/protocol/status.ts';
import { Backoff } from './backoff.ts';
import { MakingData } from './making-data.ts';
import { MemberPostgres } from './member-postgres.ts';
import { type MemberView, nextStep, type Step } from './plan.ts';
import { statusOf } from './status.ts';
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
const READY_POLL_MS = 200;
const CONFIRM_RETRY_MS = 1_000;
const FAILURES_THAT_SHOW = 3;
/** Postgres that has run this long has started well: the next crash is restarted at once again. */
const STEADY_MS = 10_000;
const notApplied = { digest: '', at: 0 };

export class Member {
  readonly #options: MemberOptions;
  readonly #postgres: MemberPostgres;
  readonly #making: MakingData;
  readonly #log: Logger;
  readonly #retry = new Backoff(250, 10_000);
  #tunnels: TunnelServer | undefined;
  #orders: Orders | undefined;
  readonly #gate: StartGate;
  /** Digest of the orders that the running Postgres works by, and since when (monotonic, ms). */
  #applied: { readonly digest: string; readonly at: number } = notApplied;
  #phase: AgentPhase = 'Waiting';
  #problem = '';
  #restarts = 0;
  #taking: Promise<unknown> = Promise.resolve();
  #isStopping = false;
  #running: Promise<void> = Promise.resolve();
  /** Something changed since the last look. */
  #isStale = false;
  #wakeUp: () => void = () => {};
  /** Ends a long step (initialise, clone) whose orders are no longer wanted. */
  #step = new AbortController();

  constructor(options: MemberOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#orders = options.orders;
    this.#gate = new StartGate(options.authority);
    this.#postgres = new MemberPostgres({
      configuration: options.configuration,
      credentials: () => options.credentials.current,
      endStreams: () => void this.#tunnels?.closeStreams(),
      onExit: (exit) => this.#onExit(exit),
      log: options.log,
    });
    this.#making = new MakingData({ ...options, data: this.#postgres.data, env: this.#postgres.env });
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
    const { view } = this.#postgres;
    return !this.#isStopping && view.state === 'running' && view.isReady && view.isOpen;
  }

  /** The server's end of the tunnels is made with `tunnelContext`, hence after the member. */
  use(tunnels: TunnelServer): void {
    this.#tunnels = tunnels;
  }

  tunnelContext(): TunnelContext | undefined {
    const orders = this.#ordersInForce();
    if (orders === undefined) return undefined;
    const { view } = this.#postgres;
    const isOpen = view.state === 'running' && view.as === 'primary' && view.isOpen;
    const isOrdered = orders.role === 'Primary' || orders.role === 'Initialise';
    return {
      member: this.identity,
      shardUid: orders.shard.uid,
      epoch: orders.epoch,
      generation: orders.generation,
      isPrimary: isOrdered && isOpen && this.#gate.confirmedEpoch(isOpen) === orders.epoch,
      isReady: isOpen && view.isReady,
      peers: orders.slots,
    };
  }

  /** Undefined when the orders were taken (and are on disk). */
  takeOrders(orders: Orders): Promise<OrdersRefusal | undefined> {
    return this.#exclusively(() => this.#take(orders));
  }

  async status(): Promise<AgentStatus> {
    const { configuration, promise, credentials, upstream } = this.#options;
    const appliedAt = this.#appliedAt();
    const observation = await this.#postgres.observe(appliedAt);
    const problems = [this.#problem, ...this.#postgres.problems, upstream.problem].filter((text) => text !== '');
    return statusOf({
      member: this.identity,
      region: configuration.region,
      phase: this.#phase,
      problem: problems.join('; '),
      hasData: (await this.#postgres.data.state()) !== 'absent',
      promise: promise.current,
      orders: this.#orders,
      // Other orders may have come while Postgres was asked.
      appliedAt: this.#appliedAt(),
      server: this.#postgres.view,
      observation,
      isWalRemoved: upstream.isWalRemoved,
      clone: this.#making.progress,
      certificateNotAfter: credentials.current.notAfter,
    });
  }

  renewCertificate(): Promise<void> {
    return this.#postgres.renewCertificate();
  }

  run(): Promise<void> {
    this.#running = this.#loop();
    return this.#running;
  }

  /** Bounded by the stop's time limits. Tunnels stay open until Postgres has gone, so that followers get its last WAL. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#step.abort();
    this.#wake();
    await this.#postgres.stop(this.#options.configuration.stopTimeoutMs);
    // The loop may have been about to start it.
    await this.#running.catch(() => undefined);
    await this.#postgres.stop(0);
    await this.#options.upstream.stop();
    await this.#tunnels?.stop();
    await this.#taking;
    await this.#options.promise.close();
  }

  async #loop(): Promise<void> {
    const removed = await this.#postgres.data.removeHalfMade();
    if (removed.length > 0) this.#log.info({ removed }, 'half-made data removed');
    while (!this.#isStopping) {
      const pauseMs = await this.#turn();
      if (pauseMs > 0 && !this.#isStale && !this.#isStopping) await this.#pause(pauseMs);
      this.#isStale = false;
    }
  }

  /** One look and one step. Returns how long to rest before the next. */
  async #turn(): Promise<number> {
    // Between the promise and the orders that came with it there may be none: no reason to stop Postgres.
    await this.#taking;
    const orders = this.#orders;
    let step: Step | undefined;
    try {
      step = nextStep(await this.#look(orders));
      this.#enter(step);
      return await this.#perform(step, orders);
    } catch (error) {
      if (this.#step.signal.aborted) return 0;
      this.#log.warn({ step: step?.kind, err: error }, 'step failed');
      this.#problem = messageOf(error);
      this.#retry.fail();
      return Math.min(LOOK_AGAIN_MS, Math.max(READY_POLL_MS, this.#retry.remainingMs));
    } finally {
      if (this.#step.signal.aborted) this.#step = new AbortController();
    }
  }

  async #look(orders: Orders | undefined): Promise<MemberView> {
    const data = await this.#postgres.data.state();
    const { view } = this.#postgres;
    const isConfigured = orders !== undefined && data !== 'absent';
    return {
      orders,
      data,
      hadData: this.#options.promise.current.systemIdentifier !== '',
      server: view,
      wantedConfiguration: isConfigured ? await this.#postgres.wantedConfiguration(orders) : '',
      confirmedEpoch: this.#gate.confirmedEpoch(view.state === 'running' && view.isOpen),
      isWalRemoved: this.#options.upstream.isWalRemoved,
      retryInMs: this.#retry.remainingMs,
    };
  }

  #enter(step: Step): void {
    const isDelayed = step.kind === 'rest' && step.retryInMs !== undefined;
    const phase = isDelayed && this.#retry.failures >= FAILURES_THAT_SHOW ? 'Failed' : step.phase;
    if (phase !== this.#phase) this.#log.info({ from: this.#phase, to: phase, step: step.kind }, 'phase');
    this.#phase = phase;
    if (step.kind === 'rest' && !isDelayed) this.#problem = step.problem ?? '';
  }

  async #perform(step: Step, orders: Orders | undefined): Promise<number> {
    if (step.kind === 'rest') return Math.min(LOOK_AGAIN_MS, step.retryInMs ?? LOOK_AGAIN_MS);
    if (step.kind === 'stop') {
      this.#log.info({ why: step.why }, 'stopping Postgres');
      await this.#postgres.stop(this.#options.configuration.stopTimeoutMs);
      return 0;
    }
    if (step.kind === 'startOver') return this.#startOver();
    if (orders === undefined) throw new Error(`the step ${step.kind} needs orders`);
    switch (step.kind) {
      case 'confirm':
        return this.#confirm(orders);
      case 'initialise':
        return this.#initialise(orders);
      case 'clone':
        return this.#cloneFromPrimary();
      case 'discard':
        return this.#discard(orders);
      case 'makeStandby':
        await this.#postgres.data.makeStandby();
        return 0;
      case 'start':
        return this.#start(orders, step.as);
      case 'awaitReady':
        return this.#awaitReady();
      case 'reconfigure':
        this.#applied = notApplied;
        await this.#postgres.reconfigure(orders, step.access);
        return 0;
      case 'maintain':
        return this.#maintain(orders);
    }
  }

  async #confirm(orders: Orders): Promise<number> {
    const reason = await this.#gate.confirm(orders, this.identity);
    const problem =
      reason === undefined ? '' : `waiting for the Shard to name this member at epoch ${orders.epoch}: ${reason}`;
    if (reason !== undefined && problem !== this.#problem) this.#log.warn({ reason }, 'authority not confirmed');
    this.#problem = problem;
    return reason === undefined ? 0 : CONFIRM_RETRY_MS;
  }

  async #initialise(orders: Orders): Promise<number> {
    await this.#making.initialise(orders.shard.database, this.#step.signal);
    this.#succeeded();
    return 0;
  }

  async #cloneFromPrimary(): Promise<number> {
    this.#aim(true);
    await this.#making.clone(this.#step.signal);
    this.#succeeded();
    return 0;
  }

  /** Throws the data away, if the record no longer counts this member. Its own orders may be old, and are not enough. */
  async #discard(orders: Orders): Promise<number> {
    const { authority, configuration, promise } = this.#options;
    const wanted = { shardUid: orders.shard.uid, member: this.identity };
    const release = await authority.read().then(
      (shard) => confirmRelease(shard, wanted),
      (error: unknown) => ({ confirmed: false as const, reason: messageOf(error) }),
    );
    if (!release.confirmed) {
      await this.#maintain(orders);
      this.#problem = `the primary no longer has what this data needs, and it is kept: ${release.reason}`;
      return CONFIRM_RETRY_MS;
    }
    await this.#postgres.stop(configuration.stopTimeoutMs);
    const before = promise.current.incarnation;
    await this.#exclusively(() => this.#renew());
    await this.#postgres.data.discard();
    this.#log.warn({ before, incarnation: promise.current.incarnation }, 'data discarded: a new member from here on');
    return 0;
  }

  /** The data has vanished under the agent: who forgot what it acknowledged may not count as who it was. */
  async #startOver(): Promise<number> {
    const { promise } = this.#options;
    await this.#exclusively(async () => {
      if ((await this.#postgres.data.state()) !== 'absent') return;
      await this.#renew();
      this.#log.error({ incarnation: promise.current.incarnation }, 'the data directory is gone: a new member now');
    });
    return 0;
  }

  /**
   * A copy made anew is another member, so the new identity is on disk before the old data goes. Its orders went with the
   * old identity: the operator gives the new one its own. A death in between leaves data that this happens to again.
   */
  async #renew(): Promise<void> {
    await this.#options.promise.renew();
    this.#dropOrders();
  }

  async #start(orders: Orders, as: 'primary' | 'standby'): Promise<number> {
    await this.#making.rememberSystemIdentifier();
    if (as === 'standby') this.#aim(false);
    const isStillWanted = (): boolean => this.#orders === orders && !this.#isStopping;
    if (await this.#postgres.start(orders, as, isStillWanted)) {
      this.#log.info({ as, epoch: orders.epoch }, 'Postgres started');
    }
    return READY_POLL_MS;
  }

  async #awaitReady(): Promise<number> {
    const why = await this.#postgres.whyNotReady();
    this.#problem = why === undefined ? '' : `Postgres takes no connections yet: ${why}`;
    return why === undefined ? 0 : READY_POLL_MS;
  }

  async #maintain(orders: Orders): Promise<number> {
    if (orders.role === 'Follower') this.#aim(false);
    this.#tunnels?.closeUnaccepted();
    const isDone = await this.#postgres.maintainSlots(orders);
    // The look that led here saw the configuration of these very orders in force.
    const digest = digestOfOrders(orders);
    if (isDone && this.#orders === orders && this.#applied.digest !== digest) {
      this.#applied = { digest, at: performance.now() };
    }
    if (this.#postgres.runsForMs > STEADY_MS) this.#retry.succeed();
    this.#problem = '';
    return LOOK_AGAIN_MS;
  }

  /** Since when all is as ordered; undefined while it isn't. */
  #appliedAt(): number | undefined {
    const orders = this.#orders;
    if (orders === undefined) return undefined;
    const isRunning = this.#postgres.view.state === 'running';
    if (orders.role === 'Hold') return isRunning ? undefined : 0;
    return isRunning && this.#applied.digest === digestOfOrders(orders) ? this.#applied.at : undefined;
  }

  #succeeded(): void {
    this.#retry.succeed();
    this.#problem = '';
  }

  /** Streams flow by these alone: a promise, once on disk, ends them whatever becomes of the orders that came with it. */
  #ordersInForce(): Orders | undefined {
    const orders = this.#orders;
    return orders !== undefined && isWithinPromise(orders, this.#options.promise.current) ? orders : undefined;
  }

  #aim(isCloning: boolean): void {
    const orders = this.#ordersInForce();
    if (orders?.role !== 'Follower' || orders.source === undefined) {
      this.#options.upstream.aim(undefined);
      return;
    }
    const { name, incarnation, address, tunnelPort } = orders.source;
    this.#options.upstream.aim({
      address,
      port: tunnelPort,
      to: { name, incarnation },
      from: this.identity,
      shardUid: orders.shard.uid,
      epoch: orders.epoch,
      generation: orders.generation,
      systemIdentifier: this.#options.promise.current.systemIdentifier,
      isCloning,
    });
  }

  async #take(orders: Orders): Promise<OrdersRefusal | undefined> {
    const { promise, configuration } = this.#options;
    const decision = decideOrders(orders, {
      member: this.identity,
      namespace: configuration.namespace,
      shard: configuration.shard,
      promise: promise.current,
      taken: this.#orders,
      hasData: (await this.#postgres.data.state()) !== 'absent',
    });
    if (decision.kind === 'refuse') {
      this.#log.warn({ refusal: decision.refusal }, 'orders refused');
      return decision.refusal;
    }
    // First the promise: whatever happens next, nothing older is taken any more.
    await promise.update(({ systemIdentifier }) => ({ ...decision.promise, systemIdentifier }));
    const before = this.#orders;
    if (this.#ordersInForce() === undefined && before !== undefined) this.#dropOrders();
    try {
      await writeOrders(configuration.paths.orders, orders);
    } catch (error) {
      // The orders before may be gone by now; those after them are not here yet: the operator gives them again.
      this.#wake();
      throw error;
    }
    this.#orders = orders;
    if (!decision.isNew) return undefined;
    const { role, epoch, leaderTerm, sequence, generation } = orders;
    this.#log.info({ role, epoch, leaderTerm, sequence, generation }, 'orders taken');
    // These may be the orders before last again: what is in effect is on its way to the last ones.
    this.#applied = notApplied;
    if (isAnotherWork(before, orders)) {
      this.#gate.forget();
      this.#step.abort();
      this.#aim(false);
    }
    this.#tunnels?.closeUnaccepted();
    this.#retry.succeed();
    this.#wake();
    return undefined;
  }

  /** Of what these orders were for, nothing goes on. */
  #dropOrders(): void {
    this.#orders = undefined;
    this.#applied = notApplied;
    this.#gate.forget();
    this.#step.abort();
    this.#aim(false);
    this.#tunnels?.closeUnaccepted();
  }

  #onExit({ code, signal, isUnexpected }: ServerExit): void {
    this.#applied = notApplied;
    this.#gate.forget();
    this.#tunnels?.closeAll();
    if (isUnexpected) {
      this.#restarts += 1;
      this.#problem = `Postgres ended by itself (${code === null ? signal : `exit status ${code}`})`;
      this.#log.error({ code, signal }, 'Postgres ended by itself');
      this.#retry.fail();
    }
    this.#wake();
  }

  /** Orders are taken one at a time, and never while the identity that they name changes. */
  #exclusively<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#taking.then(work);
    this.#taking = result.catch(() => undefined);
    return result;
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

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
