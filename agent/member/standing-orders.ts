/**
 * The orders that a member stands by, and the promise that says whether it still may: both on the volume, the promise first.
 * Orders that a later promise outdates aren't worked by any more, but they are kept: a fenced member runs by what it was.
 * Whether orders or a fence are taken is decided in `agent/orders/decide.ts` and `core/authority/promise.ts`.
 * Invariant: what is in force is on disk, and within the promise on disk.
 */
import type { AgentConfiguration } from '#agent/configuration.ts';
import type { Logger } from '#agent/log.ts';
import { decideOrders, isWithinPromise } from '#agent/orders/decide.ts';
import { writeOrders } from '#agent/orders/store.ts';
import type { PromiseFile } from '#agent/promise/file.ts';
import { bootTimeMs } from '#clock/boot-time.ts';
import { decideFence, type FenceDecision } from '#core/authority/promise.ts';
import type { MemberIdentity } from '#core/identity.ts';
import type { FenceQuestion } from '#core/protocol/authority.ts';
import type { Orders, OrdersRefusal } from '#core/protocol/orders.ts';

export interface StandingOrdersOptions {
  readonly configuration: Pick<AgentConfiguration, 'podName' | 'namespace' | 'shard' | 'paths'>;
  readonly promise: PromiseFile;
  /** As found on the volume. */
  readonly orders: Orders | undefined;
  readonly log: Logger;
}

export type Taken =
  | { readonly kind: 'refused'; readonly refusal: OrdersRefusal }
  | { readonly kind: 'taken'; readonly isNew: boolean; readonly before: Orders | undefined };

export class StandingOrders {
  readonly #options: StandingOrdersOptions;
  #last: Orders | undefined;
  #promisedAt = bootTimeMs();

  constructor(options: StandingOrdersOptions) {
    this.#options = options;
    this.#last = options.orders;
  }

  get identity(): MemberIdentity {
    const { configuration, promise } = this.#options;
    return { name: configuration.podName, incarnation: promise.current.incarnation };
  }

  get promise(): PromiseFile['current'] {
    return this.#options.promise.current;
  }

  /** Since the promise got its epoch and grantee, or since this agent's start. */
  get promiseAgeMs(): number {
    return Math.max(0, bootTimeMs() - this.#promisedAt);
  }

  /** Streams, leases and Postgres go by these alone. */
  get inForce(): Orders | undefined {
    return this.#last !== undefined && isWithinPromise(this.#last, this.promise) ? this.#last : undefined;
  }

  /** Those that a promise has outdated: the member is fenced. */
  get former(): Orders | undefined {
    return this.inForce === undefined ? this.#last : undefined;
  }

  /** @param onOutdated Called between the promise and the new orders, where the former ones end with the promise. */
  async take(orders: Orders, hasData: boolean, onOutdated: () => Promise<void>): Promise<Taken> {
    const { promise, configuration, log } = this.#options;
    const before = this.inForce;
    const decision = decideOrders(orders, {
      member: this.identity,
      namespace: configuration.namespace,
      shard: configuration.shard,
      promise: promise.current,
      taken: this.#last,
      hasData,
    });
    if (decision.kind === 'refuse') {
      log.warn({ refusal: decision.refusal }, 'orders refused');
      return { kind: 'refused', refusal: decision.refusal };
    }
    const { epoch, grantee } = promise.current;
    // First the promise: whatever happens next, nothing older is taken any more.
    await promise.update(({ systemIdentifier, longestLeaseMs }) => ({
      ...decision.promise,
      systemIdentifier,
      longestLeaseMs,
    }));
    if (epoch !== promise.current.epoch || grantee !== promise.current.grantee) this.#promisedAt = bootTimeMs();
    if (before !== undefined && this.inForce === undefined) await onOutdated();
    // If that fails the operator gives them again; those before are outdated, or go on.
    await writeOrders(configuration.paths.orders, orders);
    this.#last = orders;
    return { kind: 'taken', isNew: decision.isNew || before === undefined, before };
  }

  /** Whether this member lets itself be fenced; nothing is done yet. */
  decideFence(question: FenceQuestion): FenceDecision {
    return decideFence(question, this.identity, this.promise);
  }

  /** On disk when it resolves: nothing below the epoch is helped any more. */
  async promiseFence(decision: Extract<FenceDecision, { kind: 'Fence' }>): Promise<void> {
    if (!decision.isNew) return;
    // What else the promise says may have changed since the decision.
    const { epoch, grantee, generation } = decision.promise;
    await this.#options.promise.update((current) => ({ ...current, epoch, grantee, generation }));
    this.#promisedAt = bootTimeMs();
  }

  /** Another identity, and the orders were meant for the one before. */
  async renew(): Promise<void> {
    await this.#options.promise.renew();
    this.#last = undefined;
  }
}
