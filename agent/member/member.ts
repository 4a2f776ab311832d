/**
 * The member: one loop that looks, decides the next step (`plan.ts`) and takes it (`steps.ts`), until what is there is what
 * the orders say. The API hands it orders and fences, and asks it for its status and for its authority. Interrupted anywhere,
 * it finds its way by looking again. It owns Postgres (`member-postgres.ts`) and says where the tunnels lead and what is
 * leased; the other ends of these are made by `main.ts`.
 * Invariants: orders count once promise and orders are on disk, and only for as long as the promise doesn't outdate them;
 * tunnels and leases that a new promise doesn't allow end before anything else happens to the orders that came with it.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { StartGate } from '#agent/authority/gate.ts';
import type { ServerExit } from '#agent/postgres/server.ts';
import { positionOnDisk } from '#agent/rejoin/position.ts';
import type { TunnelContext } from '#agent/tunnel/handshake.ts';
import type { TunnelServer } from '#agent/tunnel/server.ts';
import { bootTimeMs, bootTimeResolutionMs } from '#clock/boot-time.ts';
import type { MemberIdentity } from '#core/identity.ts';
import type { AuthorityAnswer, AuthorityQuestion, FenceQuestion } from '#core/protocol/authority.ts';
import type { Orders, OrdersRefusal } from '#core/protocol/orders.ts';
import type { AgentPhase, AgentStatus } from '#core/protocol/status.ts';
import { AuthorityAnswers } from './authority-answer.ts';
import { type AuthoritySeen, authorityFactsOf, routerFactsOf } from './authority-facts.ts';
import { Backoff } from './backoff.ts';
import { Commits } from './commits.ts';
import { type FenceOutcome, Fencing, type PositionSeen } from './fencing.ts';
import { HandOver } from './handover.ts';
import { LeaseDuty, leaseWishOf } from './lease-duty.ts';
import { lookAt, patienceViewOf } from './look.ts';
import { MakingData } from './making-data.ts';
import { MemberPostgres } from './member-postgres.ts';
import type { MemberOptions, MemberParts } from './parts.ts';
import { Patience } from './patience.ts';
import { nextStep, type Step } from './plan.ts';
import { Rejoining } from './rejoining.ts';
import { Routers } from './routers.ts';
import { StandingOrders } from './standing-orders.ts';
import { statusOf } from './status.ts';
import { Steps } from './steps.ts';
import { isAnotherWork } from './work.ts';

const LOOK_AGAIN_MS = 1_000;
const FAILED_POLL_MS = 50;
const FAILURES_THAT_SHOW = 3;
const SERVING_SAID_MS = 200;

export class Member {
  readonly #options: MemberOptions;
  readonly #parts: MemberParts;
  readonly #steps: Steps;
  readonly #fencing: Fencing;
  readonly #routers = new Routers();
  readonly #authority: AuthorityAnswers;
  readonly #bornAt = bootTimeMs();
  #tunnels: TunnelServer | undefined;
  #phase: AgentPhase = 'Waiting';
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
    const { log, configuration, credentials, lease, authority } = options;
    const wake = (): void => this.#wake();
    const postgres = new MemberPostgres({
      configuration,
      credentials: () => credentials.current,
      endStreams: () => void this.#tunnels?.closeStreams(),
      onExit: (exit) => this.#onExit(exit),
      onShut: () => this.#authority.wake(),
      log,
    });
    const commits = new Commits({
      connect: (database, onCancelledWait) => postgres.connect(database, onCancelledWait),
      session: postgres.session,
      onChange: wake,
      log,
    });
    const handOver = new HandOver({
      routers: this.#routers,
      endCommits: () => commits.end(),
      closeTunnels: () => void this.#tunnels?.closeAll(),
      // Its target may have all of it though another follower doesn't answer; a crash would leave it without the end.
      stopPostgres: (fastMs, onShutdown) => postgres.stop(fastMs, 'fast', onShutdown),
      log,
    });
    const parts: MemberParts = {
      options,
      standing: new StandingOrders(options),
      postgres,
      making: new MakingData({ ...options, data: postgres.data, env: postgres.env }),
      rejoining: new Rejoining({ data: postgres.data, configuration, log }),
      gate: new StartGate(authority),
      lease: new LeaseDuty(lease, wake),
      commits,
      handOver,
      patience: new Patience(),
      retry: new Backoff(250, 10_000),
      tunnels: () => this.#tunnels,
    };
    this.#parts = parts;
    const exclusively = <Result>(work: () => Promise<Result>): Promise<Result> => this.#exclusively(work);
    this.#steps = new Steps({
      parts,
      exclusively,
      onRenewed: () => this.#onRenewed(),
      isStopping: () => this.#isStopping,
    });
    this.#fencing = new Fencing({
      standing: parts.standing,
      exclusively,
      endLease: (handover) => this.#endLease(handover),
      onPromised: (handover) => this.#onPromised(handover),
      position: () => this.#position(),
      grantRemainingMs: () => lease.grantRemainingMs(),
    });
    this.#authority = new AuthorityAnswers(() => this.#authorityFacts());
    lease.onLost((reason) => this.#onLeaseLost(reason));
  }

  get identity(): MemberIdentity {
    return this.#parts.standing.identity;
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
    const { view } = this.#parts.postgres;
    return !this.#isStopping && view.state === 'running' && view.isReady && view.isOpen;
  }

  /** The server's end of the tunnels is made with `tunnelContext`, hence after the member. */
  use(tunnels: TunnelServer): void {
    this.#tunnels = tunnels;
  }

  /** Followers may stream and copy from a primary behind its opening gate, and while it is handed over. */
  tunnelContext(): TunnelContext | undefined {
    const { standing, postgres, gate, handOver } = this.#parts;
    const { inForce, former } = standing;
    const orders = inForce ?? former;
    if (orders === undefined) return undefined;
    const { view } = postgres;
    const isUp = view.state === 'running' && view.isReady;
    const isStanding = inForce !== undefined || handOver.isRunning;
    const isOrdered = orders.role === 'Primary' || orders.role === 'Initialise';
    return {
      member: this.identity,
      shardUid: orders.shard.uid,
      epoch: isStanding ? orders.epoch : standing.promise.epoch,
      generation: orders.generation,
      isPrimary: isStanding && isOrdered && this.#runsAsPrimary && gate.confirmedEpoch(true) === orders.epoch,
      isFenced: !isStanding && isUp && !this.#runsAsPrimary,
      isReady: isUp,
      peers: orders.slots,
    };
  }

  /** Undefined when the orders were taken (and are on disk). */
  takeOrders(orders: Orders): Promise<OrdersRefusal | undefined> {
    return this.#exclusively(() => this.#take(orders));
  }

  fence(question: FenceQuestion): Promise<FenceOutcome> {
    return this.#fencing.fence(question);
  }

  async authority(question: AuthorityQuestion): Promise<AuthorityAnswer> {
    if (question.router === undefined) return this.#authority.answer(question);
    const receivedAt = bootTimeMs() + bootTimeResolutionMs;
    this.#routers.hear(question.router);
    await this.#authority.answer(question);
    const { inForce, former } = this.#parts.standing;
    const position = await this.#parts.postgres.position(inForce ?? former);
    // After the look: a lease that is held now was held when it began.
    const answer = this.#authority.now();
    return { ...answer, ...routerFactsOf(inForce, answer.state, position, receivedAt) };
  }

  async status(): Promise<AgentStatus> {
    const { configuration, promise, credentials, upstream } = this.#options;
    const { standing, postgres, making, rejoining } = this.#parts;
    const observation = await postgres.observe(this.#steps.appliedAt);
    const problems = [this.#steps.problem, ...postgres.problems, upstream.problem].filter((text) => text !== '');
    return statusOf({
      member: this.identity,
      region: configuration.region,
      phase: this.#phase,
      problem: problems.join('; '),
      hasData: (await postgres.data.state()) !== 'absent',
      promise: promise.current,
      orders: standing.inForce,
      // Other orders may have come while Postgres was asked.
      appliedAt: this.#steps.appliedAt,
      server: postgres.view,
      observation,
      isWalRemoved: upstream.isWalRemoved,
      clone: making.progress,
      diverged: rejoining.diverged,
      rejoined: rejoining.rejoined,
      certificateNotAfter: credentials.current.notAfter,
    });
  }

  /** What the status doesn't show, for the metrics. */
  async authoritySeen(): Promise<AuthoritySeen> {
    const { lease, commits, gate } = this.#parts;
    const confirmedEpoch = gate.confirmedEpoch(true);
    return { ...(await lease.seen()), confirmedEpoch, opening: commits.opening, fences: this.#fencing.taken };
  }

  renewCertificate(): Promise<void> {
    return this.#parts.postgres.renewCertificate();
  }

  run(): Promise<void> {
    this.#running = this.#loop();
    return this.#running;
  }

  /** Bounded by the stop's time limits. Tunnels stay open until Postgres has gone, so that followers get its last WAL. */
  async stop(): Promise<void> {
    const { postgres, lease, commits } = this.#parts;
    this.#isStopping = true;
    this.#step.abort();
    this.#wake();
    commits.end();
    await postgres.stop(this.#options.configuration.stopTimeoutMs);
    // The loop may have been about to start it.
    await this.#running.catch(() => undefined);
    await postgres.stop(0);
    await postgres.clearLeftovers();
    if (lease.isArmed) await lease.disarm();
    await this.#options.upstream.stop();
    await this.#tunnels?.stop();
    await this.#taking;
    await this.#options.lease.close();
    await this.#options.promise.close();
  }

  async #loop(): Promise<void> {
    const { postgres, commits } = this.#parts;
    const removed = await postgres.data.removeHalfMade();
    if (removed.length > 0) this.#options.log.info({ removed }, 'half-made data removed');
    const saying = setInterval(() => {
      this.#options.lease.setServing(commits.isServing);
      this.#losePatience();
    }, SERVING_SAID_MS);
    try {
      while (!this.#isStopping) {
        const pauseMs = await this.#turn();
        if (pauseMs > 0 && !this.#isStale && !this.#isStopping) await this.#pause(pauseMs);
        this.#isStale = false;
      }
    } finally {
      clearInterval(saying);
    }
  }

  /** One look and one step. Returns how long to rest before the next. */
  async #turn(): Promise<number> {
    const { retry } = this.#parts;
    // Between the promise and the orders that came with it there may be none: no reason to stop Postgres.
    await this.#taking;
    let step: Step | undefined;
    try {
      await this.#exclusively(() => this.#keepLease());
      const view = await lookAt(this.#parts);
      step = nextStep(view);
      this.#enter(step);
      const pauseMs = await this.#steps.take(step, view.orders ?? view.former, this.#step.signal);
      this.#authority.wake();
      return pauseMs;
    } catch (error) {
      if (this.#step.signal.aborted) return 0;
      this.#options.log.warn({ step: step?.kind, err: error }, 'step failed');
      this.#steps.problem = error instanceof Error ? error.message : String(error);
      retry.fail();
      return Math.min(LOOK_AGAIN_MS, Math.max(FAILED_POLL_MS, retry.remainingMs));
    } finally {
      if (this.#step.signal.aborted) this.#step = new AbortController();
    }
  }

  /** Beside the loop, whose step may be what doesn't come to an end. */
  #losePatience(): void {
    const { patience } = this.#parts;
    const before = patience.release;
    patience.look(patienceViewOf(this.#parts));
    if (patience.release === before) return;
    this.#options.log.warn({ before, release: patience.release }, 'released');
    if (patience.release !== 'none') this.#endPrimary();
    this.#authority.wake();
    this.#wake();
  }

  #enter(step: Step): void {
    const isDelayed = step.kind === 'rest' && step.retryInMs !== undefined && step.problem === undefined;
    const phase = isDelayed && this.#parts.retry.failures >= FAILURES_THAT_SHOW ? 'Failed' : step.phase;
    if (phase !== this.#phase) this.#options.log.info({ from: this.#phase, to: phase, step: step.kind }, 'phase');
    this.#phase = phase;
    if (step.kind === 'rest' && !isDelayed) this.#steps.problem = step.problem ?? '';
  }

  async #keepLease(): Promise<void> {
    const { standing, lease, handOver, patience, postgres } = this.#parts;
    // First it is shown that nothing of Postgres is left; then what it stood by may go.
    if (lease.isArmed && postgres.view.state === 'stopped') return;
    const orders = standing.inForce ?? (handOver.isRunning ? standing.former : undefined);
    // One that only lacks its lease goes on asking for it.
    await lease.keep(leaseWishOf(orders, patience.release === 'Postgres'));
  }

  async #take(orders: Orders): Promise<OrdersRefusal | undefined> {
    const { standing, postgres, lease, gate, retry, patience } = this.#parts;
    const hasData = (await postgres.data.state()) !== 'absent';
    let taken: Awaited<ReturnType<StandingOrders['take']>>;
    try {
      taken = await standing.take(orders, hasData, async () => {
        // The same primary at another epoch stands by its lease until it has the next (docs/design-traps.md, A12).
        if (!this.#runsAsPrimary || orders.role !== 'Primary') await lease.keep({ kind: 'none' });
        this.#endWork();
      });
    } catch (error) {
      this.#wake();
      throw error;
    }
    if (taken.kind === 'refused') return taken.refusal;
    if (!taken.isNew) return undefined;
    const { role, epoch, leaderTerm, sequence, generation, takeover } = orders;
    this.#options.log.info({ role, epoch, leaderTerm, sequence, generation, takeover }, 'orders taken');
    // These may be the orders before last again: what is in effect is on its way to the last ones.
    this.#steps.forgetApplied();
    if (isAnotherWork(taken.before, orders)) {
      gate.forget();
      patience.forget();
      this.#step.abort();
      this.#steps.aim();
    }
    this.#tunnels?.closeUnaccepted();
    retry.succeed();
    // The grants of whoever follows are what a new primary waits for.
    await this.#keepLease();
    this.#wake();
    return undefined;
  }

  /** Of what the orders in force were for, nothing goes on. */
  #endWork(): void {
    this.#steps.forgetApplied();
    this.#parts.gate.forget();
    this.#step.abort();
    this.#steps.aim();
    this.#tunnels?.closeUnaccepted();
  }

  #onRenewed(): void {
    this.#endWork();
    this.#options.lease.renewIdentity(this.identity);
  }

  get #runsAsPrimary(): boolean {
    const { view } = this.#parts.postgres;
    return view.state === 'running' && view.as === 'primary';
  }

  /** A primary that is handed over keeps its lease to its end. */
  async #endLease(handover: boolean): Promise<void> {
    const { lease, handOver } = this.#parts;
    const isHandedOver = this.#runsAsPrimary && (handover || handOver.isRunning);
    if (!isHandedOver) await lease.keep({ kind: 'none' });
  }

  #onPromised(handover: boolean): void {
    const { standing, handOver, postgres, commits } = this.#parts;
    const { former } = standing;
    if (this.#runsAsPrimary && former !== undefined && (handover || handOver.isRunning)) {
      handOver.begin(former.epoch);
    } else if (former !== undefined) {
      this.#endWork();
      if (this.#runsAsPrimary) {
        commits.end();
        void postgres.stop(0);
      }
    }
    this.#authority.wake();
    this.#wake();
  }

  /** Of a fenced member; nothing writes its log any more. */
  async #position(): Promise<PositionSeen> {
    const { postgres, lease, standing } = this.#parts;
    while (this.#runsAsPrimary || (lease.isArmed && !this.#isStopping)) await pause(10);
    const isShipped = standing.inForce?.ship === true;
    if (!isShipped && !(await this.#steps.receiversGone())) {
      return { kind: 'busy', problem: 'a WAL receiver does not end' };
    }
    const { view } = postgres;
    const isUp = view.state === 'running' && view.isReady;
    const replayed = isUp ? await postgres.replayed().catch(() => undefined) : undefined;
    const { paths } = this.#options.configuration;
    const seen = await positionOnDisk(postgres.data, paths.rejoin, replayed === undefined ? {} : { replayed });
    return { kind: 'known', ...seen };
  }

  #authorityFacts(): ReturnType<typeof authorityFactsOf> {
    const { standing, postgres, handOver, patience, gate, lease, commits } = this.#parts;
    const { walHeardAt } = this.#options.upstream;
    return authorityFactsOf({
      member: this.identity,
      region: this.#options.configuration.region,
      promise: standing.promise,
      promiseAgeMs: standing.promiseAgeMs,
      agentAgeMs: Math.max(0, bootTimeMs() - this.#bornAt),
      orders: standing.inForce,
      former: standing.former,
      server: postgres.view,
      isHandingOver: handOver.isRunning,
      isReleased: patience.release !== 'none' && postgres.view.state === 'stopped' && !lease.isArmed,
      isServing: commits.isServing,
      seen: gate.seen,
      lease: this.#options.lease,
      walHeardMs: walHeardAt === undefined ? null : Math.max(0, bootTimeMs() - walHeardAt),
    });
  }

  /** Process 1 ends Postgres 50 ms from now, whatever we do; this is the end that is seen in the log. */
  #onLeaseLost(reason: string): void {
    this.#options.log.error({ reason }, 'lease lost: Postgres is stopped');
    this.#endPrimary();
  }

  /** At once, and shown: nothing of it is left when the handle is let go. */
  #endPrimary(): void {
    const { commits, postgres, lease } = this.#parts;
    // What is being prepared on this lease at the moment must not start when nothing watches it any more.
    const arming = lease.condemn();
    commits.end();
    const end = async (): Promise<void> => {
      await postgres.stop(0);
      await postgres.clearLeftovers();
      await lease.disarm(arming);
    };
    // Process 1 does it where we don't.
    end().catch((error: unknown) => this.#options.log.error({ err: error }, 'Postgres could not be ended'));
  }

  #onExit({ code, signal, isUnexpected }: ServerExit): void {
    const { gate, commits, handOver, patience, retry } = this.#parts;
    this.#steps.forgetApplied();
    gate.forget();
    commits.end();
    handOver.end();
    this.#tunnels?.closeAll();
    if (isUnexpected) {
      this.#restarts += 1;
      this.#steps.problem = `Postgres ended by itself (${code === null ? signal : `exit status ${code}`})`;
      this.#options.log.error({ code, signal }, 'Postgres ended by itself');
      retry.fail();
      patience.startFailed();
    }
    this.#authority.wake();
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
