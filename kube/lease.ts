/**
 * Leader election by a Lease, so that at most one operator acts. The numbers are those of Kubernetes' own components: a lease
 * is 15 s, its holder stops acting 10 s after its last renewal began, everybody tries every 2 s.
 * Invariants: another's lease is judged by how long *we* have seen it unchanged, never by comparing clocks; every acquisition has
 * a greater term (`leaseTransitions`) than all before it, also by the same pod, also after somebody deleted the Lease.
 * Leaves to others: what the leader does. A leader that was frozen may still have a request under way, so all that matters is
 * compare-and-swap by resourceVersion or carries the term.
 * Source: Kubernetes documentation, "Leases".
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeApi } from './client.ts';
import { ApiError, isConflict } from './errors.ts';
import { type Lease, leases } from './kinds.ts';
import type { Stored } from './objects.ts';

export interface ElectionOptions {
  readonly api: KubeApi;
  readonly namespace: string;
  readonly name: string;
  /**
   * The pod's name: unique to this instance, the same after its container restarts. Then the process before us is surely dead and
   * its lease is ours to take at once.
   */
  readonly instance: string;
  readonly leaseMs?: number;
  readonly renewDeadlineMs?: number;
  readonly retryMs?: number;
  readonly onTrouble?: (error: unknown) => void;
  /** Told when another holder is seen. */
  readonly onNewLeader?: (holder: string) => void;
}

export interface Leadership {
  /** `leaseTransitions` of the Lease: greater than in every term before. */
  readonly term: number;
  readonly identity: string;
  /** Aborts when the lease may no longer be ours, or the election is being ended. */
  readonly signal: AbortSignal;
  /** Whether the last renewal is younger than the deadline: ask right before acting. */
  isHeld(): boolean;
  /** Ends this term as soon as what is under way allows, for somebody better placed; we don't stand again for so long. */
  resign(standAsideMs: number): void;
}

interface Held {
  readonly lease: Stored<Lease>;
  /** On our monotonic clock, when the renewal was *sent*. */
  readonly renewedAtMs: number;
}

export class LeaderElection {
  readonly #options: Required<Pick<ElectionOptions, 'leaseMs' | 'renewDeadlineMs' | 'retryMs'>> & ElectionOptions;
  readonly #identity: string;
  #seen: { readonly resourceVersion: string; readonly atMs: number } | undefined;
  #lastHolder: string | undefined;
  /** On our monotonic clock: until then the lease is another's to take. */
  #asideUntilMs = 0;

  constructor(options: ElectionOptions) {
    this.#options = { leaseMs: 15_000, renewDeadlineMs: 10_000, retryMs: 2_000, ...options };
    this.#identity = `${options.instance}_${randomBytes(6).toString('hex')}`;
  }

  get identity(): string {
    return this.#identity;
  }

  /** Pod of the holder that was seen last, of ourselves too; it may be gone by now. */
  get leader(): string | undefined {
    return this.#lastHolder?.slice(0, this.#lastHolder.lastIndexOf('_'));
  }

  /**
   * Waits to be leader, calls `lead`, and again after each loss, until `signal` aborts. `lead` must end soon after its
   * leadership's signal aborts: the lease is renewed until it has ended, and then given up, so that the next one need not wait.
   */
  async run(signal: AbortSignal, lead: (leadership: Leadership) => Promise<void>): Promise<void> {
    while (!signal.aborted) {
      const held = await this.#acquire(signal);
      if (held !== undefined) await this.#serve(held, signal, lead);
    }
  }

  async #acquire(signal: AbortSignal): Promise<Held | undefined> {
    while (!signal.aborted) {
      try {
        const held = await this.#tryAcquire();
        if (held !== undefined) return held;
      } catch (error) {
        // A conflict is another candidate being quicker.
        if (!isConflict(error)) this.#options.onTrouble?.(error);
      }
      await sleep(this.#options.retryMs * (0.9 + Math.random() * 0.2), undefined, { signal }).catch(() => undefined);
    }
    return undefined;
  }

