/**
 * Takes the steps that `plan.ts` names. Each looks at nothing but what it needs, and leaves behind only what the next look
 * finds: a step that fails, or is interrupted, is decided anew.
 * Invariants: the dead man's handle is armed before Postgres starts as primary or is promoted, and let go only when none of
 * its processes is left; what is asked last before either is whether the orders are still the same, and in force, and whether
 * the handle is still the one that was armed for it.
 */
import { confirmRelease } from '#agent/authority/source.ts';
import { positionOnDisk } from '#agent/rejoin/position.ts';
import { Receivers } from '#agent/rejoin/receivers.ts';
import { prepareTimeline } from '#agent/rejoin/timelines.ts';
import { digestOfOrders } from '#core/protocol/digest.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { MemberParts } from './parts.ts';
import type { Step } from './plan.ts';
import { isAnotherWork } from './work.ts';

const LOOK_AGAIN_MS = 1_000;
const READY_POLL_MS = 50;
const CONFIRM_RETRY_MS = 1_000;
/** Postgres that has run this long has started well: the next crash is restarted at once again. */
const STEADY_MS = 10_000;
const notApplied = { digest: '', at: 0 };

export interface StepsOptions {
  readonly parts: MemberParts;
  /** Orders are taken one at a time, and never while the identity that they name changes. */
  readonly exclusively: <Result>(work: () => Promise<Result>) => Promise<Result>;
  /** Another identity: the orders that went with the one before are gone. */
  readonly onRenewed: () => void;
  readonly isStopping: () => boolean;
}

export class Steps {
  readonly #parts: MemberParts;
  readonly #options: StepsOptions;
  /** Digest of the orders that the running Postgres works by, and since when (monotonic, ms). */
  #applied: { readonly digest: string; readonly at: number } = notApplied;
  readonly #receivers = new Receivers();
  /** What stands in the way, for people. */
  problem = '';

  constructor(options: StepsOptions) {
    this.#options = options;
    this.#parts = options.parts;
  }

  /** Nothing is known to be in effect any more. */
  forgetApplied(): void {
    this.#applied = notApplied;
  }

  /** Since when all is as ordered; undefined while it isn't. */
  get appliedAt(): number | undefined {
    const { standing, postgres, lease } = this.#parts;
    const orders = standing.inForce;
    if (orders === undefined) return undefined;
    const isRunning = postgres.view.state === 'running';
    if (orders.role === 'Hold') return isRunning ? undefined : 0;
    const isDone = isRunning && lease.isInForce && this.#applied.digest === digestOfOrders(orders);
    return isDone ? this.#applied.at : undefined;
  }

  /** Returns how long to rest before the next look. `orders`: as they were looked at. `signal` ends a long step whose orders are no longer wanted. */
  async take(step: Step, orders: Orders | undefined, signal: AbortSignal): Promise<number> {
    const { postgres, lease, options } = this.#parts;
    switch (step.kind) {
      case 'rest':
        return Math.min(LOOK_AGAIN_MS, step.retryInMs ?? LOOK_AGAIN_MS);
      case 'stop':
        return this.#stop(step);
      case 'disarm':
        await postgres.clearLeftovers();
        await lease.disarm();
        return 0;
      case 'startOver':
        return this.#startOver();
      case 'makeStandby':
        await postgres.data.makeStandby();
        return 0;
      case 'awaitReady':
        return this.#awaitReady();
      default:
        if (orders === undefined) throw new Error(`the step ${step.kind} needs orders`);
    }
    switch (step.kind) {
      case 'confirm':
        return this.#confirm(orders);
      case 'initialise':
        await this.#parts.making.initialise(orders.shard.database, signal);
        return this.#succeeded();
      case 'clone':
        this.aim('cloning');
        await this.#parts.making.clone(signal);
        return this.#succeeded();
      case 'assess':
        return this.#assess(orders);
      case 'rewind':
        this.aim('rewinding');
        await this.#parts.rejoining.rewind(orders, signal);
        return 0;
      case 'discard':
        return this.#discard(orders);
      case 'start':
        return this.#start(orders, step.as);
      case 'promote':
        return this.#promote(orders);
      case 'beginOpening':
        this.#parts.commits.begin(orders);
        return 0;
      case 'reconfigure':
        this.#applied = notApplied;
        await postgres.reconfigure(orders, step.access);
        if (step.access === 'open') options.log.info({ epoch: orders.epoch, role: orders.role }, 'in force');
        return 0;
      case 'maintain':
        return this.#maintain(orders, step.phase === 'Opening');
    }
  }

