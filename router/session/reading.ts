/**
 * Reads at followers, as far as a loan has to do with them: what the search goes by, the check of a follower of which it isn't known that
 * it has seen enough, and whether a read that came to nothing there may simply be run at the primary.
 * Leaves to others: what is asked of a follower (consistency/), the backend (loan.ts).
 */
import type { Verdict } from '../consistency/demand.ts';
import { defaultCausalWaitMs } from '../consistency/durations.ts';
import type { FollowerRead } from '../consistency/follower-read.ts';
import type { RouterContext } from '../context.ts';
import type { Backend } from '../pool/backend.ts';
import type { Borrower, Request } from './borrower.ts';
import type { Bound } from './bound.ts';
import type { Wanted } from './search.ts';

export class Reading {
  readonly #context: RouterContext;
  readonly #session: Borrower;
  /** The request at hand was tried at a follower that couldn't keep its promise. */
  #avoidsFollowers = false;
  /** It was sent with its check, and in vain: the next time the check goes first. */
  #wasTried = false;

  constructor(context: RouterContext, session: Borrower) {
    this.#context = context;
    this.#session = session;
  }

  /** Another request. */
  begin(): void {
    this.#avoidsFollowers = false;
    this.#wasTried = false;
  }

  wishFor(request: Request): Pick<Wanted, 'positions' | 'avoidsFollowers' | 'whenBehind' | 'mayBeProven'> {
    const { routing, settings } = this.#session;
    return {
      positions: routing.positions,
      avoidsFollowers: this.#avoidsFollowers,
      whenBehind: settings.meridian.whenBehind ?? 'primary',
      mayBeProven: this.#isAlone(request),
    };
  }

  /**
   * Whether a follower of which it isn't known that it has seen enough is sent the statement together with the check: a round trip
   * less where it has. Where it hasn't, it has run in vain, so only what is known to be quick.
   */
  triesAtOnce({ read }: Bound, request: Request): boolean {
    const [plan] = request.plans;
    if (this.#wasTried || read?.needsProof !== false || plan === undefined || !this.#isAlone(request)) return false;
    return this.#context.costs.of(plan).mayShare(performance.now());
  }

  /** One check, ahead of what is sent with it. */
  askAhead(read: FollowerRead, backend: Backend, answered: (verdict: Verdict) => void): Buffer {
    this.#wasTried = true;
    this.#context.metrics.add('position_checks_total');
    return read.ask(backend, answered);
  }

  /** Behind a read whose answer has to be shown to be durable. */
  askBehind(read: FollowerRead, backend: Backend, shown: (isDurable: boolean) => void): Buffer {
    this.#context.metrics.add('position_checks_total');
    return read.askBehind(backend, performance.now() + this.#waitMs, shown);
  }

  /** It is asked, and waited for a little. */
  check({ read, backend }: Bound, done: (isMet: boolean) => void): void {
    this.#context.metrics.add('position_checks_total');
    read?.check(backend, performance.now() + this.#waitMs, done);
  }

  get #waitMs(): number {
    return this.#session.settings.meridian.causalWaitMs ?? defaultCausalWaitMs;
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

  /** A plain read, outside a transaction, that leaves nothing behind wherever it runs. */
  #isAlone({ ends, silent, plans, trailing }: Request): boolean {
    const isOne = plans.length === 1 && plans[0]?.mayShare === true && trailing.length === 0;
    return isOne && ends && silent === undefined && this.#session.transaction.isIdle;
  }
}
