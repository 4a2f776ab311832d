/**
 * Reads at followers, as far as a loan has to do with them: what the search goes by, the check of a follower of which it isn't known that
 * it has seen enough, and whether a read that came to nothing there may simply be run at the primary.
 * Leaves to others: what is asked of a follower (consistency/), the backend (loan.ts).
 */
import { defaultCausalWaitMs } from '../consistency/durations.ts';
import type { RouterContext } from '../context.ts';
import type { Borrower, Request } from './borrower.ts';
import type { Bound } from './bound.ts';
import type { Wanted } from './search.ts';

export class Reading {
  readonly #context: RouterContext;
  readonly #session: Borrower;
  /** The request at hand was tried at a follower that couldn't keep its promise. */
  #avoidsFollowers = false;

  constructor(context: RouterContext, session: Borrower) {
    this.#context = context;
    this.#session = session;
  }

  /** Another request. */
  begin(): void {
    this.#avoidsFollowers = false;
  }

  get wish(): Pick<Wanted, 'positions' | 'avoidsFollowers' | 'whenBehind'> {
    const { routing, settings } = this.#session;
    return {
      positions: routing.positions,
      avoidsFollowers: this.#avoidsFollowers,
      whenBehind: settings.meridian.whenBehind ?? 'primary',
    };
  }

  /** It is asked, and waited for a little. */
  check({ read, backend }: Bound, done: (isMet: boolean) => void): void {
    const waitMs = this.#session.settings.meridian.causalWaitMs ?? defaultCausalWaitMs;
    this.#context.metrics.add('position_checks_total');
    read?.check(backend, performance.now() + waitMs, done);
  }

  /** Read at a follower, where nothing can be written, by itself, and nothing of the answer has come to the client. */
  mayRunElsewhere(bound: Bound | undefined, { ends, silent }: Request): boolean {
    if (bound?.read === undefined || bound.hasAnswered || bound.isKept) return false;
    return ends && silent === undefined && this.#session.transaction.isIdle;
  }

  /** From here on the primary serves the request. */
  leaveFollowers(): void {
    this.#context.metrics.add('followers_behind_total');
    this.#avoidsFollowers = true;
  }
}
