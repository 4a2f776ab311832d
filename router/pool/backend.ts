/**
 * One connection to a member: sends, matches each answer to what was sent, and passes on what is the client's without a copy.
 * Rows and COPY data are passed on even before they are whole; every other message is held until it is.
 * Leaves to others: who uses it (pool, session), how it was opened (connect.ts).
 * Invariant: `isClean` only if every message sent has been answered, nothing is held, and the last status was idle.
 */
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { copyFailMessage, queryMessage, terminateMessage } from '../wire/client-messages.ts';
import { backend as code, headerBytes, maxServerMessageBytes, transactionStatus } from '../wire/codes.ts';
import { readErrorFields, readParameterStatus, readTextRow } from '../wire/server-messages.ts';
import { type Expectation, ExpectationQueue, isSeen, type OwnAnswer } from './expectation.ts';
import { PreparedNames } from './prepared-names.ts';

/** Who is served by a backend at the moment. Called in the order of the bytes. */
export interface BackendReceiver {
  /** Bytes for the client. */
  forward(bytes: Buffer): void;
  /** A message of note that isn't whole rows: its type and place. False: it isn't for the client. */
  observe(type: number, expectation: Expectation, buffer: Buffer, start: number, end: number): boolean;
  /** A NotificationResponse: it may come at any time, and is never passed on as it is. */
  notified(buffer: Buffer, start: number, end: number): void;
  /** ReadyForQuery of a query or Sync has come and, unless `observe` refused it, been forwarded. */
  ready(status: number): void;
  /** A chunk has been worked through: a good moment to write. */
  chunkEnd(): void;
  /** The connection is gone; `partial` when the client has half a message. */
  lost(reason: string, partial: boolean): void;
  /** The member takes bytes again after `write` had said no. */
  drained(): void;
}

export interface BackendIdentity {
  readonly member: string;
  readonly role: string;
  readonly processId: number;
  readonly secret: number;
  /** Epoch and primary of the shard, and what the role may act for, when it was opened; a backend of another generation isn't used again. */
  readonly generation: string;
  /** Epoch of the shard if the member was its primary when this was opened, else 0. */
  readonly primaryEpoch: number;
  /** Start time of the Postgres, in microseconds: what is known of one run of it says nothing of the next. */
  readonly postmaster: string;
}

/** What makes an answer the client's: see authority/lease.ts. */
export interface AnswerLease {
  readonly isHeld: boolean;
  prove(settle: (held: boolean) => void): void;
}

export class Backend {
  readonly identity: BackendIdentity;
  readonly parameters: Map<string, string>;
  readonly prepared = new PreparedNames();
  /** The client's unnamed statement that this backend has now. */
  unnamed: object | undefined;
  /** Texts of the settings that this backend has, joined; '' as it was opened. */
  settings = '';
  /** `meridian.tenant` as set last by the router; undefined when it was never set. */
  pin: string | undefined;
  /** Since it was set nothing has run here that could have changed it. */
  isPinTrusted = true;
  /** What ran here may have left something in the session: it is discarded before the next use. */
  isSuspect = false;
  /** A SET, or the end of a transaction, was sent in a pipeline that no Sync has ended yet: under what the next is read isn't known. */
  hasSettingsUnderWay = false;
  /** A cancel was sent at it: a marker has to come back before the next use. */
  wasCancelled = false;
  readonly openedAtMs: number;
  idleSinceMs: number;
  /** Whom it is lent to: a tenant, or '' where it is nobody's or several tenants'; undefined while it isn't lent. The pool's own. */
  lentTo: string | undefined;
  lentAtMs = 0;
  /** It is closed when it comes back. */
  isOld = false;
  /** Several clients' statements go over it. */
  isShared = false;
  /** Called once when whoever it is lent to has given it back, or it is closed. */
  onReturn: (() => void) | undefined;

  readonly #socket: TLSSocket | Socket;
  readonly #queue = new ExpectationQueue();
  readonly #onClosed: (backend: Backend) => void;
  #receiver: BackendReceiver | undefined;
  #lease: AnswerLease | undefined;
  /** Came when the lease wasn't surely held any more: kept until it is known whether it was. */
  #parked: Buffer[] = [];
  #isPaused = false;
  #status: number = transactionStatus.idle;
  #held: Buffer[] = [];
  #heldBytes = 0;
  #neededBytes = 0;
  /** Bytes still to come of a row that is being passed on. */
  #openBytes = 0;
  /** Bytes behind the message at hand. */
  #behindBytes = 0;
  /** An error has come and the server ignores everything up to the next Sync. */
  #isSkipping = false;
  #closed = false;
  #fatal = '';

