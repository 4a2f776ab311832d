/**
 * The simple protocol: a Query with any number of statements, and function calls. Which statements the router answers itself, which go
 * to a backend, and with what text. Leaves to others: what is answered (responder.ts), where it runs (session-routing.ts, loan.ts).
 */
import { RouterError } from '../errors.ts';
import type { PlannedStatement } from '../exec/plan-cache.ts';
import { anyRoute, type Route } from '../exec/route.ts';
import { expectQuery } from '../pool/expectation.ts';
import { functionCalled, queryMessage } from '../wire/client-messages.ts';
import { headerBytes } from '../wire/codes.ts';
import { commandComplete, emptyQueryResponse, readyForQuery } from '../wire/server-messages.ts';
import type { Conversation } from './conversation.ts';
import { functionCallPlan, needsBackend } from './statement-class.ts';
import { endsFailure } from './transaction.ts';

/** set_config() in pg_proc.dat. */
const setConfig = 2078;

export class SimpleQueries {
  readonly #session: Conversation;

  constructor(session: Conversation) {
    this.#session = session;
  }

  /** @throws RouterError */
  query(frame: Buffer): void {
    const { statements, routing, transaction, settings, responder } = this.#session;
    // A simple query ends the unnamed statement ("Extended Query").
    statements.delete('');
    const planned = routing.planQuery(frame);
    if (planned.length === 0) {
      this.#session.say(emptyQueryResponse);
      return this.#session.say(readyForQuery(transaction.status));
    }
    const [only] = planned;
    if (planned.length === 1 && only !== undefined && this.#session.mayRide(only)) {
      const route = routing.routeOf(planned);
      if (this.#session.ride.start({ planned: only, route, frame, operations: [] })) return;
      return this.#run(frame, planned, route, []);
    }
    settings.expectRoom(planned);
    if (transaction.hasFailed) return this.#inFailed(planned);
    const copied = planned.find(({ plan }) => plan.copy?.direction === 'in');
    if (copied !== undefined) {
      if (planned.length > 1)
        throw new RouterError('NotSupported', 'COPY FROM STDIN together with other statements', {
          hint: 'Send it as a query of its own.',
        });
      return this.#session.copyIn(copied, false);
    }
    const state = this.#session.backendState;
    const isRemote = ({ plan }: PlannedStatement): boolean => needsBackend(plan, planned, state);
    const first = planned.findIndex(isRemote);
    if (first === -1) {
      for (const statement of planned) responder.answer(statement, true);
      return this.#session.say(readyForQuery(transaction.status));
    }
    const last = planned.findLastIndex(isRemote);
    const middle = planned.slice(first, last + 1);
    if (!middle.every(isRemote))
      throw new RouterError(
        'MixedPipeline',
        'what the router answers itself in the middle of a query of several statements',
      );
    for (const statement of planned.slice(0, first)) responder.answer(statement, true);
    const trailing = planned.slice(last + 1);
    const route = routing.routeOf(middle);
    if (!middle.some(({ plan }) => plan.channel !== undefined)) {
      const bytes = middle.length === planned.length ? frame : queryMessage(textOf(frame, middle));
      return this.#run(bytes, middle, route, trailing);
    }
    this.#session.channels.resolve(
      middle.map(({ plan }) => plan),
      route,
      (nameOf) => {
        const texts = middle.map((one) => nameOf(one.plan) ?? textOf(frame, [one]));
        this.#run(queryMessage(texts.join(';\n')), middle, route, trailing);
      },
      (error) => this.#session.refuse(error, false),
    );
  }

  /** In a failed transaction only its end, or the return to a savepoint, does anything. */
  #inFailed(planned: readonly PlannedStatement[]): void {
    const { transaction, loan } = this.#session;
    const [only] = planned;
    const end = planned.length === 1 && only !== undefined ? endsFailure(only.plan) : undefined;
    if (only === undefined || end === undefined) throw transaction.aborted();
    if (!loan.isBound) {
      if (end === 'savepoint') throw transaction.aborted();
      this.#session.say(commandComplete(transaction.endFailed(only.plan)));
      return this.#session.say(readyForQuery(transaction.status));
    }
    // The backend may not know that the transaction has failed: a COMMIT must not reach it.
    transaction.isRefused = false;
    this.#run(queryMessage(end === 'savepoint' ? only.plan.text : 'ROLLBACK'), planned, anyRoute, []);
  }

  /** What could have shared a connection goes the usual way. */
  walk(frame: Buffer, planned: PlannedStatement, route: Route): void {
    this.#run(frame, [planned], route, [], true);
  }

  functionCall(frame: Buffer): void {
    const { transaction, routing } = this.#session;
    if (transaction.hasFailed) throw transaction.aborted();
    if (functionCalled(frame) === setConfig)
      throw new RouterError('Forbidden', 'set_config() is not allowed as a function call message', {
        hint: 'Use SET: what a function call sets is not seen, and would be lost.',
      });
    const call = { plan: functionCallPlan, hints: {} };
    this.#run(frame, [call], routing.routeOf([call]), []);
  }

  #run(
    bytes: Buffer,
    planned: readonly Pick<PlannedStatement, 'plan'>[],
    route: Route,
    trailing: readonly PlannedStatement[],
    isSpent = false,
  ): void {
    this.#session.loan.run({
      route,
      plans: planned.map((statement) => statement.plan),
      bytes: (backend) => {
        backend.expect(expectQuery);
        return [bytes];
      },
      size: bytes.length,
      ends: true,
      isExtended: false,
      isSpent,
      trailing,
    });
  }
}

/** The text of some statements of a query, from the first to the last. */
function textOf(frame: Buffer, statements: readonly PlannedStatement[]): string {
  const first = statements[0] as PlannedStatement;
  const last = statements.at(-1) as PlannedStatement;
  return frame.toString('utf8', headerBytes + first.plan.start, headerBytes + last.plan.end);
}
