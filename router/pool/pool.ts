/**
 * The backends of one role at one member: made on demand up to a bound, lent to one session at a time, closed when idle.
 * A backend comes back only clean (see Backend.isClean) and, where needed, after the questions of `hygiene.ts`; else it is closed.
 * Leaves to others: which member (exec/), what is sent (session/).
 */
import { RouterError } from '../errors.ts';
import { Backend } from './backend.ts';
import { MemberRefusal, type OpenedConnection } from './connect.ts';
import type { OwnAnswer } from './expectation.ts';
import { FairQueue } from './fair-queue.ts';
import { type Cleaning, cleaningOf, emptying } from './hygiene.ts';
import { maxOpening, openConnection } from './opening.ts';
import { Progress } from './progress.ts';
import type { Tally } from './tally.ts';

export interface PoolLimits {
  readonly size: number;
  readonly waitMs: number;
  readonly idleMs: number;
  readonly lifetimeMs: number;
  /** One tenant may hold every connection: the role is its own. */
  readonly isOfOneTenant?: boolean;
}

export interface PoolOwner {
  readonly member: string;
  readonly role: string;
  connect(): Promise<OpenedConnection>;
  limits(): PoolLimits;
  /** Changes when the member got or lost authority: backends of before aren't used again. Undefined: the member is gone. */
  generation(): string | undefined;
  /** Of the shard, while the member is its primary; else 0. */
  primaryEpoch(): number;
  /** The member takes no more connections: one that another role has no use for is closed. False where there is none. */
  makeRoom?(asking: Pool): boolean;
  /** The member could, or couldn't, be reached. */
  reached(error: Error | undefined): void;
  now(): number;
  readonly tally: Tally;
  /** Nothing is lent: who wants a connection waits for as long as that lasts. */
  readonly isPaused: boolean;
}

/** A backend that takes longer to answer between two clients is closed. */
const cleaningMs = 5_000;

interface Waiter {
  readonly taker: Taker;
  readonly wish: Wish | undefined;
  readonly tenant: string;
  readonly sinceMs: number;
  timer: NodeJS.Timeout | undefined;
}

/** The member takes nothing new: who waited for a connection may find another, or wait for the shard's primary. */
export class Expelled extends Error {
  constructor(member: string) {
    super(`member "${member}" takes nothing new now`);
    this.name = 'Expelled';
  }
}

/** What a backend had best have already, so that nothing has to be said to it first. */
export interface Wish {
  readonly settings: string;
  /** Undefined where its role is fixed to one tenant. */
  readonly pin: string | undefined;
  /** Where its pin is another tenant's, whoever takes it sees to that: nothing is delivered that ran before the new one was set. */
  readonly mayBePinned?: boolean;
}

/** So many idle ones are looked at for what is wished. */
const lookedAt = 8;

/** Called with exactly one of the two. */
export interface Taker {
  give(backend: Backend): void;
  fail(error: Error): void;
}

export class Pool {
  readonly progress: Progress;
  readonly #owner: PoolOwner;
  readonly #idle: Backend[] = [];
  readonly #all = new Set<Backend>();
  /** Kept by sessions beyond their transactions, and which of these run nothing now. */
  readonly #kept = new Set<Backend>();
  readonly #resting = new Set<Backend>();
  readonly #waiting = new FairQueue<Waiter>();
  #opening = 0;
  #closed = false;

