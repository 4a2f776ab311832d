/**
 * What the router knows of one member from its agent's answers, and the lease that follows from them: the horizon counts from
 * the moment the question was *sent* (docs/design-traps.md, A19). Pure but for the clock inside the leases that it makes.
 * Leaves asking to asker.ts, and what is done with it to authority.ts.
 */
import { deliverableMs } from '#core/authority/lease.ts';
import type { AuthorityAnswer, AuthorityState } from '#core/protocol/authority.ts';
import { Lease, type LeaseWatch } from './lease.ts';

export class MemberWords {
  readonly #watch: LeaseWatch;
  #state: AuthorityState | undefined;
  #primaryEpoch = 0;
  #lease: Lease | undefined;

  constructor(watch: LeaseWatch) {
    this.#watch = watch;
  }

  /** As last said; undefined before the first answer. */
  get state(): AuthorityState | undefined {
    return this.#state;
  }

  /** Epoch at which its orders make it primary; 0 where they don't. */
  get primaryEpoch(): number {
    return this.#primaryEpoch;
  }

  /** Of its epoch as primary, whether or not it is still ahead; undefined while none is held. */
  get lease(): Lease | undefined {
    return this.#lease;
  }

  /** The answer to a question that was sent then. */
  take(answer: AuthorityAnswer, sentMs: number): void {
    const { primary, state } = answer;
    this.#state = state;
    this.#primaryEpoch = primary?.epoch ?? 0;
    // However long it says: k may be raised under a longer lease, and a taker waits out a grant's length only.
    const remainingMs = primary === undefined || primary.released ? 0 : deliverableMs(primary.leaseRemainingMs);
    if (primary === undefined || remainingMs <= 0) return this.#drop();
    const present = this.#lease;
    const identity = { member: answer.member.name, epoch: primary.epoch, number: primary.leaseNumber };
    if (present !== undefined && sameLease(present.identity, identity)) {
      present.extend(sentMs, sentMs + remainingMs);
      return;
    }
    this.#drop();
    this.#lease = new Lease(identity, sentMs + remainingMs, this.#watch);
  }

  /** It belongs to an epoch that is over, or isn't asked any more. */
  forget(): void {
    this.#drop();
  }

  #drop(): void {
    this.#lease?.end();
    this.#lease = undefined;
  }
}

const sameLease = (one: Lease['identity'], other: Lease['identity']): boolean =>
  one.member === other.member && one.epoch === other.epoch && one.number === other.number;