  /** Where this member's Postgres finds its log: nowhere, unless the orders in force name a source. */
  aim(use: 'following' | 'cloning' | 'rewinding' = 'following'): void {
    const { standing, options } = this.#parts;
    const orders = standing.inForce;
    if (orders?.role !== 'Follower' || orders.source === undefined) {
      options.upstream.aim(undefined);
      return;
    }
    const { name, incarnation, address, tunnelPort } = orders.source;
    this.#receivers.begin();
    options.upstream.aim({
      address,
      port: tunnelPort,
      to: { name, incarnation },
      from: standing.identity,
      shardUid: orders.shard.uid,
      epoch: orders.epoch,
      generation: orders.generation,
      systemIdentifier: options.promise.current.systemIdentifier,
      isCloning: use === 'cloning',
      isRewinding: use === 'rewinding',
    });
  }

  /** With the upstream aimed nowhere: waits until nothing is written any more that was received before. */
  receiversGone(): Promise<boolean> {
    return this.#receivers.gone();
  }

  async #stop({ why, mode }: Extract<Step, { kind: 'stop' }>): Promise<number> {
    const { postgres, commits, options } = this.#parts;
    options.log.info({ why, mode }, 'stopping Postgres');
    commits.end();
    await postgres.stop(mode === 'fast' ? options.configuration.stopTimeoutMs : 0);
    return 0;
  }

  async #assess(orders: Orders): Promise<number> {
    const { postgres, rejoining } = this.#parts;
    const { view } = postgres;
    if (view.state === 'running' && !view.isReady) await rejoining.assessRecovering(orders);
    else await rejoining.assess(orders, await this.#replayed());
    return 0;
  }

  async #confirm(orders: Orders): Promise<number> {
    const { gate, standing, lease, options } = this.#parts;
    const reason = await gate.confirm(orders, standing.identity);
    if (reason !== undefined && gate.isUnreadable && lease.isHeldFor(orders)) {
      options.log.info({ reason, epoch: orders.epoch }, 'the record is away: confirmed by the grants of followers');
      gate.confirmByGrants(orders.epoch);
      this.problem = '';
      return 0;
    }
    const problem =
      reason === undefined ? '' : `waiting for the Shard to name this member at epoch ${orders.epoch}: ${reason}`;
    if (reason !== undefined && problem !== this.problem) options.log.warn({ reason }, 'authority not confirmed');
    this.problem = problem;
    return reason === undefined ? 0 : CONFIRM_RETRY_MS;
  }

  /** Throws the data away, if the record no longer counts this member. Its own orders may be old, and are not enough. */
  async #discard(orders: Orders): Promise<number> {
    const { options, postgres, standing, rejoining } = this.#parts;
    const { authority, configuration, log } = options;
    const wanted = { shardUid: orders.shard.uid, member: standing.identity };
    const release = await authority.read().then(
      (shard) => confirmRelease(shard, wanted),
      (error: unknown) => ({ confirmed: false as const, reason: messageOf(error) }),
    );
    if (!release.confirmed) {
      if (postgres.view.state === 'running') await this.#maintain(orders, false);
      this.problem = `the primary no longer has what this data needs, and it is kept: ${release.reason}`;
      return CONFIRM_RETRY_MS;
    }
    await postgres.stop(configuration.stopTimeoutMs);
    const before = standing.identity.incarnation;
    await this.#options.exclusively(() => this.#renew());
    await postgres.data.discard();
    await rejoining.dropNotes();
    log.warn({ before, incarnation: standing.identity.incarnation }, 'data discarded: a new member from here on');
    return 0;
  }

  /** The data has vanished under the agent: who forgot what it acknowledged may not count as who it was. */
  async #startOver(): Promise<number> {
    const { postgres, options, standing, rejoining } = this.#parts;
    await this.#options.exclusively(async () => {
      if ((await postgres.data.state()) !== 'absent') return;
      await this.#renew();
      await rejoining.dropNotes();
      options.log.error({ incarnation: standing.identity.incarnation }, 'the data directory is gone: a new member now');
    });
    return 0;
  }

  /**
   * A copy made anew is another member, so the new identity is on disk before the old data goes. Its orders went with the
   * old identity: the operator gives the new one its own. A death in between leaves data that this happens to again.
   */
  async #renew(): Promise<void> {
    await this.#parts.standing.renew();
    this.#options.onRenewed();
  }

  async #start(orders: Orders, as: 'primary' | 'standby'): Promise<number> {
    const { making, postgres, lease, commits, options, standing, rejoining } = this.#parts;
    await making.rememberSystemIdentifier();
    if (await rejoining.isBegun()) throw new Error('a rejoin of this data was begun and has not ended');
    if (as === 'standby') this.aim();
    commits.end();
    const arming = as === 'primary' ? await lease.arm() : undefined;
    // A fenced standby starts by its former orders; a primary whose fence was answered meanwhile must not.
    const mayBegin = (): boolean =>
      arming === undefined
        ? !isAnotherWork(standing.inForce ?? standing.former, orders)
        : !isAnotherWork(standing.inForce, orders) && lease.standsBy(arming);
    const isStillWanted = (): boolean => mayBegin() && !this.#options.isStopping();
    if (!(await postgres.start(orders, as, isStillWanted))) return READY_POLL_MS;
    if (as === 'primary' && postgres.pid !== undefined) lease.setPostmaster(postgres.pid);
    // Found out from what is down, or from the start before: it is asked again of what runs now.
    if (rejoining.view(orders)?.kind === 'Unknown' || rejoining.view(orders)?.kind === 'Misled') rejoining.forget();
    options.log.info({ as, epoch: orders.epoch }, 'Postgres started');
    return READY_POLL_MS;
  }

  async #awaitReady(): Promise<number> {
    const why = await this.#parts.postgres.whyNotReady();
    this.problem = why === undefined ? '' : `Postgres takes no connections yet: ${why}`;
    return why === undefined ? 0 : READY_POLL_MS;
  }

  /** Where it fails nobody knows what Postgres is by then: it is stopped, and found again by what is on disk. */
  async #promote(orders: Orders): Promise<number> {
    const { postgres, lease, commits, options } = this.#parts;
    const begunAt = performance.now();
    commits.end();
    this.aim();
    const { pid } = postgres;
    if (pid === undefined) return 0;
    const arming = await lease.arm(pid);
    try {
      await postgres.promote(orders, () => this.#lastBeforePromotion(orders, arming));
    } catch (error) {
      await postgres.stop(0);
      throw error;
    }
    const tookMs = Math.round(performance.now() - begunAt);
    options.log.info({ epoch: orders.epoch, timeline: orders.timeline, tookMs }, 'promoted');
    return 0;
  }

  async #lastBeforePromotion(orders: Orders, arming: number): Promise<void> {
    const { postgres, lease, standing, gate, patience, options } = this.#parts;
    if (!(await this.receiversGone())) throw new Error('a WAL receiver does not end');
    const { data } = postgres;
    const replayed = await this.#replayed();
    if (orders.timeline > 0) {
      const since = replayed === undefined ? {} : { replayed };
      const { timeline } = await positionOnDisk(data, options.configuration.paths.rejoin, since);
      await prepareTimeline(data, { timeline, wanted: orders.timeline });
    }
    const isConfirmed = gate.confirmedEpoch(false) === orders.epoch;
    const mayRun = lease.standsBy(arming) && (lease.isHeld || patience.isTiredOfWaiting);
    if (isAnotherWork(standing.inForce, orders) || !isConfirmed || !mayRun || this.#options.isStopping()) {
      throw new Error('the authority to promote has gone meanwhile');
    }
  }

  /** What a running standby has replayed. */
  async #replayed(): Promise<string | undefined> {
    const { postgres } = this.#parts;
    const { view } = postgres;
    if (view.state === 'stopped' || !view.isReady || view.as === 'primary') return undefined;
    return postgres.replayed();
  }

  async #maintain(orders: Orders, isOpening: boolean): Promise<number> {
    const { tunnels, postgres, commits, retry } = this.#parts;
    if (orders.role === 'Follower') this.aim();
    tunnels()?.closeUnaccepted();
    const isDone = await postgres.maintainSlots(orders);
    // The look that led here saw the configuration of these very orders in force.
    const digest = digestOfOrders(orders);
    if (isDone && this.#applied.digest !== digest) {
      this.#applied = { digest, at: performance.now() };
    }
    if (postgres.runsForMs > STEADY_MS) retry.succeed();
    const { acknowledgements } = orders.synchronous;
    const waits = `waiting for ${acknowledgements} followers to have the commit that opens this primary`;
    this.problem = isOpening ? commits.problem || waits : '';
    return LOOK_AGAIN_MS;
  }

  #succeeded(): number {
    this.#parts.retry.succeed();
    this.#parts.rejoining.forget();
    this.problem = '';
    return 0;
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
