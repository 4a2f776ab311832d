/**
 * One client after its log-in: takes its messages in order, hands each to the part that understands it, refuses, and ends.
 * Leaves reading of messages to wire/, what they ask for to simple.ts, extended.ts and copy-in/, routing to session-routing.ts and exec/,
 * backends to loan.ts, own answers to responder.ts.
 *
 * Invariants: one segment (a query, or messages up to a Sync) is under way at a time; answers leave in the order of what they
 * answer; what is refused is refused before a byte of it is sent, and in a transaction that has failed with it.
 */
import type { Socket } from 'node:net';
import type { RouterContext } from '../context.ts';
import { RouterError } from '../errors.ts';
import type { PlannedStatement } from '../exec/plan-cache.ts';
import type { SessionLimits } from '../limits/session-limits.ts';
import type { Login } from '../map/logins.ts';
import { slotOf } from '../metrics.ts';
import { frontend, maxClientMessageBytes } from '../wire/codes.ts';
import { FrameSplitter } from '../wire/frames.ts';
import { ProtocolViolation } from '../wire/protocol-violation.ts';
import { notification, readyForQuery } from '../wire/server-messages.ts';
import type { BoundPortal } from './batch.ts';
import type { Borrower, Request } from './borrower.ts';
import type { CancelKey, Cancellable } from './cancel-keys.ts';
import { Channels } from './channels.ts';
import type { Conversation } from './conversation.ts';
import { CopyIn } from './copy-in/copy-in.ts';
import { Extended } from './extended.ts';
import { Inbox } from './inbox.ts';
import { KeptNames } from './kept-names.ts';
import { Loan } from './loan.ts';
import type { LocalScope } from './local.ts';
import { Outbox } from './outbox.ts';
import { Responder } from './responder.ts';
import { type Passage, Ride, type RidingSession } from './ride.ts';
import { SessionRouting } from './session-routing.ts';
import type { SessionSettings } from './settings.ts';
import { SimpleQueries } from './simple.ts';
import type { BackendState } from './statement-class.ts';
import type { ClientStatement } from './statements.ts';
import { TokenWait } from './token-wait.ts';
import { ClientTransaction } from './transaction.ts';

const clientBytesTotal = slotOf('client_bytes_total');

export interface SessionStart {
  readonly login: Login;
  readonly settings: SessionSettings;
  readonly applicationName: string;
  readonly limits: SessionLimits;
  /** Where the client is: another than the socket's where a load balancer says so. */
  readonly address?: string | undefined;
}

export class Session implements Borrower, RidingSession, Cancellable, Conversation {
  readonly context: RouterContext;
  readonly settings: SessionSettings;
  readonly transaction: ClientTransaction;
  readonly routing: SessionRouting;
  readonly limits: SessionLimits;
  readonly loan: Loan;
  readonly ride: Ride;
  readonly responder: Responder;
  readonly statements = new KeptNames<ClientStatement>('prepared statements', ({ bytes }) => bytes);
  readonly portals = new KeptNames<BoundPortal>('portals', ({ statement }) => statement.bytes);
  key: CancelKey | undefined;

  readonly connectedAtMs = Date.now();
  readonly applicationName: string;
  readonly address: string | undefined;
  /** When the client last said something, and when it last had its answer; on the monotonic clock. */
  heardAtMs = performance.now();
  #settledAtMs = this.heardAtMs;
  readonly #socket: Socket;
  readonly #onClosed: (session: Session) => void;
  readonly #splitter = new FrameSplitter(maxClientMessageBytes);
  readonly #inbox = new Inbox();
  /** Of messages that were taken and are not answered yet. */
  #takenBytes = 0;
  /** What of all these counts against what all clients may hold. */
  #charged = 0;
  readonly #outbox: Outbox;
  readonly #simple: SimpleQueries;
  readonly #extended: Extended;
  #channels: Channels | undefined;
  /** Rows of a COPY come in. */
  #copy: CopyIn | undefined;
  readonly #tokenWait: TokenWait;
  #isPumping = false;
  #isDraining = false;
  #isClosed = false;

