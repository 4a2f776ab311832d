/**
 * One client after its log-in: takes its messages in order, decides what each one asks for, and answers or has it answered.
 * Leaves reading of messages to wire/, routing to session-routing.ts and exec/, backends to loan.ts, own answers to responder.ts.
 *
 * Invariants: one segment (a query, or messages up to a Sync) is under way at a time; answers leave in the order of what they
 * answer; what is refused is refused before a byte of it is sent, and in a transaction that has failed with it.
 */
import type { Socket } from 'node:net';
import type { RouterContext } from '../context.ts';
import { RouterError } from '../errors.ts';
import type { PlannedStatement } from '../exec/plan-cache.ts';
import { anyRoute } from '../exec/route.ts';
import type { Login } from '../map/logins.ts';
import { expectQuery, expectSync } from '../pool/expectation.ts';
import { flushMessage, queryMessage, readQuery, syncMessage } from '../wire/client-messages.ts';
import { frontend, headerBytes, maxClientMessageBytes } from '../wire/codes.ts';
import { FrameSplitter } from '../wire/frames.ts';
import { ProtocolViolation } from '../wire/protocol-violation.ts';
import { commandComplete, emptyQueryResponse, readyForQuery } from '../wire/server-messages.ts';
import { type BatchScope, type BoundPortal, type Operation, readOperation, statementsOf } from './batch.ts';
import type { Borrower, Request } from './borrower.ts';
import type { CancelKey, Cancellable } from './cancel-keys.ts';
import { Inbox } from './inbox.ts';
import { KeptNames } from './kept-names.ts';
import { Loan } from './loan.ts';
import type { LocalScope } from './local.ts';
import { Outbox } from './outbox.ts';
import { Responder } from './responder.ts';
import { operationBytes } from './send.ts';
import { SessionRouting } from './session-routing.ts';
import type { SessionSettings } from './settings.ts';
import { functionCallPlan, needsBackend, refuseUnpoolable } from './statement-class.ts';
import type { ClientStatement } from './statements.ts';
import { ClientTransaction, endsFailure } from './transaction.ts';

/** A batch this long is sent on before its Sync. */
const maxBatchBytes = 4 * 1024 * 1024;

/** How a batch ends: with a Sync, a Flush, or because it grew too long. */
type BatchEnd = 'sync' | 'flush' | 'length';

export interface SessionStart {
  readonly login: Login;
  readonly settings: SessionSettings;
  readonly applicationName: string;
}

export class Session implements Borrower, Cancellable {
  readonly settings: SessionSettings;
  readonly transaction: ClientTransaction;
  readonly routing: SessionRouting;
  key: CancelKey | undefined;

  readonly #context: RouterContext;
  readonly #socket: Socket;
  readonly #onClosed: (session: Session) => void;
  readonly #splitter = new FrameSplitter(maxClientMessageBytes);
  readonly #inbox = new Inbox();
  readonly #outbox: Outbox;
  readonly #loan: Loan;
  readonly #responder: Responder;
  readonly #statements = new KeptNames<ClientStatement>('prepared statements', ({ bytes }) => bytes);
  readonly #portals = new KeptNames<BoundPortal>('portals', ({ statement }) => statement.bytes);
  readonly #scope: BatchScope;
  #batch: Operation[] = [];
  #batchBytes = 0;
  /** Refused within a batch: everything is ignored up to the Sync. */
  #isSkipping = false;
  #isPumping = false;
  #isDraining = false;
  #isClosed = false;

