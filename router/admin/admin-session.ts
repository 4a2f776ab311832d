/**
 * A client of the admin database after its log-in: simple queries only, one after the other, as in PgBouncer. Of the extended protocol it
 * refuses each batch up to its Sync, so that a driver that speaks nothing else hears why.
 */
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import { RouterError } from '../errors.ts';
import type { AdminRight } from '../map/map.ts';
import type { CancelKey, Cancellable } from '../session/cancel-keys.ts';
import { readQuery } from '../wire/client-messages.ts';
import { backend as code, frontend, transactionStatus } from '../wire/codes.ts';
import { FrameSplitter } from '../wire/frames.ts';
import { ProtocolViolation } from '../wire/protocol-violation.ts';
import { commandComplete, emptyQueryResponse, errorResponse, readyForQuery } from '../wire/server-messages.ts';
import { int16, int32, message } from '../wire/writer.ts';
import { readCommands } from './command.ts';
import type { Console, Outcome } from './console.ts';
import type { Cell, Table } from './table.ts';

export interface AdminStart {
  readonly role: string;
  /** What the role may do now; undefined once it may do nothing. */
  readonly right: () => AdminRight | undefined;
  readonly console: Console;
  readonly log: Logger;
  readonly onClosed: () => void;
}

/** Commands are short. */
const maxMessageBytes = 64 * 1024;
const maxWaiting = 64;

export class AdminSession implements Cancellable {
  key: CancelKey | undefined;
  readonly #start: AdminStart;
  readonly #socket: Socket;
  readonly #splitter = new FrameSplitter(maxMessageBytes);
  readonly #frames: Buffer[] = [];
  #running: AbortController | undefined;
  #isSkipping = false;
  #isClosed = false;

  constructor(socket: Socket, start: AdminStart) {
    this.#socket = socket;
    this.#start = start;
  }

  /** The socket is its own from now on. */
  listen(): void {
    const socket = this.#socket;
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('close', () => this.#close());
    socket.on('error', () => socket.destroy());
  }

  receive(chunk: Buffer): void {
    if (this.#isClosed) return;
    try {
      this.#splitter.push(chunk, (_type, frame) => {
        if (this.#frames.push(Buffer.from(frame)) > maxWaiting)
          throw new ProtocolViolation('too many commands at once');
      });
    } catch (error) {
      return this.#endWith(
        new RouterError('ProtocolViolation', String(error instanceof Error ? error.message : error)),
      );
    }
    void this.#pump();
  }

  cancel(): void {
    this.#running?.abort();
  }

  terminate(): void {
    this.#endWith(new RouterError('ShuttingDown', 'terminating connection: the router is shutting down'));
  }

  async #pump(): Promise<void> {
    if (this.#running !== undefined) return;
    for (let frame = this.#frames.shift(); frame !== undefined && !this.#isClosed; frame = this.#frames.shift()) {
      this.#running = new AbortController();
      try {
        await this.#take(frame, this.#running.signal);
      } catch (error) {
        this.#endWith(error);
      } finally {
        this.#running = undefined;
      }
    }
  }

  async #take(frame: Buffer, signal: AbortSignal): Promise<void> {
    switch (frame[0]) {
      case frontend.terminate:
        this.#socket.destroySoon();
        return this.#close();
      case frontend.query:
        return this.#query(readQuery(frame), signal);
      case frontend.sync:
        this.#isSkipping = false;
        return this.#say(readyForQuery(transactionStatus.idle));
      default:
        if (this.#isSkipping) return;
        this.#isSkipping = true;
        return this.#say(
          new RouterError('NotSupported', 'the admin database takes simple queries only', {
            hint: 'Use psql, or a driver that can send a query without preparing it.',
          }).response(),
        );
    }
  }

  async #query(text: string, signal: AbortSignal): Promise<void> {
    try {
      for (const command of readCommands(text)) {
        const right = this.#start.right();
        if (right === undefined)
          return this.#endWith(
            new RouterError(
              'LoginChanged',
              `terminating connection: role "${this.#start.role}" may not do this any more`,
            ),
          );
        this.#answer(await this.#start.console.run(command, this.#start.role, right, signal));
      }
    } catch (error) {
      if (!(error instanceof RouterError)) throw error;
      this.#say(error.response());
    }
    this.#say(readyForQuery(transactionStatus.idle));
  }

  #answer(outcome: Outcome): void {
    if (outcome.kind === 'table') this.#say(tableBytes(outcome.table));
    if (outcome.kind === 'notice') {
      const notice = errorResponse({ severity: 'NOTICE', sqlstate: '00000', message: outcome.text });
      notice[0] = code.notice;
      this.#say(notice);
    }
    this.#say(outcome.tag === '' ? emptyQueryResponse : commandComplete(outcome.tag));
  }

  #say(bytes: Buffer): void {
    if (!this.#isClosed) this.#socket.write(bytes);
  }

  #endWith(error: unknown): void {
    if (this.#isClosed) return;
    if (!(error instanceof RouterError)) this.#start.log.error({ err: error }, 'admin session failed');
    const fatal = error instanceof RouterError ? error : new RouterError('Internal', 'internal error');
    this.#say(fatal.response('FATAL'));
    this.#socket.destroySoon();
    setTimeout(() => this.#socket.destroy(), 2_000).unref();
    this.#close();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#running?.abort();
    this.#start.onClosed();
  }
}

const types = { text: [25, -1], int4: [23, 4], int8: [20, 8] } as const;

function tableBytes({ columns, rows }: Table): Buffer {
  const described = columns.flatMap(({ name, type }) => {
    const [oid, size] = types[type];
    return [name, int32(0), int16(0), int32(oid), int16(size & 0xffff), int32(-1), int16(0)];
  });
  return Buffer.concat([message(code.rowDescription, int16(columns.length), ...described), ...rows.map(rowBytes)]);
}

function rowBytes(row: readonly Cell[]): Buffer {
  const fields = row.flatMap((cell) => {
    if (cell === null) return [int32(-1)];
    const bytes = Buffer.from(String(cell), 'utf8');
    return [int32(bytes.length), bytes];
  });
  return message(code.dataRow, int16(row.length), ...fields);
}
