/**
 * The extended protocol: messages gathered up to a Sync or Flush, answered by the router or sent together, and ignored from an error to
 * the Sync. Leaves to others: what the messages say (batch.ts), their bytes for a backend (send.ts), where they run (loan.ts).
 */
import { RouterError } from '../errors.ts';
import { anyRoute, type Route } from '../exec/route.ts';
import { expectSync } from '../pool/expectation.ts';
import { flushMessage, syncMessage } from '../wire/client-messages.ts';
import { ProtocolViolation } from '../wire/protocol-violation.ts';
import { readyForQuery } from '../wire/server-messages.ts';
import { type BatchScope, isOneRun, type Operation, readOperation, statementsOf, tellsAll } from './batch.ts';
import type { Conversation } from './conversation.ts';
import { resultTypeChanged } from './loss.ts';
import { operationBytes } from './send.ts';
import { needsBackend } from './statement-class.ts';
import type { ClientStatement } from './statements.ts';
import { endsFailure } from './transaction.ts';

/** A batch this long is sent on before its Sync. */
const maxBatchBytes = 4 * 1024 * 1024;
/** What a message takes besides its bytes, about. */
const operationBytesKept = 400;

/** How a batch ends: with a Sync (the router's own, where the client does without), a Flush, or because it grew too long. */
type BatchEnd = 'sync' | 'implied' | 'flush' | 'length';

export class Extended {
  readonly #session: Conversation;
  readonly #scope: BatchScope;
  #batch: Operation[] = [];
  #batchBytes = 0;
  /** Refused within a batch: everything is ignored up to the Sync. */
  isSkipping = false;
  /** Something was executed since the last Sync. */
  #hasExecuted = false;
  /** What was sent last, or since the pipeline was opened, is about these. */
  underWay: readonly ClientStatement[] = [];