  constructor(owner: PoolOwner) {
    this.#owner = owner;
    this.progress = new Progress(owner.tally, () => this.#all.size - this.#idle.length <= 1);
    this.#waiting.mostHeld = this.#mostHeld;
  }

  get member(): string {
    return this.#owner.member;
  }

  get counts(): { idle: number; busy: number; kept: number; opening: number; waiting: number } {
    return {
      idle: this.#idle.length,
      busy: this.#all.size - this.#idle.length - this.#resting.size,
      kept: this.#kept.size,
      opening: this.#opening,
      waiting: this.#waiting.length,
    };
  }

  /** For those who administer the router: each connection, and what it does. */
  *backends(): Iterable<{ readonly backend: Backend; readonly state: 'active' | 'kept' | 'idle' | 'tested' }> {
    for (const backend of this.#all) {
      const isLent = backend.lentTo !== undefined;
      const state = this.#idle.includes(backend) ? 'idle' : isLent ? 'active' : 'tested';
      yield { backend, state: isLent && this.#resting.has(backend) ? 'kept' : state };
    }
  }

  get role(): string {
    return this.#owner.role;
  }

  get size(): number {
    return this.#owner.limits().size;
  }

  /** Milliseconds that whoever waits for longest has waited. */
  get longestWaitMs(): number {
    let since = this.#owner.now();
    for (const { sinceMs } of this.#waiting.values()) since = Math.min(since, sinceMs);
    return this.#owner.now() - since;
  }

  /** Whoever waits: its tenant. */
  *waiting(): Iterable<string> {
    for (const { tenant } of this.#waiting.values()) yield tenant;
  }

  /** Every connection that there is now is closed when it comes back (RECONNECT). */
  renew(): void {
    for (const backend of this.#all) backend.isOld = true;
    for (const backend of this.#idle.splice(0)) backend.close('made anew');
    this.#serve();
  }

  get isUnused(): boolean {
    return this.#all.size === 0 && this.#opening === 0 && this.#waiting.length === 0;
  }

  /** Sessions wait for a connection of their own, or everybody has to. */
  get isWanted(): boolean {
    return this.#waiting.isReady || this.#owner.isPaused;
  }

  /** Somebody who came now would get a connection without waiting for others to be done. */
  get hasRoom(): boolean {
    return !this.isWanted && (this.#idle.length > 0 || this.#all.size + this.#opening < this.#owner.limits().size);
  }

  /** It may be sent something new. */
  isCurrent(backend: Backend): boolean {
    return (
      !this.#closed &&
      !this.#owner.isPaused &&
      !backend.isClosed &&
      !backend.isOld &&
      backend.identity.generation === this.#owner.generation() &&
      this.#owner.now() - backend.openedAtMs < this.#owner.limits().lifetimeMs
    );
  }

  /**
   * Gives a backend at once where one is idle, else when one is free or made: then tenants take turns (fair-queue.ts). Returns how to
   * stop waiting.
   */
  take(taker: Taker, wish?: Wish): () => void {
    const tenant = wish?.mayBePinned === true ? '' : (wish?.pin ?? '');
    const washed = this.#mayTakeNow(tenant) ? this.#takeIdle(taker, tenant, wish) : undefined;
    if (washed === 'given') return () => undefined;
    const waiter: Waiter = { taker, wish, tenant, sinceMs: this.#owner.now(), timer: undefined };
    const place = this.#waiting.push(tenant, waiter);
    const forget = (): void => {
      clearTimeout(waiter.timer);
      this.#waiting.remove(place);
    };
    const { waitMs } = this.#owner.limits();
    const late = (): void => {
      // The pause is nobody's fault: its end gives everybody a turn.
      if (this.#owner.isPaused) {
        waiter.timer = setTimeout(late, waitMs);
        return;
      }
      forget();
      taker.fail(new RouterError('NoBackendInTime', `no free connection to ${this.#owner.member} in ${waitMs} ms`));
    };
    waiter.timer = setTimeout(late, waitMs);
    if (washed === undefined) this.#openIfWanted();
    else this.#wash(washed, emptying(washed));
    return forget;
  }

  #mayTakeNow(tenant: string): boolean {
    return !this.#owner.isPaused && !this.#waiting.isReady && this.#waiting.mayHold(tenant);
  }

  /** 'given', or one that has to be emptied first. */
  #takeIdle(taker: Taker, tenant: string, wish: Wish | undefined): Backend | 'given' | undefined {
    const generation = this.#owner.generation();
    if (wish !== undefined) this.#bringForward(wish);
    for (let backend = this.#idle.pop(); backend !== undefined; backend = this.#idle.pop()) {
      if (backend.isClean && backend.identity.generation === generation) {
        if (isForeign(backend, wish)) return backend;
        this.#lendTo(backend, taker, tenant, wish);
        return 'given';
      }
      backend.close('out of date');
    }
    return undefined;
  }

  /** Of several tenants none may hold every connection: however long its transactions are, another finds one. */
  get #mostHeld(): number {
    const { size, isOfOneTenant } = this.#owner.limits();
    return isOfOneTenant === true || size < 2 ? Number.POSITIVE_INFINITY : size - 1;
  }

  #lendTo(backend: Backend, taker: Taker, tenant: string, wish: Wish | undefined): void {
    backend.isShared = wish?.mayBePinned === true;
    backend.lentTo = tenant;
    backend.lentAtMs = this.#owner.now();
    this.#waiting.took(tenant);
    this.#owner.tally.assignments += 1;
    taker.give(backend);
  }

  /** It is nobody's any more, whatever becomes of it. */
  #unlend(backend: Backend): void {
    const tenant = backend.lentTo;
    if (tenant === undefined) return;
    backend.lentTo = undefined;
    const heldMs = this.#owner.now() - backend.lentAtMs;
    this.#owner.tally.lentMicros += heldMs * 1_000;
    this.#waiting.gave(tenant, heldMs);
    const { onReturn } = backend;
    backend.onReturn = undefined;
    onReturn?.();
  }

  get oldestIdle(): Backend | undefined {
    return this.#idle.toSorted((a, b) => a.idleSinceMs - b.idleSinceMs)[0];
  }

  /** A session wants to keep a backend that it has been lent. False where half of the pool, or the one there is, is kept already. */
  keep(backend: Backend): boolean {
    if (this.#kept.size >= Math.max(1, Math.floor(this.#owner.limits().size / 2))) return false;
    this.#kept.add(backend);
    return true;
  }

  /** A kept backend runs nothing at the moment: nobody has to wait for it before its member may stop. */
  rest(backend: Backend, isResting: boolean): void {
    if (isResting && this.#all.has(backend)) this.#resting.add(backend);
    else this.#resting.delete(backend);
  }

  /** Takes a backend back after a session is done with it. The session must not touch it any more. */
  giveBack(backend: Backend): void {
    backend.assign(undefined);
    this.#unlend(backend);
    this.#kept.delete(backend);
    this.#resting.delete(backend);
    if (!this.#mayReturn(backend)) {
      backend.close('not to be used again');
      return;
    }
    const cleaning = cleaningOf(backend);
    if (cleaning === undefined) this.#lend(backend);
    else this.#wash(backend, cleaning);
  }

  /** Lent again when its answers show that it may be. */
  #wash(backend: Backend, cleaning: Cleaning): void {
    const answers: OwnAnswer[] = [];
    const timer = setTimeout(() => backend.close('no answer between two clients'), cleaningMs);
    const bytes = cleaning.statements.map((sql) =>
      backend.ownQuery(sql, (answer) => {
        answers.push(answer);
        if (answers.length < cleaning.statements.length) return;
        clearTimeout(timer);
        if (backend.isClosed) return;
        if (!cleaning.isClean(answers)) {
          backend.close('left in another state than it was lent in');
          return;
        }
        if (backend.isSuspect) {
          backend.prepared.clear();
          backend.settings = '';
          backend.unnamed = undefined;
        }
        if (backend.pin !== undefined) backend.pin = '';
        backend.isPinTrusted = true;
        backend.isSuspect = false;
        backend.wasCancelled = false;
        this.#lend(backend);
      }),
    );
    backend.write(Buffer.concat(bytes));
  }

  /** Closes what has been idle for too long, lived too long, or belongs to another generation. */
  sweep(): void {
    this.#waiting.mostHeld = this.#mostHeld;
    const now = this.#owner.now();
    const { idleMs, lifetimeMs } = this.#owner.limits();
    const generation = this.#owner.generation();
    const keep: Backend[] = [];
    for (const backend of this.#idle.splice(0)) {
      const isFresh = now - backend.idleSinceMs < idleMs && now - backend.openedAtMs < lifetimeMs;
      if (isFresh && backend.isClean && backend.identity.generation === generation) keep.push(backend);
      else backend.close('idle');
    }
    this.#idle.push(...keep);
    this.#serve();
  }

  /** Nothing is lent any more (PAUSE): what isn't in use is closed at once, the rest when it comes back. */
  pause(): void {
    for (const backend of this.#idle.splice(0)) backend.close('paused');
  }

  /** It is lent again. */
  resume(): void {
    this.#serve();
  }

  /** The size may have grown, or a tenant may hold more: those who wait and may be served are. */
  #serve(): void {
    if (this.#owner.isPaused) return;
    while (this.#idle.length > 0 && this.#waiting.isReady) this.#lend(this.#idle.pop() as Backend);
    this.#openIfWanted();
  }

  /** Closes every connection that was opened to a primary of an epoch below this one, in use or not. Returns how many. */
  cut(epoch: number): number {
    const old = [...this.#all].filter(({ identity: { primaryEpoch } }) => primaryEpoch > 0 && primaryEpoch < epoch);
    for (const backend of old) backend.close(`epoch ${backend.identity.primaryEpoch} of its shard is over`);
    return old.length;
  }

  /** Sends away who waits for a connection: it is to be had elsewhere, or later. */
  expel(): void {
    this.#failWaiting(this.#waiting.length, new Expelled(this.#owner.member));
  }

  close(): void {
    this.#closed = true;
    this.#failWaiting(this.#waiting.length, new RouterError('ShuttingDown', 'the router is shutting down'));
    for (const backend of this.#all) backend.close('the pool is closed');
  }

  /** The latest used of those that fit best is the next to be taken. */
  #bringForward({ settings, pin }: Wish): void {
    const idle = this.#idle;
    const last = idle.length - 1;
    let best = last;
    let bestFit = -1;
    for (let index = last; index >= 0 && index > last - lookedAt; index--) {
      const backend = idle[index] as Backend;
      const fit = (backend.settings === settings ? 2 : 0) + (backend.pin === pin ? 1 : 0);
      if (fit <= bestFit) continue;
      best = index;
      bestFit = fit;
      if (fit === 3) break;
    }
    if (best === last || last < 0) return;
    const found = idle[best] as Backend;
    idle[best] = idle[last] as Backend;
    idle[last] = found;
  }

  #mayReturn(backend: Backend): boolean {
    return (
      !this.#closed &&
      !this.#owner.isPaused &&
      !backend.isOld &&
      backend.isClean &&
      backend.identity.generation === this.#owner.generation() &&
      this.#owner.now() - backend.openedAtMs < this.#owner.limits().lifetimeMs
    );
  }

  #lend(backend: Backend): void {
    // What came with the last answer is looked at once more: nothing may lie behind it.
    if (!this.#mayReturn(backend)) {
      backend.close('not to be used again');
      return;
    }
    const waiter = this.#waiting.peek();
    if (waiter === undefined) {
      backend.idleSinceMs = this.#owner.now();
      this.#idle.push(backend);
      return;
    }
    if (isForeign(backend, waiter.wish)) return this.#wash(backend, emptying(backend));
    this.#waiting.shift();
    clearTimeout(waiter.timer);
    this.#owner.tally.waitMicros += (this.#owner.now() - waiter.sinceMs) * 1_000;
    this.#lendTo(backend, waiter.taker, waiter.tenant, waiter.wish);
  }

  #failWaiting(count: number, error: Error): void {
    for (const waiter of this.#waiting.drain(count)) {
      clearTimeout(waiter.timer);
      waiter.taker.fail(error);
    }
  }

  #openIfWanted(): void {
    while (
      !this.#closed &&
      !this.#owner.isPaused &&
      this.#waiting.isReady &&
      this.#opening < maxOpening &&
      this.#waiting.length > this.#opening &&
      this.#all.size + this.#opening < this.#owner.limits().size
    )
      this.#open();
  }

  #open(): void {
    this.#opening += 1;
    const generation = this.#owner.generation();
    const primaryEpoch = this.#owner.primaryEpoch();
    openConnection({
      connect: () => this.#owner.connect(),
      makeRoom: () => this.#owner.makeRoom?.(this) === true,
      isWanted: () => !this.#closed && this.#waiting.length >= this.#opening,
      now: () => this.#owner.now(),
    }).then(
      (connection) => {
        this.#opening -= 1;
        this.#owner.reached(undefined);
        if (connection === undefined) return this.#openIfWanted();
        const backend = new Backend(
          connection.socket,
          {
            member: this.#owner.member,
            role: this.#owner.role,
            processId: connection.processId,
            secret: connection.secret,
            generation: generation ?? '',
            primaryEpoch,
            postmaster: connection.postmaster,
          },
          connection.parameters,
          this.#owner.now(),
          (closed) => this.#closedBackend(closed),
        );
        this.#all.add(backend);
        this.#lend(backend);
        this.#openIfWanted();
      },
      (error: Error) => {
        this.#opening -= 1;
        // A refusal is an answer: the member is there.
        this.#owner.reached(error instanceof MemberRefusal ? undefined : error);
        if (error instanceof MemberRefusal) this.#failWaiting(1, error);
        // Others of this pool may still serve those who wait; with none at all there is nothing to wait for.
        else if (this.#all.size === 0) this.#failWaiting(this.#waiting.length, error);
        this.#openIfWanted();
      },
    );
  }

  #closedBackend(backend: Backend): void {
    if (this.#all.delete(backend)) {
      const { tally } = this.#owner;
      tally.closed += 1;
      tally.parses += backend.prepared.made;
      tally.lifetimeMicros += (this.#owner.now() - backend.openedAtMs) * 1_000;
    }
    this.#unlend(backend);
    this.#kept.delete(backend);
    this.#resting.delete(backend);
    const index = this.#idle.indexOf(backend);
    if (index !== -1) this.#idle.splice(index, 1);
    this.#serve();
  }
}

/**
 * It is pinned to another tenant. Should setting the next pin ever fail, what follows would run as that one's: so it is emptied first,
 * and nobody's.
 */
const isForeign = ({ pin }: Backend, wish: Wish | undefined): boolean =>
  pin !== undefined && pin !== '' && wish?.mayBePinned !== true && pin !== wish?.pin;