  constructor(context: RouterContext, socket: Socket, start: SessionStart, onClosed: (session: Session) => void) {
    this.settings = start.settings;
    this.transaction = new ClientTransaction(start.settings);
    this.routing = new SessionRouting(context, start.login, {
      settings: start.settings,
      transaction: this.transaction,
      applicationName: start.applicationName,
    });
    this.#context = context;
    this.#socket = socket;
    this.#onClosed = onClosed;
    this.#outbox = new Outbox(socket);
    this.#loan = new Loan(context, this);
    this.#responder = new Responder(context, this);
    this.#scope = {
      statements: this.#statements,
      portals: this.#portals,
      shared: context.shared,
      settings: start.settings,
      planner: this.routing,
    };
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('drain', () => this.#drained());
    socket.on('close', () => this.#close());
    socket.on('error', () => socket.destroy());
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  get login(): Login {
    return this.routing.login;
  }

  // ---- bytes from the client

  receive(chunk: Buffer): void {
    if (this.#isClosed) return;
    this.#context.metrics.add('client_bytes_total', chunk.length);
    try {
      this.#splitter.push(chunk, (_type, frame) => this.#inbox.push(frame));
    } catch (error) {
      return this.#endWith(error);
    }
    this.#pump();
    this.flush();
  }

  /** Takes messages as long as nothing has to be waited for. */
  #pump(): void {
    if (this.#isPumping || this.#isClosed) return;
    this.#isPumping = true;
    while (!this.#isClosed && this.#loan.isAtRest && !this.#outbox.isFull) {
      const frame = this.#inbox.shift();
      if (frame === undefined) break;
      try {
        this.#take(frame);
      } catch (error) {
        if (error instanceof RouterError) this.#refuseFrame(error, frame[0]);
        else this.#endWith(error);
      }
    }
    this.#isPumping = false;
    if (this.#isClosed) return;
    const isJammed = this.#inbox.isFull || this.#outbox.isFull || this.#loan.isJammed;
    if (isJammed) this.#socket.pause();
    else if (this.#socket.isPaused()) this.#socket.resume();
    if (this.#isDraining) this.#endIfDrained();
  }

  #take(frame: Buffer): void {
    const type = frame[0];
    if (type === frontend.terminate) return this.#leave();
    const revoked = this.routing.revoked();
    if (revoked !== undefined) return this.#endWith(revoked);
    if (this.#isSkipping && type !== frontend.sync) return;
    switch (type) {
      case frontend.query:
        this.#expectNoBatch();
        return this.#query(frame);
      case frontend.functionCall:
        this.#expectNoBatch();
        return this.#functionCall(frame);
      case frontend.parse:
      case frontend.bind:
      case frontend.describe:
      case frontend.execute:
      case frontend.close:
        this.#batch.push(readOperation(frame, this.#scope));
        this.#batchBytes += frame.length;
        if (this.#batchBytes > maxBatchBytes) this.#runBatch('length');
        return;
      case frontend.flush:
        if (this.#batch.length > 0 || this.#loan.isOpen) this.#runBatch('flush');
        return;
      case frontend.sync:
        return this.#sync();
      case frontend.copyData:
      case frontend.copyDone:
      case frontend.copyFail:
        // Left over from a COPY that has failed: ignored, as Postgres does.
        return;
      default:
        throw new ProtocolViolation(`invalid frontend message type ${type}`);
    }
  }

  #expectNoBatch(): void {
    if (this.#batch.length > 0 || this.#loan.isOpen)
      throw new ProtocolViolation('a query within an extended-query sequence; send Sync first');
  }

  // ---- simple protocol

  #query(frame: Buffer): void {
    // A simple query ends the unnamed statement ("Extended Query").
    this.#statements.delete('');
    const planned = this.routing.plan(readQuery(frame));
    if (planned.length === 0) {
      this.say(emptyQueryResponse);
      return this.say(readyForQuery(this.transaction.status));
    }
    for (const { plan } of planned) refuseUnpoolable(plan);
    this.settings.expectRoom(planned);
    if (this.transaction.hasFailed) return this.#queryInFailed(planned);
    const isRemote = ({ plan }: PlannedStatement): boolean =>
      needsBackend(plan, planned, { isBound: this.#loan.isBound, isLazy: this.transaction.isLazy });
    const first = planned.findIndex(isRemote);
    if (first === -1) {
      for (const statement of planned) this.#responder.answer(statement, true);
      return this.say(readyForQuery(this.transaction.status));
    }
    const last = planned.findLastIndex(isRemote);
    const middle = planned.slice(first, last + 1);
    if (!middle.every(isRemote))
      throw new RouterError('MixedPipeline', 'meridian.* settings in the middle of a query of several statements');
    for (const statement of planned.slice(0, first)) this.#responder.answer(statement, true);
    const bytes = middle.length === planned.length ? frame : queryMessage(textOf(frame, middle));
    this.#runQuery(bytes, middle, this.routing.routeOf(middle), planned.slice(last + 1));
  }

  /** In a failed transaction only its end, or the return to a savepoint, does anything. */
  #queryInFailed(planned: readonly PlannedStatement[]): void {
    const [only] = planned;
    const end = planned.length === 1 && only !== undefined ? endsFailure(only.plan) : undefined;
    if (only === undefined || end === undefined) throw this.transaction.aborted();
    if (!this.#loan.isBound) {
      if (end === 'savepoint') throw this.transaction.aborted();
      this.say(commandComplete(this.transaction.endFailed(only.plan)));
      return this.say(readyForQuery(this.transaction.status));
    }
    // The backend may not know that the transaction has failed: a COMMIT must not reach it.
    this.transaction.isRefused = false;
    this.#runQuery(queryMessage(end === 'savepoint' ? only.plan.text : 'ROLLBACK'), planned, anyRoute, []);
  }

  #functionCall(frame: Buffer): void {
    if (this.transaction.hasFailed) throw this.transaction.aborted();
    const call = { plan: functionCallPlan, hints: {} };
    this.#runQuery(frame, [call], this.routing.routeOf([call]), []);
  }

  #runQuery(
    bytes: Buffer,
    planned: readonly PlannedStatement[],
    route: Request['route'],
    trailing: readonly PlannedStatement[],
  ): void {
    this.#loan.run({
      route,
      plans: planned.map((statement) => statement.plan),
      bytes: (backend) => {
        backend.expect(expectQuery);
        return [bytes];
      },
      size: bytes.length,
      ends: true,
      isExtended: false,
      trailing,
    });
  }

  // ---- extended protocol

  #sync(): void {
    if (!this.#isSkipping) return this.#runBatch('sync');
    this.#isSkipping = false;
    if (this.#loan.isOpen) return this.#runOperations([], 'sync', anyRoute);
    // Settings of an implicit transaction that no backend took part in go with it.
    if (this.transaction.isIdle) this.settings.rollback();
    this.say(readyForQuery(this.transaction.status));
  }

  #runBatch(end: BatchEnd): void {
    const operations = this.#batch;
    this.#batch = [];
    this.#batchBytes = 0;
    if (operations.length === 0) {
      if (this.#loan.isOpen) return this.#runOperations([], end, anyRoute);
      return this.say(readyForQuery(this.transaction.status));
    }
    const planned = statementsOf(operations).flatMap((statement) => statement.planned ?? []);
    for (const { plan } of planned) refuseUnpoolable(plan);
    this.settings.expectRoom(planned);
    if (this.transaction.hasFailed) return this.#batchInFailed(operations, end);
    const state = { isBound: this.#loan.isBound, isLazy: this.transaction.isLazy };
    const remote = planned.filter(({ plan }) => needsBackend(plan, planned, state));
    if (planned.length > 0 && remote.length === 0 && !this.#loan.isOpen) return this.#answerBatch(operations, end);
    if (remote.length < planned.length)
      throw new RouterError('MixedPipeline', 'meridian.* settings and other statements in one pipeline');
    this.#runOperations(operations, end, this.routing.routeOfBatch(operations, this.#loan.isBound));
  }

  #batchInFailed(operations: readonly Operation[], end: BatchEnd): void {
    const executed = operations.find((operation) => operation.kind === 'execute');
    const plan = executed?.portal?.statement.planned?.plan;
    const ending = plan === undefined ? undefined : endsFailure(plan);
    if (ending === undefined) throw this.transaction.aborted();
    if (this.#loan.isBound && (ending === 'savepoint' || !this.transaction.isRefused)) {
      this.transaction.isRefused = false;
      return this.#runOperations(operations, end, anyRoute);
    }
    if (ending === 'savepoint') throw this.transaction.aborted();
    // The backend has a transaction that it believes to be well: it is rolled back by letting go of it.
    this.#loan.abandon('a refused transaction ends');
    this.#answerBatch(operations, end);
  }

  #answerBatch(operations: readonly Operation[], end: BatchEnd): void {
    this.#responder.answerBatch(operations);
    if (end === 'sync') this.say(readyForQuery(this.transaction.status));
  }

  #runOperations(operations: readonly Operation[], end: BatchEnd, route: Request['route']): void {
    this.#loan.run({
      route,
      plans: operations
        .filter((operation) => operation.kind === 'execute')
        .map((operation) => operation.portal?.statement.planned?.plan),
      bytes: (backend) => {
        const bytes = operationBytes(operations, backend, end === 'sync');
        if (end === 'sync') backend.expect(expectSync);
        if (end === 'sync') bytes.push(syncMessage);
        else if (end === 'flush') bytes.push(flushMessage);
        return bytes;
      },
      size: operations.reduce((total, operation) => total + operation.frame.length, 0),
      ends: end === 'sync',
      isExtended: true,
      trailing: [],
    });
  }

  // ---- what the loan says

  answer(statements: readonly PlannedStatement[]): void {
    try {
      for (const statement of statements) this.#responder.answer(statement, true);
    } catch (error) {
      if (!(error instanceof RouterError)) throw error;
      this.say(error.response());
    }
  }

  segmentEnded(hasFailed: boolean): void {
    if (hasFailed) this.#forgetUnconfirmed();
    if (this.transaction.isIdle) this.#portals.clear();
    this.routing.segmentEnded();
  }

  settled(): void {
    this.#pump();
    this.flush();
  }

  refused(error: RouterError, request: Request): void {
    this.#refuse(error, request.isExtended);
    if (request.isExtended && request.ends) this.#sync();
    this.settled();
  }

  ended(error: RouterError): void {
    this.#endWith(error);
  }

  skipToSync(): void {
    this.#isSkipping = true;
  }

  resultTypeChanged(): void {
    // Made anew, under another name, when it is prepared again; which of them it was, the error doesn't say.
    for (const { shared } of this.#statements.values()) if (shared !== undefined) this.#context.shared.renew(shared);
  }

  localScope(): LocalScope {
    return {
      map: this.routing.map(),
      login: this.login,
      region: this.#context.region,
      settings: this.settings,
      statements: this.#statements,
      isInTransaction: !this.transaction.isIdle,
      servedBy: this.#loan.servedBy,
    };
  }

  // ---- refusing

  #refuseFrame(error: RouterError, type: number | undefined): void {
    this.#refuse(error, type !== frontend.query && type !== frontend.functionCall);
    // The Sync that the batch ended with is taken already, and everything up to it has been ignored.
    if (type === frontend.sync) this.#sync();
  }

  /** Nothing of what is refused was sent; what was sent before in the same pipeline must not be kept. */
  #refuse(error: RouterError, isExtended: boolean): void {
    this.#context.metrics.add('refusals_total');
    this.#batch = [];
    this.#batchBytes = 0;
    if (this.#loan.isOpen) {
      this.#isSkipping = true;
      return this.#loan.refuseInTurn(error);
    }
    this.say(error.response());
    if (this.transaction.isOpen) this.transaction.fail(this.#loan.isBound);
    if (!isExtended) return this.say(readyForQuery(this.transaction.status));
    this.#forgetUnconfirmed();
    this.#isSkipping = true;
  }

  #forgetUnconfirmed(): void {
    for (const [name, statement] of this.#statements) if (!statement.confirmed) this.#statements.delete(name);
  }

  // ---- ending

  cancel(): void {
    if (!this.#isClosed) this.#loan.cancel();
  }

  /** Ends the session as soon as it has no transaction. */
  drain(): void {
    this.#isDraining = true;
    this.#endIfDrained();
  }

  /** Ends the session now, whatever it does. */
  terminate(): void {
    this.#endWith(new RouterError('ShuttingDown', 'terminating connection: the router is shutting down'));
  }

  #endIfDrained(): void {
    if (this.#loan.isAtRest && !this.#loan.isBound && this.transaction.isIdle && this.#batch.length === 0)
      this.terminate();
  }

  /** The client says goodbye. */
  #leave(): void {
    this.flush();
    this.#socket.destroySoon();
    this.#close();
  }

  /** FATAL: the connection ends. */
  #endWith(error: unknown): void {
    if (this.#isClosed) return;
    let fatal: RouterError;
    if (error instanceof RouterError) fatal = error;
    else if (error instanceof ProtocolViolation) fatal = new RouterError('ProtocolViolation', error.message);
    else {
      fatal = new RouterError('Internal', 'internal error');
      this.#context.log.error({ err: error }, 'session failed');
    }
    this.say(fatal.response('FATAL'));
    this.flush();
    this.#socket.destroySoon();
    // A client that doesn't read what it is told must not keep the connection.
    setTimeout(() => this.#socket.destroy(), 2_000).unref();
    this.#close();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#loan.close();
    this.#inbox.clear();
    this.#statements.clear();
    this.#portals.clear();
    this.#onClosed(this);
  }

  // ---- writing to the client

  say(bytes: Buffer): void {
    this.#outbox.push(bytes);
  }

  flush(): boolean {
    return this.#outbox.flush();
  }

  #drained(): void {
    if (this.#isClosed) return;
    this.#loan.resume();
    this.settled();
  }
}

/** The text of some statements of a query, from the first to the last. */
function textOf(frame: Buffer, statements: readonly PlannedStatement[]): string {
  const first = statements[0] as PlannedStatement;
  const last = statements.at(-1) as PlannedStatement;
  return frame.toString('utf8', headerBytes + first.plan.start, headerBytes + last.plan.end);
}
