/**
 * What was sent to a backend since its last ReadyForQuery: which statements it has completed, and what may have come of them all.
 * A completed statement stays part of it: what it did is committed with the Sync, after its CommandComplete ("Extended Query").
 * Leaves to others: the messages (loan.ts, pool/backend.ts), what a client is told of a loss (loss.ts).
 */
import type { StatementPlan } from '../plan/types.ts';
import { mayHaveCommitted } from './loss.ts';
import { surelyWritesNothing } from './statement-class.ts';
import { mayCommit } from './transaction.ts';

export class Segment {
  #plans: (StatementPlan | undefined)[] = [];
  #completed = 0;
  #hasFailed = false;
  /** A commit's wait for its followers was cancelled. */
  waitWasCancelled = false;

  /** Undefined stands for a statement of which nothing is known. */
  get plans(): readonly (StatementPlan | undefined)[] {
    return this.#plans;
  }

  get hasFailed(): boolean {
    return this.#hasFailed;
  }

  send(plans: readonly (StatementPlan | undefined)[]): void {
    this.#plans.push(...plans);
  }

  /** The next one is completed, or has given as many rows as were asked for. */
  complete(): StatementPlan | undefined {
    const plan = this.#plans[this.#completed];
    this.#completed += 1;
    return plan;
  }

  /** An error: what follows is skipped, and what isn't committed yet won't be. */
  fail(): void {
    this.#hasFailed = true;
    const completed = this.#plans.slice(0, this.#completed);
    this.#plans = completed.slice(0, completed.findLastIndex((plan) => plan !== undefined && mayCommit(plan)) + 1);
    this.#completed = this.#plans.length;
  }

  end(): void {
    this.#plans = [];
    this.#completed = 0;
    this.#hasFailed = false;
    this.waitWasCancelled = false;
  }

  /** Postgres reports success for a commit whose wait is cancelled, so nothing that may be committing is (traps, ambiguity 20). */
  mayBeCancelled(isInTransaction: boolean, volatileFunctions: ReadonlySet<string>): boolean {
    if (isInTransaction)
      return this.#plans.every((plan) => plan !== undefined) && !mayHaveCommitted(isInTransaction, this.#plans);
    return (
      this.#plans.length > 0 &&
      this.#plans.every((plan) => plan !== undefined && surelyWritesNothing(plan, volatileFunctions))
    );
  }
}