  constructor(
    socket: TLSSocket | Socket,
    identity: BackendIdentity,
    parameters: Map<string, string>,
    now: number,
    onClosed: (backend: Backend) => void,
  ) {
    this.#socket = socket;
    this.identity = identity;
    this.parameters = parameters;
    this.openedAtMs = now;
    this.idleSinceMs = now;
    this.#onClosed = onClosed;
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('close', () => this.#onClose());
    socket.on('error', (error) => this.close(error.message));
    socket.on('drain', () => this.#receiver?.drained());
    // It comes paused from connect.ts, so that nothing was lost on the way here.
    socket.resume();
  }

  /** For those who administer the router. */
  get socket(): TLSSocket | Socket {
    return this.#socket;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** May go back to its pool: as many ReadyForQuery as asked for, nothing left over, idle. */
  get isClean(): boolean {
    return (
      !this.#closed &&
      this.#queue.length === 0 &&
      this.#heldBytes === 0 &&
      this.#openBytes === 0 &&
      this.#behindBytes === 0 &&
      !this.#isSkipping &&
      this.#parked.length === 0 &&
      this.#status === transactionStatus.idle
    );
  }

  get isAnswering(): boolean {
    return this.#queue.length > 0;
  }

  /** Bytes wait to be taken by the member. */
  get isFull(): boolean {
    return this.#socket.writableNeedDrain;
  }

  get status(): number {
    return this.#status;
  }

  assign(receiver: BackendReceiver | undefined): void {
    this.#receiver = receiver;
    this.#lease = undefined;
  }

  /** From now on answers are passed on only if they were read while that lease held. */
  believeUnder(lease: AnswerLease): void {
    this.#lease = lease;
  }

  /** Says that `expectation` will be answered by bytes that are written after. */
  expect(expectation: Expectation): void {
    if (this.#isSkipping) {
      // The server ignores everything up to Sync after an error, so nothing else will be answered.
      if (expectation.kind === 'parse') this.#notMade(expectation.name);
      if (expectation.kind !== 'sync') return;
      this.#isSkipping = false;
    }
    if (expectation.kind === 'own' || expectation.kind === 'query') this.unnamed = undefined;
    this.#queue.push(expectation);
    if (expectation.kind === 'local') this.#sayLocals();
  }

  /** False when the member isn't taking bytes as fast: `drained` is called later. */
  write(bytes: Buffer): boolean {
    if (this.#closed) return true;
    return this.#socket.write(bytes);
  }

  /** A simple query of the router's own; only between the client's statements. Returns the bytes to be written. */
  ownQuery(sql: string, done: (answer: OwnAnswer) => void): Buffer {
    this.expect({ kind: 'own', rows: [], error: undefined, done });
    return queryMessage(sql);
  }

  /** A function call of the router's own, with an answer of 8 bytes; only between the client's statements. Returns the bytes to be written. */
  ownCall(call: Buffer, done: (value: bigint | undefined) => void): Buffer {
    this.expect({ kind: 'own', rows: [], error: undefined, done: ({ rows }) => done(numberOf(rows[0]?.[0])) });
    return call;
  }

  query(sql: string): Promise<OwnAnswer> {
    return new Promise((resolve) => {
      this.write(this.ownQuery(sql, resolve));
    });
  }

  pause(): void {
    this.#isPaused = true;
    this.#socket.pause();
  }

  resume(): void {
    this.#isPaused = false;
    if (this.#parked.length === 0) this.#socket.resume();
  }

  close(reason: string): void {
    if (this.#closed) return;
    this.#fatal ||= reason;
    if (this.isClean) this.#socket.end(terminateMessage);
    this.#closed = true;
    this.#socket.destroySoon();
    // A half-closed peer that never answers must not keep the descriptor.
    setTimeout(() => this.#socket.destroy(), 1_000).unref();
    this.#finish();
  }

  #onClose(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#finish();
  }

  #finish(): void {
    const reason = this.#fatal === '' ? 'the connection to the member was closed' : this.#fatal;
    const receiver = this.#receiver;
    this.#receiver = undefined;
    this.#onClosed(this);
    // First, so that the session has let go before it hears of its statements.
    receiver?.lost(reason, this.#openBytes > 0);
    const error = new Map([
      ['C', '08006'],
      ['M', reason],
    ]);
    for (let item = this.#queue.shift(); item !== undefined; item = this.#queue.shift())
      if (item.kind === 'own') item.done({ rows: [], error });
  }

  #onData(chunk: Buffer): void {
    if (this.#closed) return;
    if (this.#parked.length > 0) this.#parked.push(chunk);
    // One look at the clock for all that one reading brought: it comes after the socket, so it counts for each message in it.
    else if (this.#lease !== undefined && !this.#lease.isHeld) this.#park(chunk, this.#lease);
    else this.#work(chunk);
  }

  #park(chunk: Buffer, lease: AnswerLease): void {
    this.#parked.push(chunk);
    this.#socket.pause();
    lease.prove((held) => {
      if (this.#closed) return;
      if (!held) return this.close('its answer came when its lease was not surely held any more');
      const [, ...later] = this.#parked;
      this.#parked = [];
      this.#work(chunk);
      for (const one of later) this.#onData(one);
      if (this.#parked.length === 0 && !this.#isPaused) this.#socket.resume();
    });
  }

  #work(chunk: Buffer): void {
    const receiver = this.#receiver;
    try {
      this.#take(chunk);
    } catch (error) {
      this.close(error instanceof Error ? error.message : String(error));
    }
    receiver?.chunkEnd();
  }

  #take(chunk: Buffer): void {
    let buffer = chunk;
    if (this.#heldBytes > 0) {
      this.#held.push(chunk);
      this.#heldBytes += chunk.length;
      if (this.#heldBytes < this.#neededBytes) return;
      buffer = Buffer.concat(this.#held, this.#heldBytes);
      this.#held = [];
      this.#heldBytes = 0;
    }
    let position = Math.min(this.#openBytes, buffer.length);
    this.#openBytes -= position;
    /** Where what hasn't been forwarded yet begins. */
    let from = 0;
    while (buffer.length - position >= headerBytes) {
      const type = buffer[position] as number;
      const length = buffer.readUInt32BE(position + 1);
      const end = position + 1 + length;
      if (length < 4) throw new Error(`invalid message length ${length}`);
      if (type === code.dataRow || type === code.copyData) {
        const due = this.#queue.first;
        if (due === undefined) throw new Error('a row that nothing asked for');
        if (due.kind !== 'own') {
          this.#openBytes = Math.max(0, end - buffer.length);
          position = Math.min(end, buffer.length);
          continue;
        }
      }
      if (end > buffer.length) {
        if (length > maxServerMessageBytes) throw new Error(`message of ${length} bytes`);
        break;
      }
      this.#behindBytes = buffer.length - end;
      if (type === code.readyForQuery) {
        const isForClient = this.#beginReady(buffer, position, end);
        const upTo = isForClient ? end : position;
        if (upTo > from) this.#receiver?.forward(buffer.subarray(from, upTo));
        from = end;
        position = end;
        this.#finishReady();
        if (this.#closed) return;
        this.#sayLocals();
        continue;
      }
      const isForClient = type !== code.notification && this.#handle(type, buffer, position, end);
      if (!isForClient) {
        if (position > from) this.#receiver?.forward(buffer.subarray(from, position));
        from = end;
      }
      if (type === code.notification) this.#receiver?.notified(buffer, position, end);
      position = end;
      if (this.#queue.first?.kind === 'local') {
        if (position > from) this.#receiver?.forward(buffer.subarray(from, position));
        from = position;
        this.#sayLocals();
      }
      if (this.#closed) return;
    }
    this.#behindBytes = 0;
    if (position > from) this.#receiver?.forward(buffer.subarray(from, position));
    if (position < buffer.length) {
      this.#held.push(buffer.subarray(position));
      this.#heldBytes = buffer.length - position;
      this.#neededBytes = this.#heldBytes >= headerBytes ? 1 + buffer.readUInt32BE(position + 1) : headerBytes;
    }
  }

  #readyItem: Expectation | undefined;

  /** ReadyForQuery closes the first entry, which must be one that ends with it. */
  #beginReady(buffer: Buffer, start: number, end: number): boolean {
    const item = this.#queue.shift();
    if (item?.kind !== 'own' && item?.kind !== 'query' && item?.kind !== 'sync')
      throw new Error(`ReadyForQuery while ${item?.kind ?? 'nothing'} was due`);
    this.#readyItem = item;
    this.#status = buffer[start + headerBytes] as number;
    return item.kind !== 'own' && (this.#receiver?.observe(code.readyForQuery, item, buffer, start, end) ?? false);
  }

  #finishReady(): void {
    const item = this.#readyItem;
    this.#readyItem = undefined;
    if (item === undefined) return;
    if (item.kind === 'own') item.done({ rows: item.rows, error: item.error });
    else this.#receiver?.ready(this.#status);
  }

  /** True when the message goes to the client. */
  #handle(type: number, buffer: Buffer, start: number, end: number): boolean {
    const item = this.#queue.first;
    if (item === undefined) return this.#unasked(type, buffer, start, end);
    if (type === code.parameterStatus) {
      const { name, value } = readParameterStatus(buffer, start, end);
      this.parameters.set(name, value);
    }
    if (type === code.error) return this.#error(item, buffer, start, end);
    if (item.kind === 'own') {
      if (type === code.dataRow) item.rows.push(readTextRow(buffer, start, end));
      else if (type === code.functionResult) item.rows.push([buffer.toString('hex', start + headerBytes + 4, end)]);
      return false;
    }
    switch (type) {
      case code.notice:
      case code.parameterStatus:
        return this.#observed(type, item, buffer, start, end);
      case code.commandComplete:
      case code.emptyQuery:
      case code.portalSuspended: {
        const isForClient = this.#observed(type, item, buffer, start, end);
        if (item.kind !== 'query') this.#due('execute');
        return isForClient;
      }
      case code.copyIn:
        // COPY FROM is refused before it gets here; should one arrive by a way not thought of, it ends at once.
        this.write(copyFailMessage('COPY FROM is not supported'));
        return false;
      case code.rowDescription:
      case code.noData:
        if (item.kind === 'describe') this.#queue.shift();
        else if (item.kind !== 'query') throw new Error(`row description while ${item.kind} was due`);
        return !isSeen(item, type === code.noData ? undefined : buffer.subarray(start, end));
      case code.parameterDescription:
        if (item.kind !== 'describe' || item.seen === undefined) return true;
        item.parameters = Buffer.from(buffer.subarray(start, end));
        return false;
      case code.functionResult:
      case code.copyOut:
      case code.copyDone:
        return true;
      case code.parseComplete:
        this.#due('parse');
        if (item.kind !== 'parse') return false;
        if (item.statement !== undefined) item.statement.confirmed = true;
        return !item.hidden;
      case code.bindComplete:
        this.#due('bind');
        return item.kind === 'bind' && !item.hidden;
      case code.closeComplete:
        this.#due('close');
        return item.kind === 'close' && !item.hidden;
      default:
        throw new Error(`unexpected message of type ${String.fromCharCode(type)}`);
    }
  }

  #error(item: Expectation, buffer: Buffer, start: number, end: number): boolean {
    const fields = readErrorFields(buffer, start, end);
    const severity = fields.get('V') ?? fields.get('S');
    if (severity === 'FATAL' || severity === 'PANIC') {
      // The connection ends with it; what that means for the client depends on what it was doing.
      this.#fatal = `${fields.get('M') ?? 'the member ended the connection'} (${fields.get('C') ?? ''})`;
      return false;
    }
    if (item.kind === 'own') {
      item.error = fields;
      return false;
    }
    const isForClient = this.#observed(code.error, item, buffer, start, end);
    if (item.kind === 'refusal') {
      this.#queue.shift();
      // What says why is due now; the Sync may have been sent already.
      this.#isSkipping = this.#queue.length === 1;
      return false;
    }
    if (item.kind !== 'query') this.#skipToSync();
    return isForClient;
  }

  /** After an error nothing is answered up to the Sync. */
  #skipToSync(): void {
    for (let item = this.#queue.first; item !== undefined; item = this.#queue.first) {
      if (item.kind === 'sync') return;
      if (item.kind === 'parse') this.#notMade(item.name);
      this.#queue.shift();
    }
    this.#isSkipping = true;
  }

  #notMade(name: string): void {
    if (name === '') this.unnamed = undefined;
    else this.prepared.forget(name);
  }

  #unasked(type: number, buffer: Buffer, start: number, end: number): boolean {
    if (type === code.error) {
      const fields = readErrorFields(buffer, start, end);
      this.#fatal = `${fields.get('M') ?? 'the member ended the connection'} (${fields.get('C') ?? ''})`;
      return false;
    }
    if (type === code.parameterStatus) {
      const { name, value } = readParameterStatus(buffer, start, end);
      this.parameters.set(name, value);
      return false;
    }
    if (type === code.notice) return false;
    throw new Error(`unasked message of type ${String.fromCharCode(type)}`);
  }

  #due(kind: Expectation['kind']): void {
    const item = this.#queue.shift();
    if (item?.kind !== kind) throw new Error(`answer to ${kind} while ${item?.kind ?? 'nothing'} was due`);
  }

  #observed(type: number, item: Expectation, buffer: Buffer, start: number, end: number): boolean {
    return this.#receiver?.observe(type, item, buffer, start, end) ?? false;
  }

  #sayLocals(): void {
    for (let item = this.#queue.first; item?.kind === 'local'; item = this.#queue.first) {
      this.#queue.shift();
      if (item.statement !== undefined) item.statement.confirmed = true;
      this.#receiver?.forward(item.bytes);
    }
  }
}

/** Of the 8 bytes of a function's result; undefined for NULL, and where it failed. */
const numberOf = (hex: string | null | undefined): bigint | undefined =>
  hex?.length === 16 ? BigInt(`0x${hex}`) : undefined;
