/**
 * A primary's lease as this router knows it: one for each (member, epoch, lease number), with the horizon up to which it surely
 * holds on the router's own clock. What a primary answers is the client's only if the lease held when the answer was read from
 * the socket (docs/design-traps.md, A19).
 *
 * Two ways to know that: the horizon was still ahead, by a clock read after the socket; or a question that was sent after the
 * reading finds the same lease (epoch and number) still held, which then never lapsed in between. The second waits, bounded.
 * Invariant: once it has ended, or stood for a doubt, nothing is ever delivered that was read after its horizon without proof.
 */
import { leaseMs } from '#core/authority/timing.ts';
import type { AnswerLease } from '../pool/backend.ts';
import type { HorizonClock } from './horizon-clock.ts';

/** How long what came too late waits for the next word of the member's agent. */
const proofMs = leaseMs;

interface Doubt {
  readonly readMs: number;
  readonly settle: (held: boolean) => void;
  readonly timer: NodeJS.Timeout;
}

export interface LeaseIdentity {
  readonly member: string;
  readonly epoch: number;
  readonly number: number;
}

/** What leases share. */
export interface LeaseWatch {
  readonly clock: HorizonClock;
  /** An answer came after the horizon. */
  readonly onDoubt: () => void;
  /** It is not delivered. */
  readonly onMiss: () => void;
}

export class Lease implements AnswerLease {
  readonly identity: LeaseIdentity;
  readonly #watch: LeaseWatch;
  #horizonMs: number;
  #hasEnded = false;
  #doubts: Doubt[] = [];

  constructor(identity: LeaseIdentity, horizonMs: number, watch: LeaseWatch) {
    this.identity = identity;
    this.#horizonMs = horizonMs;
    this.#watch = watch;
  }

  get horizonMs(): number {
    return this.#horizonMs;
  }

  /** Surely held now, and until now. */
  get isHeld(): boolean {
    return !this.#hasEnded && this.#watch.clock.isBefore(this.#horizonMs);
  }

  /** The agent said, to a question sent then, that it is still held, up to that horizon. */
  extend(sentMs: number, horizonMs: number): void {
    this.#horizonMs = Math.max(this.#horizonMs, horizonMs);
    const left: Doubt[] = [];
    for (const doubt of this.#doubts) {
      if (sentMs >= doubt.readMs || doubt.readMs < this.#horizonMs) this.#settle(doubt, true);
      else left.push(doubt);
    }
    this.#doubts = left;
  }

  /** It lapsed, or another has taken its place. */
  end(): void {
    this.#hasEnded = true;
    const doubts = this.#doubts;
    this.#doubts = [];
    for (const doubt of doubts) this.#settle(doubt, false);
  }

  /** Says later whether it held at this moment; called right after reading what `isHeld` didn't cover. */
  prove(settle: (held: boolean) => void): void {
    const readMs = this.#watch.clock.latestMs();
    this.#watch.onDoubt();
    if (this.#hasEnded) {
      this.#watch.onMiss();
      return settle(false);
    }
    const doubt: Doubt = {
      readMs,
      settle,
      timer: setTimeout(() => {
        this.#doubts = this.#doubts.filter((one) => one !== doubt);
        this.#settle(doubt, false);
      }, proofMs),
    };
    this.#doubts.push(doubt);
  }

  #settle(doubt: Doubt, held: boolean): void {
    clearTimeout(doubt.timer);
    if (!held) this.#watch.onMiss();
    doubt.settle(held);
  }
}