  constructor(session: Conversation) {
    this.#session = session;
    this.#scope = {
      statements: session.statements,
      portals: session.portals,
      shared: session.context.shared,
      settings: session.settings,
      planner: session.routing,
    };
  }

  /** Nothing waits for a Sync. */
  get isEmpty(): boolean {
    return this.#batch.length === 0;
  }

  /** @throws RouterError, ProtocolViolation */
  take(frame: Buffer): void {
    const operation = readOperation(frame, this.#scope);
    this.#batch.push(operation);
    if (operation.kind === 'execute') this.#hasExecuted = true;
    if (operation.kind === 'parse') this.#session.context.metrics.add('client_parses_total');
    else if (operation.kind === 'bind') this.#session.context.metrics.add('binds_total');
    this.#batchBytes += frame.length + operationBytesKept;
    if (this.#batchBytes > maxBatchBytes) this.#runBatch('length');
  }

  flush(): void {
    if (this.#batch.length > 0 || this.#session.loan.isOpen) this.#runBatch('flush');
  }

  /**
   * A query comes where a Sync was to be expected: asyncpg makes and describes a statement, with a Flush, and then copies. Postgres runs
   * it in the same transaction, which is another only where something was executed in it.
   * @throws ProtocolViolation, RouterError
   */
  implySync(): void {
    if (this.#hasExecuted)
      throw new ProtocolViolation('a query behind what was executed in an extended-query sequence; send Sync first');
    this.#runBatch('implied');
  }

  sync(): void {
    this.#hasExecuted = false;
    if (!this.isSkipping) return this.#runBatch('sync');
    this.isSkipping = false;
    const { loan, transaction, settings } = this.#session;
    if (loan.isOpen) return this.#runOperations([], 'sync', anyRoute);
    // Settings of an implicit transaction that no backend took part in go with it.
    if (transaction.isIdle) settings.rollback();
    this.#session.say(readyForQuery(transaction.status));
  }

  /** What was gathered comes to nothing. */
  drop(): void {
    this.#batch = [];
    this.#batchBytes = 0;
  }

  forgetUnconfirmed(): void {
    const { statements } = this.#session;
    for (const [name, statement] of statements) if (!statement.confirmed) statements.delete(name);
  }

  #runBatch(end: BatchEnd): void {
    const { loan, transaction, settings, routing } = this.#session;
    const operations = this.#batch;
    this.drop();
    if (operations.length === 0) {
      if (loan.isOpen) return this.#runOperations([], end, anyRoute);
      return this.#session.say(readyForQuery(transaction.status));
    }
    const statements = statementsOf(operations);
    const planned = statements.flatMap((statement) => statement.planned ?? []);
    settings.expectRoom(planned);
    if (transaction.hasFailed) return this.#inFailed(operations, end);
    if (statements.some((statement) => statement.isToldOtherwise) && !tellsAll(operations)) throw resultTypeChanged();
    this.underWay = loan.isOpen ? [...this.underWay, ...statements] : statements;
    if (planned.some(({ plan }) => plan.copy?.direction === 'in') && this.#isCopyIn(operations)) return;
    const state = this.#session.backendState;
    const remote = planned.filter(({ plan }) => needsBackend(plan, planned, state));
    if (planned.length > 0 && remote.length === 0 && !loan.isOpen) return this.#answer(operations, end);
    if (remote.length < planned.length)
      throw new RouterError('MixedPipeline', 'meridian.* settings and other statements in one pipeline');
    const route = routing.routeOfBatch(operations, loan.isBound);
    const named = statements.filter((statement) => statement.planned?.plan.channel !== undefined);
    if (named.length === 0) {
      const [only] = planned;
      if (end === 'sync' && planned.length === 1 && only !== undefined && isOneRun(operations, statements))
        if (this.#session.mayRide(only))
          if (this.#session.ride.start({ planned: only, route, frame: undefined, operations })) return;
      return this.#runOperations(operations, end, route);
    }
    this.#nameChannels(named, route, operations, end);
  }

  /** What could have shared a connection goes the usual way. */
  walk(operations: readonly Operation[], route: Route): void {
    this.#runOperations(operations, 'sync', route, { isSpent: true });
  }

  /** LISTEN and the like are said with the names that channels have at the member. */
  #nameChannels(
    statements: readonly ClientStatement[],
    route: Route,
    operations: readonly Operation[],
    end: BatchEnd,
  ): void {
    this.#session.channels.resolve(
      statements.flatMap((statement) => statement.planned?.plan ?? []),
      route,
      (nameOf) => {
        for (const statement of statements) {
          const text = statement.planned === undefined ? undefined : nameOf(statement.planned.plan);
          if (text !== undefined) statement.rewrite(text);
        }
        this.#runOperations(operations, end, route);
      },
      (error) => {
        this.#session.refuse(error, true);
        if (end === 'sync') this.sync();
      },
    );
  }

  /** COPY ... FROM STDIN is executed by the router; everything else about such a statement is as usual. */
  #isCopyIn(operations: readonly Operation[]): boolean {
    const execute = operations.findIndex(
      (operation) => operation.kind === 'execute' && operation.portal?.statement.planned?.plan.copy?.direction === 'in',
    );
    const operation = operations[execute];
    if (operation?.kind !== 'execute' || operation.portal?.statement.planned === undefined) return false;
    const { statement } = operation.portal;
    const isAlone = operations.every(
      (one, index) =>
        index === execute || (one.kind !== 'execute' && statementsOf([one]).every((other) => other === statement)),
    );
    if (!isAlone || execute !== operations.length - 1 || this.#session.loan.isOpen)
      throw new RouterError('NotSupported', 'COPY FROM STDIN in a pipeline with other statements', {
        hint: 'Send a Sync before and after it.',
      });
    this.#session.responder.answerBatch(operations.slice(0, execute));
    this.#session.copyIn(operation.portal.statement.planned, true);
    return true;
  }

  #inFailed(operations: readonly Operation[], end: BatchEnd): void {
    const { loan, transaction } = this.#session;
    const executed = operations.find((operation) => operation.kind === 'execute');
    const plan = executed?.portal?.statement.planned?.plan;
    const ending = plan === undefined ? undefined : endsFailure(plan);
    if (ending === undefined) throw transaction.aborted();
    if (loan.isBound && (ending === 'savepoint' || !transaction.isRefused)) {
      transaction.isRefused = false;
      return this.#runOperations(operations, end, anyRoute);
    }
    if (ending === 'savepoint') throw transaction.aborted();
    // The backend has a transaction that it believes to be well: it is rolled back by letting go of it.
    loan.abandon('a refused transaction ends');
    this.#answer(operations, end);
  }

  #answer(operations: readonly Operation[], end: BatchEnd): void {
    this.#session.responder.answerBatch(operations);
    if (end === 'sync') this.#session.say(readyForQuery(this.#session.transaction.status));
  }

  /** Its plan was of former tables, and the client has heard nothing of that: statements that are there are made anew on the way. */
  again(operations: readonly Operation[], route: Route): void {
    try {
      const unsaid = operations.filter(({ kind }) => kind !== 'parse');
      this.#runOperations(unsaid, 'sync', route, { isSpent: true, isAgain: true });
    } catch (error) {
      if (!(error instanceof RouterError)) throw error;
      this.#session.refuse(error, true);
      this.sync();
    }
  }

  #runOperations(
    operations: readonly Operation[],
    end: BatchEnd,
    route: Route,
    { isSpent = false, isAgain = false } = {},
  ): void {
    const { loan } = this.#session;
    const ends = end === 'sync' || end === 'implied';
    const mayGoAgain = end === 'sync' && !isAgain && !loan.isOpen && tellsAll(operations);
    loan.run({
      route,
      plans: operations
        .filter((operation) => operation.kind === 'execute')
        .map((operation) => operation.portal?.statement.planned?.plan),
      bytes: (backend, changed) => {
        const bytes = operationBytes(operations, backend, ends, changed);
        if (ends) backend.expect(expectSync);
        if (ends) bytes.push(syncMessage);
        else if (end === 'flush') bytes.push(flushMessage);
        return bytes;
      },
      size: operations.reduce((total, operation) => total + operation.frame.length, 0),
      ends,
      isExtended: true,
      isImplied: end === 'implied',
      isSpent,
      trailing: [],
      ...(mayGoAgain && { again: () => this.again(operations, route) }),
    });
  }
}
