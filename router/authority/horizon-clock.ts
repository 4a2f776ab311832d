/**
 * The boot-time clock as the hot path may read it: once for each read from a member's socket. Reading it is a system call, so
 * within 50 ms of a reading the time since is taken from the monotonic and the wall clock, whichever went further: while the
 * machine is suspended the first stands still, and the second goes on as the boot-time clock does (clock_gettime(2)). Where they
 * come near the limit, or apart, the clock itself is read. An estimate is only ever used to say "not yet".
 */
import { bootTimeMs, bootTimeResolutionMs } from '#clock/boot-time.ts';

export interface ClockReaders {
  readonly bootMs: () => number;
  readonly monotonicMs: () => number;
  readonly wallMs: () => number;
}

const machine: ClockReaders = {
  bootMs: bootTimeMs,
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
};

/** How long an estimate may stand on one reading. */
const estimateMs = 50;
/** Of the wall clock. */
const wallResolutionMs = 1;

export class HorizonClock {
  readonly #readers: ClockReaders;
  #bootMs = 0;
  #monotonicMs = Number.NEGATIVE_INFINITY;
  #wallMs = 0;

  constructor(readers: ClockReaders = machine) {
    this.#readers = readers;
  }

  /** For the moment of sending: never ahead of the true time. */
  earliestMs(): number {
    // In this order: should the process stand still between them, the estimate is too late, never too early.
    this.#monotonicMs = this.#readers.monotonicMs();
    this.#wallMs = this.#readers.wallMs();
    this.#bootMs = this.#readers.bootMs();
    return this.#bootMs;
  }

  /** For the moment of receiving: never behind the true time. */
  latestMs(): number {
    return this.earliestMs() + bootTimeResolutionMs;
  }

  /** Whether it is surely before that time now. */
  isBefore(limitMs: number): boolean {
    const monotonicMs = this.#readers.monotonicMs() - this.#monotonicMs;
    const wallMs = this.#readers.wallMs() - this.#wallMs;
    if (monotonicMs < estimateMs && wallMs >= 0 && wallMs < estimateMs) {
      const elapsedMs = Math.max(monotonicMs, wallMs + wallResolutionMs);
      if (this.#bootMs + bootTimeResolutionMs + elapsedMs < limitMs) return true;
    }
    return this.latestMs() < limitMs;
  }
}