  async #tryAcquire(): Promise<Held | undefined> {
    const { api, namespace, name } = this.#options;
    const present = await api.of(leases).find({ namespace, name });
    const sentAtMs = performance.now();
    if (present === undefined) {
      const lease = await api.of(leases).create({
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { namespace, name },
        spec: this.#spec(new Date(), firstTerm(new Date())),
      });
      return { lease, renewedAtMs: sentAtMs };
    }
    const holder = present.spec?.holderIdentity ?? '';
    this.#noteHolder(holder);
    if (!this.#isFree(present, holder) || performance.now() < this.#asideUntilMs) return undefined;
    const now = new Date();
    const lease = await api
      .of(leases)
      .update({ ...present, spec: this.#spec(now, (present.spec?.leaseTransitions ?? 0) + 1) });
    return { lease, renewedAtMs: sentAtMs };
  }

  #isFree(lease: Stored<Lease>, holder: string): boolean {
    const { resourceVersion } = lease.metadata;
    if (this.#seen?.resourceVersion !== resourceVersion) this.#seen = { resourceVersion, atMs: performance.now() };
    if (holder === '' || holder.startsWith(`${this.#options.instance}_`)) return true;
    const durationMs = (lease.spec?.leaseDurationSeconds ?? this.#options.leaseMs / 1000) * 1000;
    return performance.now() - this.#seen.atMs > durationMs;
  }

  async #serve(acquired: Held, signal: AbortSignal, lead: (leadership: Leadership) => Promise<void>): Promise<void> {
    let held = acquired;
    this.#noteHolder(this.#identity);
    const over = new AbortController();
    const isHeld = (): boolean => performance.now() - held.renewedAtMs < this.#options.renewDeadlineMs;
    const leadership: Leadership = {
      term: held.lease.spec?.leaseTransitions ?? 0,
      identity: this.#identity,
      signal: AbortSignal.any([signal, over.signal]),
      isHeld: () => !over.signal.aborted && isHeld(),
      resign: (standAsideMs) => {
        this.#asideUntilMs = performance.now() + standAsideMs;
        over.abort(new Error('the lease was given up'));
      },
    };
    const ended = new AbortController();
    const leading = lead(leadership).finally(() => ended.abort());
    // Whatever it throws is thrown on below; this only keeps it from counting as unhandled until then.
    leading.catch(() => undefined);

    while (!ended.signal.aborted) {
      await sleep(this.#options.retryMs, undefined, { signal: ended.signal }).catch(() => undefined);
      if (ended.signal.aborted) break;
      held = (await this.#renew(held)) ?? held;
      if (!isHeld()) {
        over.abort(new Error('the lease could not be renewed in time'));
        break;
      }
    }
    // Where it threw, something of it may still be acting: then the lease is left to run out.
    await leading;
    if (isHeld()) await this.#release(held);
  }

  async #renew(held: Held): Promise<Held | undefined> {
    const { api, renewDeadlineMs } = this.#options;
    const sentAtMs = performance.now();
    const leftMs = Math.max(1, renewDeadlineMs - (sentAtMs - held.renewedAtMs));
    try {
      const spec = { ...held.lease.spec, renewTime: microTime(new Date()) };
      const lease = await Promise.race([
        api.of(leases).update({ ...held.lease, spec }),
        sleep(leftMs, undefined, { ref: false }).then((): never => {
          throw new ApiError(0, 'renewal of the lease', {
            reason: 'Timeout',
            message: 'no answer before the deadline',
          });
        }),
      ]);
      return { lease, renewedAtMs: sentAtMs };
    } catch (error) {
      this.#options.onTrouble?.(error);
      return isConflict(error) ? await this.#afterConflict() : undefined;
    }
  }

  /** Our own write whose answer was lost makes the next one conflict; then the Lease still names us. Else it is lost for good. */
  async #afterConflict(): Promise<Held | undefined> {
    const { api, namespace, name } = this.#options;
    const lease = await api
      .of(leases)
      .find({ namespace, name })
      .catch(() => undefined);
    if (lease === undefined) return undefined;
    if (lease.spec?.holderIdentity !== this.#identity) return { lease, renewedAtMs: -Infinity };
    const sentAtMs = performance.now();
    const spec = { ...lease.spec, renewTime: microTime(new Date()) };
    const renewed = await api
      .of(leases)
      .update({ ...lease, spec })
      .catch(() => undefined);
    return renewed === undefined ? undefined : { lease: renewed, renewedAtMs: sentAtMs };
  }

  async #release(held: Held): Promise<void> {
    const now = microTime(new Date());
    const spec = { ...held.lease.spec, holderIdentity: '', leaseDurationSeconds: 1, renewTime: now, acquireTime: now };
    await this.#options.api
      .of(leases)
      .update({ ...held.lease, spec })
      .catch((error: unknown) => this.#options.onTrouble?.(error));
  }

  #spec(now: Date, term: number): NonNullable<Lease['spec']> {
    return {
      holderIdentity: this.#identity,
      leaseDurationSeconds: Math.max(1, Math.round(this.#options.leaseMs / 1000)),
      acquireTime: microTime(now),
      renewTime: microTime(now),
      leaseTransitions: term,
    };
  }

  #noteHolder(holder: string): void {
    if (holder === this.#lastHolder || holder === '') return;
    this.#lastHolder = holder;
    this.#options.onNewLeader?.(holder);
  }
}

/**
 * Terms must grow even over a Lease that was deleted and made anew (a chart removed and installed again), since agents refuse an older
 * term: so a new Lease begins at the seconds since 2025, which outruns any count of hand-overs and fits the field's 32 bits until 2093.
 */
const firstTerm = (now: Date): number => Math.floor((now.getTime() - Date.UTC(2025, 0, 1)) / 1000);

/** metav1.MicroTime: six digits after the second. */
const microTime = (time: Date): string => time.toISOString().replace('Z', '000Z');
