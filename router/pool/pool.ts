/**
 * The backends of one role at one member: made on demand up to a bound, lent to one session at a time, closed when idle.
 * A backend comes back only clean (see Backend.isClean) and, where needed, after the questions of `hygiene.ts`; else it is closed.
 * Leaves to others: which member (exec/), what is sent (session/).
 */
import { RouterError } from '../errors.ts';
import { Backend } from './backend.ts';
import { MemberRefusal, type OpenedConnection } from './connect.ts';
import type { OwnAnswer } from './expectation.ts';
import { cleaningOf } from './hygiene.ts';

export interface PoolLimits {
  readonly size: number;
  readonly waitMs: number;
  readonly idleMs: number;
  readonly lifetimeMs: number;
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
  /** The member could, or couldn't, be reached. */
  reached(error: Error | undefined): void;
  now(): number;
}

/** A backend that takes longer to answer between two clients is closed. */
const cleaningMs = 5_000;

interface Waiter {
  readonly give: (backend: Backend) => void;
  readonly fail: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/** The member takes nothing new: who waited for a connection may find another, or wait for the shard's primary. */
export class Expelled extends Error {
  constructor(member: string) {
    super(`member "${member}" takes nothing new now`);
    this.name = 'Expelled';
  }
}

/** Called with exactly one of the two. */
export interface Taker {
  give(backend: Backend): void;
  fail(error: Error): void;
}

export class Pool {
  readonly #owner: PoolOwner;
  readonly #idle: Backend[] = [];
  readonly #all = new Set<Backend>();
  readonly #waiting: Waiter[] = [];
  #opening = 0;
  #closed = false;

  constructor(owner: PoolOwner) {
    this.#owner = owner;
  }

  get member(): string {
    return this.#owner.member;
  }

  get counts(): { idle: number; busy: number; opening: number; waiting: number } {
    return {
      idle: this.#idle.length,
      busy: this.#all.size - this.#idle.length,
      opening: this.#opening,
      waiting: this.#waiting.length,
    };
  }

  get isUnused(): boolean {
    return this.#all.size === 0 && this.#opening === 0 && this.#waiting.length === 0;
  }

  /** Gives a backend at once where one is idle, else when one is free or made. Returns how to stop waiting. */
  take(taker: Taker): () => void {
    const generation = this.#owner.generation();
    for (let backend = this.#idle.pop(); backend !== undefined; backend = this.#idle.pop()) {
      if (backend.isClean && backend.identity.generation === generation) {
        taker.give(backend);
        return () => undefined;
      }
      backend.close('out of date');
    }
    const waitMs = this.#owner.limits().waitMs;
    const waiter: Waiter = {
      give: (backend) => taker.give(backend),
      fail: (error) => taker.fail(error),
      timer: setTimeout(() => {
        this.#forget(waiter);
        taker.fail(new RouterError('NoBackendInTime', `no free connection to ${this.#owner.member} in ${waitMs} ms`));
      }, waitMs),
    };
    this.#waiting.push(waiter);
    this.#openIfWanted();
    return () => this.#forget(waiter);
  }

  /** Takes a backend back after a session is done with it. The session must not touch it any more. */
  giveBack(backend: Backend): void {
    backend.assign(undefined);
    if (!this.#mayReturn(backend)) {
      backend.close('not to be used again');
      return;
    }
    const cleaning = cleaningOf(backend);
    if (cleaning === undefined) return this.#lend(backend);
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
          backend.pin = undefined;
          backend.unnamed = undefined;
        }
        backend.isSuspect = false;
        backend.wasCancelled = false;
        this.#lend(backend);
      }),
    );
    backend.write(Buffer.concat(bytes));
  }

  /** Closes what has been idle for too long, lived too long, or belongs to another generation. */
  sweep(): void {
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
    for (const waiter of this.#waiting.splice(0)) {
      clearTimeout(waiter.timer);
      waiter.fail(new RouterError('ShuttingDown', 'the router is shutting down'));
    }
    for (const backend of this.#all) backend.close('the pool is closed');
  }

  #mayReturn(backend: Backend): boolean {
    return (
      !this.#closed &&
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
    const waiter = this.#waiting.shift();
    if (waiter === undefined) {
      backend.idleSinceMs = this.#owner.now();
      this.#idle.push(backend);
      return;
    }
    clearTimeout(waiter.timer);
    waiter.give(backend);
  }

  #forget(waiter: Waiter): void {
    clearTimeout(waiter.timer);
    const index = this.#waiting.indexOf(waiter);
    if (index !== -1) this.#waiting.splice(index, 1);
  }

  #failWaiting(count: number, error: Error): void {
    for (const waiter of this.#waiting.splice(0, count)) {
      clearTimeout(waiter.timer);
      waiter.fail(error);
    }
  }

  #openIfWanted(): void {
    while (
      !this.#closed &&
      this.#waiting.length > this.#opening &&
      this.#all.size + this.#opening < this.#owner.limits().size
    )
      this.#open();
  }

  #open(): void {
    this.#opening += 1;
    const generation = this.#owner.generation();
    const primaryEpoch = this.#owner.primaryEpoch();
    this.#owner.connect().then(
      (connection) => {
        this.#opening -= 1;
        this.#owner.reached(undefined);
        const backend = new Backend(
          connection.socket,
          {
            member: this.#owner.member,
            role: this.#owner.role,
            processId: connection.processId,
            secret: connection.secret,
            generation: generation ?? '',
            primaryEpoch,
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
    this.#all.delete(backend);
    const index = this.#idle.indexOf(backend);
    if (index !== -1) this.#idle.splice(index, 1);
    this.#openIfWanted();
  }
}