  constructor(context: RouterContext, socket: Socket, start: SessionStart, onClosed: (session: Session) => void) {
    this.context = context;
    this.settings = start.settings;
    this.transaction = new ClientTransaction(start.settings);
    this.routing = new SessionRouting(context, start.login, {
      settings: start.settings,
      transaction: this.transaction,
      applicationName: start.applicationName,
    });
    this.limits = start.limits;
    this.#tokenWait = new TokenWait(this.routing.positions);
    this.applicationName = start.applicationName;
    this.address = start.address ?? socket.remoteAddress;
    this.#socket = socket;
    this.#onClosed = onClosed;
    this.#outbox = new Outbox(socket);
    this.loan = new Loan(context, this);
    this.ride = new Ride(context, this);
    this.responder = new Responder(context, this);
    this.#simple = new SimpleQueries(this);
    this.#extended = new Extended(this);
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('drain', () => this.#drained());
    socket.on('close', () => this.#close());
    socket.on('error', () => socket.destroy());
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Few sessions have any. */
  get channels(): Channels {
    this.#channels ??= new Channels(() => this.loan);
    return this.#channels;
  }

  get login(): Login {
    return this.routing.login;
  }

  get backendState(): BackendState {
    const { isBound, isKept } = this.loan;
    return { isBound, isKept, isLazy: this.transaction.isLazy, statements: this.statements };
  }

  // ---- bytes from the client

  receive(chunk: Buffer): void {
    if (this.#isClosed) return;
    this.heardAtMs = performance.now();
    this.context.metrics.addAt(clientBytesTotal, chunk.length);
    try {
      this.#splitter.push(chunk, (_type, frame) => this.#inbox.push(frame));
      if (!this.#recharge()) throw tooMuchMemory();
    } catch (error) {
      return this.#endWith(error);
    }
    this.#pump();
    this.flush();
  }

  /** False where clients hold too much already. */
  #recharge(): boolean {
    const bytes = this.#splitter.weight + this.#inbox.weight + this.#takenBytes;
    const charge = this.context.messages.recharge(this.#charged, bytes);
    this.#charged = charge ?? this.#charged;
    return charge !== undefined;
  }

  get #isAtRest(): boolean {
    return this.loan.isAtRest && !this.ride.isUnderWay && !this.#tokenWait.isUnderWay;
  }

  /** Takes messages as long as nothing has to be waited for. */
  #pump(): void {
    if (this.#isPumping || this.#isClosed) return;
    this.#isPumping = true;
    while (!this.#isClosed && this.#isAtRest && !this.#outbox.isFull) {
      if (this.#extended.isEmpty) this.#takenBytes = 0;
      const frame = this.#inbox.shift();
      this.#takenBytes += frame?.length ?? 0;
      if (frame === undefined || this.#tokenWait.begin(frame, () => this.#takeNow(frame))) break;
      this.#handle(frame);
    }
    this.#isPumping = false;
    if (this.#isClosed) return;
    this.limits.settle();
    if (this.#charged > 0) this.#recharge();
    const isJammed = this.#inbox.isFull || this.#outbox.isFull || this.loan.isJammed;
    if (isJammed) this.#socket.pause();
    else if (this.#socket.isPaused()) this.#socket.resume();
    if (this.#isDraining) this.#endIfDrained();
  }

  /** Its turn came before, and it had to wait. */
  #takeNow(frame: Buffer): void {
    if (this.#isClosed) return;
    this.#handle(frame);
    this.settled();
  }

  #handle(frame: Buffer): void {
    try {
      this.#take(frame);
    } catch (error) {
      if (error instanceof RouterError) this.#refuseFrame(error, frame[0]);
      else this.#endWith(error);
    }
  }

  #take(frame: Buffer): void {
    const type = frame[0];
    if (type === frontend.terminate) return this.#leave();
    const revoked = this.routing.revoked();
    if (revoked !== undefined) return this.#endWith(revoked);
    if (this.#copy !== undefined) return this.#copy.take(frame);
    if (this.#extended.isSkipping && type !== frontend.sync) return;
    switch (type) {
      case frontend.query:
        if (this.#endsBatch(frame)) this.#simple.query(frame);
        return;
      case frontend.functionCall:
        if (this.#endsBatch(frame)) this.#simple.functionCall(frame);
        return;
      case frontend.parse:
      case frontend.bind:
      case frontend.describe:
      case frontend.execute:
      case frontend.close:
        return this.#extended.take(frame);
      case frontend.flush:
        return this.#extended.flush();
      case frontend.sync:
        return this.#extended.sync();
      case frontend.copyData:
      case frontend.copyDone:
      case frontend.copyFail:
        // Left over from a COPY that has failed: ignored, as Postgres does.
        return;
      default:
        throw new ProtocolViolation(`invalid frontend message type ${type}`);
    }
  }

  /** Whether a message that ends what was begun without a Sync may be taken now; else it comes again, or is ignored up to a Sync. */
  #endsBatch(frame: Buffer): boolean {
    if (this.#extended.isEmpty && !this.loan.isOpen) return true;
    try {
      this.#extended.implySync();
    } catch (error) {
      if (!(error instanceof RouterError)) throw error;
      this.refuse(error, true);
    }
    if (this.#extended.isSkipping) return false;
    if (this.#isAtRest) return true;
    this.#inbox.putBack(frame);
    return false;
  }

  copyIn(planned: PlannedStatement, isExtended: boolean): void {
    this.#copy = new CopyIn(this, planned, (error) => {
      this.#copy = undefined;
      if (error !== undefined) this.say(error);
      if (!isExtended) this.say(readyForQuery(this.transaction.status));
      else if (error !== undefined) this.#extended.isSkipping = true;
    });
    try {
      this.#copy.start();
    } catch (error) {
      this.#copy = undefined;
      throw error;
    }
  }

  // ---- what the loan says

  answer(statements: readonly PlannedStatement[]): void {
    try {
      for (const statement of statements) this.responder.answer(statement, true);
    } catch (error) {
      if (!(error instanceof RouterError)) throw error;
      this.say(error.response());
    }
  }

  segmentEnded(hasFailed: boolean): void {
    if (hasFailed) this.#extended.forgetUnconfirmed();
    if (this.transaction.isIdle) this.portals.clear();
    this.routing.segmentEnded();
  }

  settled(): void {
    this.#settledAtMs = performance.now();
    this.#pump();
    this.flush();
  }

  // ---- what shares a connection

  mayRide(statement: PlannedStatement): boolean {
    // Reads of a session to which it matters are placed, which takes a question of its own.
    if (this.routing.positions.isAware) return false;
    return this.transaction.isIdle && !this.loan.isBound && !this.loan.isOpen && this.ride.mayTake(statement);
  }

  rideEnded(hasFailed: boolean): void {
    this.segmentEnded(hasFailed);
    this.settled();
  }

  walk({ planned, route, frame, operations }: Passage): void {
    try {
      if (frame === undefined) this.#extended.walk(operations, route);
      else this.#simple.walk(frame, planned, route);
    } catch (error) {
      if (error instanceof RouterError) this.#refuseFrame(error, frame === undefined ? frontend.sync : frontend.query);
      else this.#endWith(error);
    }
    this.flush();
  }

  goAgain({ operations, route }: Passage): void {
    this.#extended.again(operations, route);
    this.flush();
  }

  refused(error: RouterError, request: Request): void {
    this.refuse(error, request.isExtended);
    if (request.isExtended && request.ends && request.isImplied !== true) this.#extended.sync();
    this.settled();
  }

  ended(error: RouterError): void {
    this.#endWith(error);
  }

  skipToSync(): void {
    this.#extended.isSkipping = true;
  }

  /** `processId` of the backend that listens: for the client that is itself. */
  notified(processId: number, channel: string, payload: string): void {
    const name = this.channels.clientName(channel);
    if (name === undefined || this.#isClosed) return;
    const revoked = this.routing.revoked();
    if (revoked !== undefined) return this.#endWith(revoked);
    const isOwn = processId === this.loan.backend?.identity.processId;
    this.say(notification({ processId: isOwn ? (this.key?.processId ?? 0) : processId, channel: name, payload }));
  }

  resultTypeChanged(): void {
    // Made anew, under another name; which of them it was, the error doesn't say.
    for (const { shared } of this.#extended.underWay) if (shared !== undefined) this.context.shared.renew(shared);
  }

  localScope(): LocalScope {
    return {
      map: this.routing.map(),
      login: this.login,
      region: this.context.region,
      settings: this.settings,
      tokens: this.context.tokens,
      positions: this.routing.positions,
      limits: this.limits,
      statements: this.statements,
      isInTransaction: !this.transaction.isIdle,
      servedBy: this.loan.served.by,
      letGo: () => this.loan.letGo(),
    };
  }

  // ---- refusing

  #refuseFrame(error: RouterError, type: number | undefined): void {
    this.refuse(error, type !== frontend.query && type !== frontend.functionCall);
    // The Sync that the batch ended with is taken already, and everything up to it has been ignored.
    if (type === frontend.sync) this.#extended.sync();
  }

  /** Nothing of what is refused was sent; what was sent before in the same pipeline must not be kept. */
  refuse(error: RouterError, isExtended: boolean): void {
    this.context.metrics.add('refusals_total');
    this.#extended.drop();
    if (this.loan.isOpen) {
      this.#extended.isSkipping = true;
      return this.loan.refuseInTurn(error);
    }
    this.say(error.response());
    if (this.transaction.isOpen) this.transaction.fail(this.loan.isBound);
    if (!isExtended) return this.say(readyForQuery(this.transaction.status));
    this.#extended.forgetUnconfirmed();
    this.#extended.isSkipping = true;
  }

  // ---- ending

  cancel(): void {
    if (this.#isClosed) return;
    if (this.#copy !== undefined && this.loan.isAtRest) this.#copy.cancel();
    else if (this.ride.isUnderWay) this.ride.cancel();
    else this.loan.cancel();
    this.flush();
  }

  get socket(): Socket {
    return this.#socket;
  }

  get state(): 'active' | 'waiting' | 'idle' {
    if (this.loan.backend !== undefined || this.ride.isUnderWay) return 'active';
    return this.#isAtRest ? 'idle' : 'waiting';
  }

  /** Ends a session whose client has said nothing for so long, as Postgres' idle_session_timeout and idle_in_transaction_session_timeout. */
  expire(nowMs: number, idleMs: number, idleInTransactionMs: number): void {
    const isInTransaction = !this.transaction.isIdle || this.#copy !== undefined || this.loan.isOpen;
    const limitMs = isInTransaction ? idleInTransactionMs : idleMs;
    const sinceMs = Math.max(this.heardAtMs, this.#settledAtMs);
    if (limitMs === 0 || nowMs - sinceMs < limitMs || !this.#isAtRest || this.#outbox.isFull) return;
    this.#endWith(
      isInTransaction
        ? new RouterError('IdleInTransaction', 'terminating connection due to idle-in-transaction timeout')
        : new RouterError('IdleSession', 'terminating connection due to idle-session timeout'),
    );
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
    const isBusy = !this.loan.isAtRest || this.ride.isUnderWay || (this.loan.isBound && !this.loan.isKept);
    if (!isBusy && this.transaction.isIdle && this.#extended.isEmpty) this.terminate();
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
      this.context.log.error({ err: error }, 'session failed');
    }
    this.say(fatal.response('FATAL'));
    this.flush();
    // What a client still says of a long message is read and thrown away: a close before that would be a reset, which eats the error.
    if (fatal.code === 'TooMuchMemory') this.#socket.end().resume();
    else this.#socket.destroySoon();
    // A client that doesn't read what it is told must not keep the connection.
    setTimeout(() => this.#socket.destroy(), 2_000).unref();
    this.#close();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#tokenWait.stop();
    this.limits.end();
    this.loan.close();
    this.#inbox.clear();
    this.#splitter.clear();
    this.#takenBytes = 0;
    this.#recharge();
    this.statements.clear();
    this.portals.clear();
    this.#copy = undefined;
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
    this.loan.resume();
    this.ride.resume();
    this.settled();
  }
}

const tooMuchMemory = (): RouterError =>
  new RouterError('TooMuchMemory', 'terminating connection: there is no memory for so long a message now');
