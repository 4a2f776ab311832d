/**
 * Keeps a backend for its session between transactions, and asks it whether it still has to: acts on what keeping.ts says.
 * Leaves to others: how many may be kept (pool/pool.ts), what becomes of the session when a kept backend is lost (loan.ts).
 */

import type { Lease } from '../authority/lease.ts';
import type { RouterContext } from '../context.ts';
import { RouterError } from '../errors.ts';
import type { BackendReceiver } from '../pool/backend.ts';
import type { Request } from './borrower.ts';
import type { Bound } from './bound.ts';
import { hasLeftovers, leftoversSql, startsKeeping } from './keeping.ts';
import type { SessionSettings } from './settings.ts';

export const tooManyKept = (): RouterError =>
  new RouterError('TooManyKept', 'too many sessions of this role keep a connection to the member');

/** The connection is lost. True where the session had, or might have had, something in it. */
export function forgetKeeping(bound: Bound): boolean {
  const wasKept = bound.isKept || bound.isToBeAsked;
  bound.isToBeAsked = false;
  bound.isKept = false;
  return wasKept;
}

export class Keeper {
  readonly #context: RouterContext;
  readonly #receiver: BackendReceiver;
  #isAsking = false;
  /** Under which the kept backend was used last. */
  #lease: Lease | undefined;

  constructor(context: RouterContext, receiver: BackendReceiver) {
    this.#context = context;
    this.#receiver = receiver;
  }

  get isAsking(): boolean {
    return this.#isAsking;
  }

  /** False where the request would have the session keep its backend, and too many are kept already. */
  admits(bound: Bound, { plans }: Request): boolean {
    return !plans.some((plan) => plan !== undefined && startsKeeping(plan)) || this.#keep(bound);
  }

  #keep(bound: Bound): boolean {
    if (bound.isKept) return true;
    if (!bound.pool.keep(bound.backend)) return false;
    this.#context.metrics.add('kept_total');
    bound.isKept = true;
    return true;
  }

  /** Whether the backend has anything of the session's own left: only it can say (functions, rollbacks). Not called back once it is lost. */
  #ask(bound: Bound, settings: SessionSettings, answered: (fate: 'let-go' | 'kept' | 'refused') => void): void {
    bound.isToBeAsked = false;
    this.#isAsking = true;
    const { backend, configured } = bound;
    bound.configured = [];
    backend.write(
      backend.ownQuery(leftoversSql(configured), (answer) => {
        this.#isAsking = false;
        if (backend.isClosed) return;
        for (const [index, name] of configured.entries()) {
          const value = answer.rows[0]?.[index + 1] ?? undefined;
          if (value !== undefined && !settings.configured(name, value)) return answered('refused');
        }
        if (!hasLeftovers(answer)) return answered('let-go');
        answered(this.#keep(bound) ? 'kept' : 'refused');
      }),
    );
  }

  /** A transaction is over: it rests at once, or once it has said that it is still of use. */
  settle(
    bound: Bound,
    settings: SessionSettings,
    needsPin: boolean,
    settled: (fate: 'let-go' | 'kept' | 'refused') => void,
  ): void {
    const rest = (fate: 'let-go' | 'kept' | 'refused'): void => {
      if (fate === 'kept') this.#rest(bound, needsPin);
      settled(fate);
    };
    if (bound.isToBeAsked) this.#ask(bound, settings, rest);
    else rest('kept');
  }

  /** Nothing is under way: the next transaction is pinned and believed anew; what comes unasked counts while there is a lease. */
  #rest(bound: Bound, needsPin: boolean): void {
    const { backend, pool, chosen } = bound;
    bound.tenant = undefined;
    bound.needsPin = needsPin;
    this.#lease = bound.lease ?? this.#lease;
    const lease = this.#lease;
    bound.lease = undefined;
    bound.mayHaveWritten = false;
    // Whatever becomes of it, nobody else gets it as it is.
    backend.isSuspect = true;
    backend.assign(this.#receiver);
    const { authority } = this.#context;
    if (chosen.isPrimary)
      backend.believeUnder({
        get isHeld() {
          return authority.leaseOf(chosen.member.name) !== undefined;
        },
        prove: (settle) => {
          const present = authority.leaseOf(chosen.member.name) ?? lease;
          if (present === undefined) settle(false);
          else present.prove(settle);
        },
      });
    pool.rest(backend, true);
  }
}
