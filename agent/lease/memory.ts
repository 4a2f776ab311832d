/**
 * What both threads of the agent see at once: the lease as it stands, kept by the lease thread, and when the main thread
 * last said that it serves. All times are points on the boot-time clock in ms, 0 where there is none.
 * The lease's own fields belong together and are written under a number that is odd meanwhile; a reader that meets it odd
 * too often takes the lease for not held.
 */
import { bootTimeMs, bootTimeResolutionMs } from '#clock/boot-time.ts';
import { canaryMs } from '#core/authority/timing.ts';

/** `untilMs`: null where no lease is needed, 0 where it isn't held. */
export interface PublishedLease {
  readonly epoch: number;
  readonly generation: number;
  readonly untilMs: number | null;
  /** Until when the grants of exactly `generation` hold it; what the start gate and the opening gate go by. */
  readonly exactUntilMs: number | null;
  /** Times that it was lost. */
  readonly number: number;
}

const field = {
  version: 0,
  epoch: 1,
  generation: 2,
  until: 3,
  exactUntil: 4,
  number: 5,
  saidServing: 6,
  heardServing: 7,
  grantedUntil: 8,
} as const;
const FIELDS = 9;
const NONE_NEEDED = -1n;
const READS = 1_000;

export class LeaseMemory {
  readonly buffer: SharedArrayBuffer;
  readonly #fields: BigInt64Array;
  readonly #now: () => number;

  constructor(buffer = new SharedArrayBuffer(FIELDS * 8), now: () => number = bootTimeMs) {
    this.buffer = buffer;
    this.#fields = new BigInt64Array(buffer);
    this.#now = now;
  }

  publish({ epoch, generation, untilMs, exactUntilMs, number }: PublishedLease): void {
    Atomics.add(this.#fields, field.version, 1n);
    this.#set(field.epoch, BigInt(epoch));
    this.#set(field.generation, BigInt(generation));
    this.#set(field.until, encode(untilMs));
    this.#set(field.exactUntil, encode(exactUntilMs));
    this.#set(field.number, BigInt(number));
    Atomics.add(this.#fields, field.version, 1n);
  }

  lease(): PublishedLease {
    for (let read = 0; read < READS; read++) {
      const version = this.#get(field.version);
      const found: PublishedLease = {
        epoch: Number(this.#get(field.epoch)),
        generation: Number(this.#get(field.generation)),
        untilMs: decode(this.#get(field.until)),
        exactUntilMs: decode(this.#get(field.exactUntil)),
        number: Number(this.#get(field.number)),
      };
      if (version % 2n === 0n && this.#get(field.version) === version) return found;
    }
    return { epoch: 0, generation: 0, untilMs: 0, exactUntilMs: 0, number: Number(this.#get(field.number)) };
  }

  /** Of a point in time as `PublishedLease` has them; the clock's coarseness is taken off. */
  remainingMs(untilMs: number | null): number | null {
    if (untilMs === null) return null;
    return Math.max(0, untilMs - this.#now() - bootTimeResolutionMs);
  }

  /** By the main thread. What it said holds for as long as a canary's commit would: a main thread that is stuck doesn't serve. */
  sayServing(serving: boolean): void {
    this.#set(field.saidServing, serving ? BigInt(this.#now()) : 0n);
  }

  get isServing(): boolean {
    const said = Number(this.#get(field.saidServing));
    return said !== 0 && this.#now() - said < canaryMs;
  }

  /** A request that said serving has arrived. */
  hearServing(): void {
    this.#set(field.heardServing, BigInt(this.#now()));
  }

  /** Since the last request that said serving; null before the first. */
  heardServingMs(): number | null {
    const heard = Number(this.#get(field.heardServing));
    return heard === 0 ? null : Math.max(0, this.#now() - heard);
  }

  grantUntil(untilMs: number): void {
    if (BigInt(untilMs) > this.#get(field.grantedUntil)) this.#set(field.grantedUntil, BigInt(untilMs));
  }

  /** Of the longest grant that was given. The clock's coarseness is added. */
  grantedMs(): number {
    const until = Number(this.#get(field.grantedUntil));
    return until === 0 ? 0 : Math.max(0, until - this.#now() + bootTimeResolutionMs);
  }

  #get(at: number): bigint {
    return Atomics.load(this.#fields, at);
  }

  #set(at: number, value: bigint): void {
    Atomics.store(this.#fields, at, value);
  }
}

const encode = (untilMs: number | null): bigint => (untilMs === null ? NONE_NEEDED : BigInt(untilMs));
const decode = (value: bigint): number | null => (value === NONE_NEEDED ? null : Number(value));
