/**
 * Transactions that wait for their shard's primary: while it fails over or switches over nothing of them has been sent, so waiting
 * costs nobody anything. Bounded in count, bytes and time; first come, first served; let go in portions, and where the primary
 * couldn't be reached, one first to see whether it can be.
 * Leaves to others: when a primary may be used (authority.ts), what is sent (session/).
 */
import { RouterError } from '../errors.ts';

export interface HoldLimits {
  readonly transactions: number;
  readonly bytes: number;
  readonly ms: number;
}

export interface HoldOptions {
  readonly limits: HoldLimits;
  /** The shard's primary may be sent something new. */
  readonly isOpen: (shard: string) => boolean;
  readonly now: () => number;
  readonly onHeld: () => void;
  readonly onRefused: () => void;
}

/** One that waits; the same again when it has to wait once more, so that it keeps its place and its time. */
export interface Held {
  readonly bytes: number;
  sinceMs?: number;
  place?: number;
  /** Why it waits, for people. */
  why: string;
  go(): void;
  fail(error: RouterError): void;
}

/** Let go at once; the next after what these have brought about. */
const portion = 20;
/** Between two that try whether the primary can be reached. */
const probeMs = 150;

interface Queue {
  readonly waiting: Held[];
  readonly timers: Map<Held, NodeJS.Timeout>;
  /** Its primary couldn't be reached, and nobody has reached it since. */
  isTroubled: boolean;
  lastProbeMs: number;
  next: NodeJS.Timeout | NodeJS.Immediate | undefined;
}

export class Hold {
  readonly #options: HoldOptions;
  readonly #queues = new Map<string, Queue>();
  #count = 0;
  #bytes = 0;
  #places = 0;

  constructor(options: HoldOptions) {
    this.#options = options;
  }

  get transactions(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Others wait already, or its primary couldn't be reached: who comes now waits behind them. */
  isHolding(shard: string): boolean {
    const queue = this.#queues.get(shard);
    return queue !== undefined && (queue.waiting.length > 0 || queue.isTroubled);
  }

  /** Calls `go` or `fail`, once, later. Returns how to stop waiting. */
  wait(shard: string, held: Held): () => void {
    const { limits, now } = this.#options;
    const nowMs = now();
    held.sinceMs ??= nowMs;
    const leftMs = held.sinceMs + limits.ms - nowMs;
    const error = leftMs <= 0 ? this.#tooLong(held) : this.#tooMuch(held, shard);
    if (error !== undefined) {
      // Not at once: whoever asks has to be told how to stop first.
      const timer = setImmediate(() => {
        this.#options.onRefused();
        held.fail(error);
      });
      return () => clearImmediate(timer);
    }
    if (held.place === undefined) {
      this.#places += 1;
      held.place = this.#places;
      this.#options.onHeld();
    }
    const queue = this.#queueOf(shard);
    const { place } = held;
    const behind = queue.waiting.findIndex((other) => (other.place ?? 0) > place);
    queue.waiting.splice(behind === -1 ? queue.waiting.length : behind, 0, held);
    this.#count += 1;
    this.#bytes += held.bytes;
    queue.timers.set(
      held,
      setTimeout(() => {
        if (!this.#take(queue, held)) return;
        this.#options.onRefused();
        held.fail(this.#tooLong(held));
      }, leftMs),
    );
    this.#schedule(shard, queue);
    return () => void this.#take(queue, held);
  }

  /** Something about the shard is new. */
  wake(shard: string): void {
    const queue = this.#queues.get(shard);
    if (queue !== undefined) this.#schedule(shard, queue);
  }

  /** Its primary couldn't be reached, and not a byte was sent. */
  troubled(shard: string): void {
    const queue = this.#queueOf(shard);
    queue.isTroubled = true;
    queue.lastProbeMs = this.#options.now();
  }

  /** Somebody has a connection to its primary, or it has another. */
  calm(shard: string): void {
    const queue = this.#queues.get(shard);
    if (queue === undefined) return;
    queue.isTroubled = false;
    this.#schedule(shard, queue);
  }

  close(): void {
    for (const queue of this.#queues.values())
      for (const held of queue.waiting.slice())
        if (this.#take(queue, held)) held.fail(new RouterError('ShuttingDown', 'the router is shutting down'));
  }

  #queueOf(shard: string): Queue {
    let queue = this.#queues.get(shard);
    if (queue === undefined) {
      queue = { waiting: [], timers: new Map(), isTroubled: false, lastProbeMs: 0, next: undefined };
      this.#queues.set(shard, queue);
    }
    return queue;
  }

  #tooMuch(held: Held, shard: string): RouterError | undefined {
    const { transactions, bytes } = this.#options.limits;
    if (this.#count < transactions && this.#bytes + held.bytes <= bytes) return undefined;
    return new RouterError(
      'TooMuchHeld',
      `${this.#count} transactions (${this.#bytes} bytes) wait already while a primary is away, that of shard "${shard}" among them`,
    );
  }

  #tooLong(held: Held): RouterError {
    return new RouterError('HeldTooLong', `waited ${this.#options.limits.ms} ms: ${held.why}`);
  }

  #take(queue: Queue, held: Held): boolean {
    const index = queue.waiting.indexOf(held);
    if (index === -1) return false;
    queue.waiting.splice(index, 1);
    clearTimeout(queue.timers.get(held));
    queue.timers.delete(held);
    this.#count -= 1;
    this.#bytes -= held.bytes;
    return true;
  }

  #schedule(shard: string, queue: Queue): void {
    if (queue.next !== undefined || queue.waiting.length === 0) return;
    const run = (): void => {
      queue.next = undefined;
      this.#letGo(shard, queue);
    };
    const inMs = queue.isTroubled ? queue.lastProbeMs + probeMs - this.#options.now() : 0;
    queue.next = inMs > 0 ? setTimeout(run, inMs) : setImmediate(run);
  }

  #letGo(shard: string, queue: Queue): void {
    if (!this.#options.isOpen(shard)) return;
    const count = queue.isTroubled ? 1 : portion;
    if (queue.isTroubled) queue.lastProbeMs = this.#options.now();
    for (const held of queue.waiting.slice(0, count)) if (this.#take(queue, held)) held.go();
    this.#schedule(shard, queue);
  }
}
