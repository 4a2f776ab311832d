/**
 * What this member does about leases, as a function of its orders: a primary asks for grants, a follower grants to its
 * primary, anybody else does neither. The thread that does it is `agent/lease`; here is what it is told, and when.
 * Invariant: what is granted is granted by orders that are in force, after their promise is on disk.
 */
import { type LeaseKeeper, LeaseNotInForce } from '#agent/lease/keeper.ts';
import type { FollowWish, GrantSeen, ServeWish } from '#agent/lease/messages.ts';
import { ports } from '#core/names.ts';
import type { Orders } from '#core/protocol/orders.ts';

export type LeaseThread = Pick<
  LeaseKeeper,
  | 'serve'
  | 'follow'
  | 'stop'
  | 'setServing'
  | 'remainingMs'
  | 'leaseNumber'
  | 'heardMs'
  | 'grants'
  | 'grantRemainingMs'
  | 'isHeldFor'
  | 'arm'
  | 'setPostmaster'
  | 'disarm'
  | 'onLost'
  | 'renewIdentity'
  | 'close'
>;

export type LeaseWish =
  | { readonly kind: 'serve'; readonly wish: ServeWish }
  | { readonly kind: 'follow'; readonly wish: FollowWish }
  | { readonly kind: 'none' };

/** What the thread should be at. `orders` are those in force, or those that a primary still stands by while it is handed over. */
export function leaseWishOf(orders: Orders | undefined, isReleased: boolean): LeaseWish {
  if (orders === undefined) return { kind: 'none' };
  const { shard, epoch, generation, source, ship } = orders;
  switch (orders.role) {
    case 'Hold':
      return { kind: 'none' };
    case 'Initialise':
    case 'Primary':
      if (isReleased) return { kind: 'none' };
      return {
        kind: 'serve',
        wish: { shardUid: shard.uid, epoch, generation, lease: orders.lease, peers: orders.slots },
      };
    case 'Follower': {
      // Who ships the log before a decision is no primary.
      if (source === undefined || ship === true) return { kind: 'none' };
      const { name, incarnation, address } = source;
      return {
        kind: 'follow',
        wish: { shardUid: shard.uid, epoch, generation, source: { name, incarnation, address, port: ports.lease } },
      };
    }
  }
}

export interface LeaseSeen {
  /** By present settings, long enough to begin something; true where none is needed. */
  readonly isHeld: boolean;
  /** Null where none is needed, or this is no primary. */
  readonly remainingMs: number | null;
  readonly losses: number;
  readonly isArmed: boolean;
  readonly grants: readonly GrantSeen[];
  /** Of what this member has granted. */
  readonly grantedRemainingMs: number;
}

/** What has to be left of a lease before anything is begun on it: the handle stops Postgres 600 ms before its end. */
const ENOUGH_MS = 1_000;

export class LeaseDuty {
  readonly #thread: LeaseThread;
  readonly #onChange: () => void;
  /** Undefined after a failure: what the thread is at isn't known. */
  #wish: LeaseWish | undefined = { kind: 'none' };
  #isInForce = true;
  /** Counts the times that the handle was armed; 0 while it isn't. */
  #armed = 0;
  #armings = 0;
  /** The arming that is on its way to be let go: nothing begins by it any more. */
  #condemned = 0;

  constructor(thread: LeaseThread, onChange: () => void) {
    this.#thread = thread;
    this.#onChange = onChange;
  }

  /** The process 1 of this container will end Postgres unless the lease is renewed. */
  get isArmed(): boolean {
    return this.#armed !== 0;
  }

  /** Whether process 1 watches by this very arming, and will go on to. To be asked in the same breath as Postgres is started. */
  standsBy(arming: number): boolean {
    return arming !== 0 && this.#armed === arming && this.#condemned !== arming;
  }

  /** Whatever was about to begin by the present arming doesn't. Returns which one it is, for `disarm`. */
  condemn(): number {
    this.#condemned = this.#armed;
    return this.#armed;
  }

  /** The settings of `keep` last called are those that the lease is counted by. */
  get isInForce(): boolean {
    return this.#isInForce;
  }

  /** Held under the present settings, for long enough to begin something. */
  get isHeld(): boolean {
    if (this.#wish?.kind !== 'serve' || !this.#isInForce) return false;
    const remainingMs = this.#thread.remainingMs();
    return remainingMs === null || remainingMs >= ENOUGH_MS;
  }

  /** k grants for exactly this epoch and generation: what confirms an authority while the record can't be read. */
  isHeldFor({ epoch, generation, lease }: Orders): boolean {
    return lease.required > 0 && this.#thread.isHeldFor(epoch, generation);
  }

  /** For people. */
  async seen(): Promise<LeaseSeen> {
    const thread = this.#thread;
    return {
      grants: await thread.grants(),
      isHeld: this.isHeld,
      remainingMs: this.#wish?.kind === 'serve' ? thread.remainingMs() : null,
      losses: thread.leaseNumber(),
      isArmed: this.isArmed,
      grantedRemainingMs: thread.grantRemainingMs(),
    };
  }

  /**
   * Level-triggered. Resolves when nothing is done or granted any more that `wish` doesn't allow. Where it throws that isn't
   * so yet, and the next call does all of it again, whatever it wishes.
   */
  async keep(wish: LeaseWish): Promise<void> {
    if (JSON.stringify(wish) === JSON.stringify(this.#wish)) return;
    const before = this.#wish;
    this.#wish = wish;
    this.#isInForce = false;
    try {
      const isOther = before === undefined || (before.kind !== 'none' && before.kind !== wish.kind);
      if (wish.kind === 'none' || isOther) await this.#thread.stop();
      if (this.#wish !== wish) return;
      if (wish.kind === 'serve') {
        void this.#serve(wish);
        return;
      }
      if (wish.kind === 'follow') await this.#thread.follow(wish.wish);
    } catch (error) {
      if (this.#wish === wish) this.#wish = undefined;
      throw error;
    }
    this.#inForce(wish);
  }

  /** Told to process 1 when this resolves, to which arming it is. Before every start as primary and before a promotion. */
  async arm(postmasterPid = 0): Promise<number> {
    this.#armings += 1;
    const arming = this.#armings;
    this.#armed = arming;
    await this.#thread.arm(postmasterPid);
    return arming;
  }

  setPostmaster(pid: number): void {
    this.#thread.setPostmaster(pid);
  }

  /** Only when no process of Postgres is left. A handle that was armed anew meanwhile stays armed. */
  async disarm(arming = this.#armed): Promise<void> {
    if (this.#armed === 0 || this.#armed !== arming) return;
    this.#condemned = arming;
    await this.#thread.disarm();
    if (this.#armed === arming) this.#armed = 0;
  }

  /** In force once it is fulfilled, which may be late; meanwhile what was in force before holds. */
  async #serve(wish: Extract<LeaseWish, { kind: 'serve' }>): Promise<void> {
    while (this.#wish === wish) {
      try {
        await this.#thread.serve(wish.wish);
        this.#inForce(wish);
        return;
      } catch (error) {
        if (!(error instanceof LeaseNotInForce)) throw error;
      }
    }
  }

  #inForce(wish: LeaseWish): void {
    if (this.#wish !== wish) return;
    this.#isInForce = true;
    this.#onChange();
  }
}
