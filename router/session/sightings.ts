/**
 * Notes where a session was and what it has seen there (consistency/session-positions.ts). Where something may have been committed, and
 * for sessions to which it matters, the primary is asked in the same write where it is; the client's ReadyForQuery waits for that, so
 * that whoever has heard of a commit has its token. Elsewhere the place and the time do.
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
  /** Of the ReadyForQuery that waits; undefined until it has come. */
  status: number | undefined;
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
  get isAsking(): boolean {
    return this.#question !== undefined;
  }

  /** What goes along behind a request; undefined where nothing is asked. `answered` with the status of the ReadyForQuery that waited. */
  ask(bound: Bound, { plans, ends }: Request, answered: (status: number) => void): Buffer | undefined {
    const { transaction, routing } = this.#session;
    bound.mayHaveWritten ||= mayWrite(plans);
    if (bound.lease === undefined || !ends || !endsIdle(!transaction.isIdle, plans)) return undefined;
    if (!bound.mayHaveWritten && !routing.positions.isAware) return undefined;
    const question: Question = { bound, status: undefined };
    this.#question = question;
    return bound.backend.ownCall(flushLsnCall, (lsn) => {
      if (this.#question !== question) return;
      this.#question = undefined;
      if (question.status === undefined) return;
      this.#place(bound, lsn);
      answered(question.status);
    });
  }

  /** A ReadyForQuery has come. True where it waits. */
  holds(status: number): boolean {
    if (this.#question === undefined) return false;
    this.#question.status = status;
    return true;
  }

  /** The connection is lost. The status of a ReadyForQuery that had come before and waits: what it ended did end. */
  lost(bound: Bound | undefined): number | undefined {
    const status = this.#question?.status;
    this.#question = undefined;
    if (bound !== undefined) this.sighted(bound);
    return status;
  }

  /** A transaction is over, or lost, without its place being asked. */
  sighted(bound: Bound): void {
    const { chosen, backend, lease, read, mayHaveWritten } = bound;
    const { member, isPrimary } = chosen;
    const { identity } = backend;
    // A backend that is kept goes on to another transaction.
    bound.mayHaveWritten = false;
    const { positions } = this.#session.routing;
    const place = { member: member.name, postmaster: identity.postmaster };
    const nowMs = performance.now();
    if (isPrimary && lease !== undefined) positions.wasAtPrimary(member.shard, place, nowMs, !mayHaveWritten);
    else if (read !== undefined) positions.wasAtFollower(member.shard, place, nowMs);
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
