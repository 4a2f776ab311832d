/**
 * Notes where a session was and what it has seen there (consistency/session-positions.ts). Where something may have been committed, and
 * for sessions to which it matters, the primary is asked in the same write where it is, and nothing more is taken from the client before
 * that is answered: whoever asks for the token of a commit that he has heard of gets it. The client's ReadyForQuery waits only where its
 * token is said to it unasked, since it comes ahead of that. Elsewhere the place and the time do.
 * Leaves to others: what is asked when (consistency/capture.ts), the backend (loan.ts).
 */
import type { Lsn } from '#core/lsn.ts';
import { endsIdle, flushLsnCall, mayWrite } from '../consistency/capture.ts';
import type { RouterContext } from '../context.ts';
import { parameterStatus } from '../wire/server-messages.ts';
import type { Borrower, Request } from './borrower.ts';
import type { Bound } from './bound.ts';

interface Question {
  readonly bound: Bound;
  /** Of the ReadyForQuery; undefined until it has come. */
  status: number | undefined;
  /** It isn't passed on: it is said when the primary has answered. */
  readonly isHeld: boolean;
}

/** A ReadyForQuery that has come, with a question behind it that had not been answered by then. */
export interface Waited {
  readonly status: number;
  /** The client hasn't had it yet. */
  readonly isHeld: boolean;
}

export class Sightings {
  readonly #context: RouterContext;
  readonly #session: Borrower;
  #question: Question | undefined;

  constructor(context: RouterContext, session: Borrower) {
    this.#context = context;
    this.#session = session;
  }

  /** The client's next ReadyForQuery isn't passed on: it will be said when the primary has answered. */
  get holdsReady(): boolean {
    return this.#question?.isHeld === true;
  }

  /** What goes along behind a request; undefined where nothing is asked. `answered` when both have come. */
  ask(bound: Bound, { plans, ends }: Request, answered: (waited: Waited) => void): Buffer | undefined {
    const { transaction, routing, settings } = this.#session;
    bound.mayHaveWritten ||= mayWrite(plans);
    if (bound.lease === undefined || !ends || !endsIdle(!transaction.isIdle, plans)) return undefined;
    if (!bound.mayHaveWritten && !routing.positions.isAware) return undefined;
    const isHeld = bound.mayHaveWritten && settings.meridian.reportToken === true;
    const question: Question = { bound, status: undefined, isHeld };
    this.#question = question;
    return bound.backend.ownCall(flushLsnCall, (lsn) => {
      if (this.#question !== question) return;
      this.#question = undefined;
      if (question.status === undefined) return;
      this.#place(bound, lsn);
      answered({ status: question.status, isHeld });
    });
  }

  /** A ReadyForQuery has come. True where a question is still to be answered. */
  waits(status: number): boolean {
    if (this.#question === undefined) return false;
    this.#question.status = status;
    return true;
  }

  /** The connection is lost. The ReadyForQuery that had come before: what it ended did end. */
  lost(bound: Bound | undefined): Waited | undefined {
    const { status, isHeld = false } = this.#question ?? {};
    this.#question = undefined;
    if (bound !== undefined) this.sighted(bound);
    return status === undefined ? undefined : { status, isHeld };
  }

  /** A transaction is over, or lost, without its place being asked. */
  sighted(bound: Bound): void {
    const { chosen, backend, lease, read, mayHaveWritten, isProven } = bound;
    const { member, isPrimary } = chosen;
    const { identity } = backend;
    // A backend that is kept goes on to another transaction.
    bound.mayHaveWritten = false;
    const { positions } = this.#session.routing;
    const place = { member: member.name, postmaster: identity.postmaster };
    const nowMs = performance.now();
    if (isPrimary && lease !== undefined) positions.wasAtPrimary(member.shard, place, nowMs, !mayHaveWritten);
    else if (read !== undefined) positions.wasAtFollower(member.shard, place, nowMs, isProven);
  }

  #place(bound: Bound, lsn: bigint | undefined): void {
    const { routing, settings } = this.#session;
    const { lease, mayHaveWritten, chosen } = bound;
    if (lsn === undefined || lease === undefined) return this.sighted(bound);
    const position = { epoch: lease.identity.epoch, lsn: lsn as Lsn };
    const { shard } = chosen.member;
    bound.mayHaveWritten = false;
    if (!mayHaveWritten) return routing.positions.readBefore(shard, position);
    routing.positions.committed(shard, position);
    if (settings.meridian.reportToken === true)
      this.#session.say(parameterStatus('meridian.token', this.#context.tokens.encode(routing.positions.all)));
  }
}
