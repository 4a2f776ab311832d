/**
 * COPY ... FROM STDIN, which row-level security doesn't allow: its rows become executions of one INSERT, many in a round trip, in one
 * transaction (the client's, or one of its own), so that all of them are there in the end or none. Every row is of the tenant that the
 * session has; where it has none, each row names its own, as long as they share a shard.
 * Leaves to others: reading rows (lines.ts, rows.ts), backends and losses (loan.ts).
 *
 * Invariants: an error names the row that Postgres refused, as COPY would; at most one batch is under way, and nothing is read beyond it.
 */
import { RouterError } from '../../errors.ts';
import type { PlannedStatement } from '../../exec/plan-cache.ts';
import { anyRoute, permitted, type Route, shardOf } from '../../exec/route.ts';
import { canonicalKey, keyOfParameter } from '../../exec/tenant-key.ts';
import type { CopySource } from '../../plan/types.ts';
import { expectBind, expectExecute, expectQuery, expectSync } from '../../pool/expectation.ts';
import { queryMessage, syncMessage } from '../../wire/client-messages.ts';
import { backend as code, frontend, headerBytes } from '../../wire/codes.ts';
import { MessageReader } from '../../wire/reader.ts';
import { commandComplete } from '../../wire/server-messages.ts';
import { byte, int16, message } from '../../wire/writer.ts';
import type { SilentAnswer } from '../borrower.ts';
import type { Conversation } from '../conversation.ts';
import { columnsSql, executeMessage, insertSql, rowMessage } from './insert.ts';
import { LineRows } from './lines.ts';
import { type CopyOptions, readCopyOptions } from './options.ts';
import { columnsPlan, commitPlan, insertPlan, rollbackPlan } from './plans.ts';
import { BinaryRows, CopyDataError, type CopyRow, type RowReader } from './rows.ts';
import { contextOf, errorMessage } from './where.ts';

/** A batch is sent when it has so many rows or bytes. */
const batchRows = 1_000;
const batchBytes = 256 * 1024;
/** So much is read at once: rows take far more than their bytes, and a message may have any number of them. */
const pieceBytes = 16 * 1024;

interface PendingRow extends CopyRow {
  readonly tenant: string | undefined;
  readonly bytes: number;
}

export class CopyIn {
  readonly #session: Conversation;
  readonly #planned: PlannedStatement;
  readonly #source: CopySource;
  readonly #options: CopyOptions;
  /** Called once, with the ErrorResponse if there is one: the command is over. */
  readonly #over: (error: Buffer | undefined) => void;
  /** Undefined where the rows say it. */
  #route: Route | undefined;
  #columns: readonly string[] = [];
  #tenantIndex = -1;
  #insert = '';
  #reader: RowReader | undefined;
  /** It began the transaction itself. */
  #isOwn = false;
  #rows: PendingRow[] = [];
  #rowBytes = 0;
  /** Of the message at hand. */
  #unread: Buffer | undefined;
  #count = 0;
  /** The client has said all, or what it said can't be read: the rows before that are sent, then this happens. */
  #ending: (() => void) | undefined;

  constructor(session: Conversation, planned: PlannedStatement, over: (error: Buffer | undefined) => void) {
    const { from } = planned.plan.copy ?? {};
    if (from === undefined) throw new RouterError('CopyFrom', 'COPY FROM without a table');
    this.#session = session;
    this.#planned = planned;
    this.#source = from;
    this.#options = readCopyOptions(from);
    this.#over = over;
  }

  /** @throws RouterError where it can't begin: nothing was sent. */
  start(): void {
    const { routing, transaction } = this.#session;
    try {
      this.#route = routing.routeOf([this.#planned]);
    } catch (error) {
      if (!(error instanceof RouterError) || error.code !== 'NoTenant') throw error;
      // Each row may say it. A transaction that has no place yet must not get one for the sake of the names.
      if (this.#source.columns === undefined && transaction.isLazy) throw error;
    }
    if (this.#source.columns !== undefined) return this.#prepare(this.#source.columns);
    const sql = columnsSql(this.#source);
    this.#ask([sql], columnsPlan, this.#route ?? { ...anyRoute, primaryOnly: true }, ({ rows, error }) => {
      if (error !== undefined) return this.#fail(errorMessage(error));
      this.#prepare(rows.map(([name]) => name ?? ''));
    });
  }

  take(frame: Buffer): void {
    switch (frame[0]) {
      case frontend.copyData:
        this.#unread = frame.subarray(headerBytes);
        return this.#readOn();
      case frontend.copyDone:
        this.#read(() => this.#reader?.end((row) => this.#add(row)));
        return this.#end(() => this.#commit());
      case frontend.copyFail: {
        const why = new MessageReader(frame, headerBytes).text();
        const refusal = new RouterError('Cancelled', `COPY from stdin failed: ${why}`);
        return this.#fail(refusal.response());
      }
      case frontend.flush:
      case frontend.sync:
        // As Postgres does: a driver may have sent them before it knew that rows are asked for.
        return;
      default:
        return this.#fail(
          new RouterError('ProtocolViolation', `unexpected message type ${frame[0]} during COPY from stdin`).response(),
        );
    }
  }

  cancel(): void {
    this.#fail(new RouterError('Cancelled', 'canceling statement due to user request').response());
  }

  // ---- before the rows

  #prepare(columns: readonly string[]): void {
    const { routing, transaction } = this.#session;
    const { tenantColumn } = routing.map().keyspace;
    this.#columns = columns;
    this.#tenantIndex = this.#planned.plan.touches === 'tenant' ? columns.indexOf(tenantColumn) : -1;
    this.#insert = insertSql(this.#source, columns);
    if (this.#route === undefined && this.#tenantIndex === -1)
      return this.#fail(
        new RouterError('NoTenant', `no tenant is known, and column "${tenantColumn}" is not copied`).response(),
      );
    this.#reader = this.#options.format === 'binary' ? new BinaryRows(columns) : new LineRows(this.#options, columns);
    if (transaction.isIdle) {
      this.#isOwn = true;
      transaction.begin('BEGIN', false);
    }
    if (this.#route === undefined) return this.#open();
    // What is wrong with table, columns or privileges is said before the first row.
    try {
      this.#send([], this.#route, ({ error }) => {
        if (error !== undefined) return this.#fail(errorMessage(error));
        this.#open();
      });
    } catch (error) {
      if (!(error instanceof RouterError)) throw error;
      this.#fail(error.response());
    }
  }

  #open(): void {
    const format = this.#options.format === 'binary' ? 1 : 0;
    const formats = this.#columns.map(() => int16(format));
    this.#session.say(message(code.copyIn, byte(format), int16(this.#columns.length), ...formats));
  }

  // ---- rows

  /** Rows that are there already go first: one of them may be refused before what can't be read. */
  #read(read: () => void): void {
    if (this.#ending !== undefined) return;
    try {
      read();
    } catch (error) {
      if (error instanceof CopyDataError) return this.#end(() => this.#failAt(error));
      if (error instanceof RowRefusal) return this.#end(() => this.#failAt(error.cause, error.line));
      throw error;
    }
  }

  /** As far as a batch goes; the rest when that is done. */
  #readOn(): void {
    for (let unread = this.#unread; unread !== undefined && this.#ending === undefined; unread = this.#unread) {
      if (this.#isFull) return this.#sendRows();
      const piece = unread.subarray(0, pieceBytes);
      this.#unread = unread.length > pieceBytes ? unread.subarray(pieceBytes) : undefined;
      this.#read(() => this.#reader?.push(piece, (row) => this.#add(row)));
    }
    if (this.#ending === undefined && this.#isFull) this.#sendRows();
  }

  #add(row: CopyRow): void {
    const bytes = row.values.reduce((total, value) => total + 4 + (value?.length ?? 0), 16);
    this.#rows.push({ ...row, tenant: this.#tenantOf(row), bytes });
    this.#rowBytes += bytes;
  }

  get #isFull(): boolean {
    return this.#rows.length >= batchRows || this.#rowBytes >= batchBytes;
  }

  /** @throws RowRefusal for a row of another tenant than may be. */
  #tenantOf({ values, line }: CopyRow): string | undefined {
    const value = values[this.#tenantIndex];
    // NULL is refused by Postgres.
    if (value === undefined || value === null) return this.#route?.tenant;
    const { routing } = this.#session;
    const map = routing.map();
    const type = map.keyspace.tenantType;
    const isBinary = this.#options.format === 'binary';
    const key = isBinary
      ? keyOfParameter({ format: 1, value }, type === 'text' ? textOid : 0, type)
      : canonicalKey(value.toString('utf8'), type);
    try {
      if (this.#route?.tenant !== undefined) {
        if (key === this.#route.tenant || key === undefined) return this.#route.tenant;
        throw new RouterError(
          'OtherTenant',
          `the row is tenant "${key}"'s, but the session is tenant "${this.#route.tenant}"'s`,
        );
      }
      if (key === undefined) throw new RouterError('UnknownTenant', `the row's tenant key is no ${type}`);
      permitted(routing.login, key);
      shardOf(map, key);
      return key;
    } catch (error) {
      throw error instanceof RouterError ? new RowRefusal(error, line) : error;
    }
  }

  #end(then: () => void): void {
    if (this.#ending !== undefined) return;
    this.#ending = then;
    this.#sendRows();
  }

  /** Rows of one tenant, at most a batch; and so on while there is more than a batch, or nothing more comes. */
  #sendRows(): void {
    const { routing } = this.#session;
    const [first] = this.#rows;
    if (first === undefined) return this.#ending?.();
    let size = 0;
    let end = 0;
    for (; end < this.#rows.length && end < batchRows && size < batchBytes; end++) {
      const row = this.#rows[end] as PendingRow;
      if (row.tenant !== first.tenant) break;
      size += row.bytes;
    }
    const batch = this.#rows.splice(0, end);
    this.#rowBytes -= size;
    try {
      const { tenant } = first;
      const route = this.#route ?? {
        tenant,
        shard: tenant === undefined ? undefined : shardOf(routing.map(), tenant),
        level: 'strong',
        primaryOnly: true,
      };
      this.#send(batch, route, (answer) => this.#sent(batch, answer));
    } catch (error) {
      if (!(error instanceof RouterError)) throw error;
      this.#failAt(error, first.line);
    }
  }

  #sent(batch: readonly PendingRow[], { error, completed, affected }: SilentAnswer): void {
    this.#count += affected;
    if (error !== undefined) {
      const row = batch[completed];
      return this.#fail(
        errorMessage(error, row && contextOf(this.#source.table, row, this.#columns, error, this.#options)),
      );
    }
    if (this.#isFull || this.#ending !== undefined) this.#sendRows();
    else this.#readOn();
  }

  /** The INSERT is made anew for each batch: between two the backend may have been told something else. */
  #send(batch: readonly CopyRow[], route: Route, answered: (answer: SilentAnswer) => void): void {
    // Lost between two batches: what follows must not be kept without what was before.
    if (this.#session.transaction.hasFailed) throw this.#session.transaction.aborted();
    const format = this.#options.format === 'binary' ? 1 : 0;
    const messages = batch.map((row) => rowMessage(row.values, format));
    const parse = message(frontend.parse, '', this.#insert, int16(0));
    this.#session.loan.run({
      route,
      plans: batch.map(() => insertPlan),
      bytes: (backend) => {
        backend.expect({ kind: 'parse', hidden: true, name: '', statement: undefined });
        backend.unnamed = this;
        const bytes: Buffer[] = [parse];
        for (const one of messages) {
          backend.expect(expectBind);
          backend.expect(expectExecute);
          bytes.push(one, executeMessage);
        }
        backend.expect(expectSync);
        bytes.push(syncMessage);
        return bytes;
      },
      size: messages.reduce((total, one) => total + one.length, 0),
      ends: true,
      isExtended: true,
      trailing: [],
      repins: this.#isOwn,
      silent: { answered, failed: (error) => this.#fail(error.response()) },
    });
  }

  // ---- the end

  #commit(): void {
    const { transaction } = this.#session;
    if (transaction.hasFailed) return this.#fail(transaction.aborted().response());
    if (!this.#isOwn) return this.#finish();
    if (transaction.isLazy) {
      transaction.answer(commitPlan);
      return this.#finish();
    }
    this.#ask(['COMMIT'], commitPlan, anyRoute, ({ error }) => {
      if (error !== undefined) return this.#fail(errorMessage(error));
      this.#finish();
    });
  }

  #finish(): void {
    this.#session.say(commandComplete(`COPY ${this.#count}`));
    this.#over(undefined);
  }

  #failAt(error: RouterError | CopyDataError, line = 0): void {
    const isData = error instanceof CopyDataError;
    const where = `COPY ${this.#source.table}, line ${isData ? error.line : line}${isData && error.text !== undefined ? `: "${error.text}"` : ''}`;
    const fields = new Map([
      ['C', error.sqlstate],
      ['M', error.message],
    ]);
    if (!isData && error.hint !== undefined) fields.set('H', error.hint);
    this.#fail(errorMessage(fields, where));
  }

  /** Nothing of it stays: its own transaction is rolled back, the client's has failed. */
  #fail(error: Buffer): void {
    const { transaction, loan } = this.#session;
    this.#ending ??= () => undefined;
    this.#rows = [];
    this.#rowBytes = 0;
    this.#unread = undefined;
    if (!this.#isOwn) {
      if (transaction.isOpen) transaction.fail(loan.isBound);
      return this.#over(error);
    }
    if (transaction.isIdle) return this.#over(error);
    if (loan.isBound)
      return this.#ask(
        ['ROLLBACK'],
        rollbackPlan,
        anyRoute,
        () => this.#over(error),
        () => this.#over(error),
      );
    if (transaction.isLazy) transaction.answer(rollbackPlan);
    else transaction.endFailed(rollbackPlan);
    this.#over(error);
  }

  #ask(
    [sql = '']: readonly string[],
    plan: typeof insertPlan,
    route: Route,
    answered: (answer: SilentAnswer) => void,
    failed?: () => void,
  ): void {
    this.#session.loan.run({
      route,
      plans: [plan],
      bytes: (backend) => {
        backend.expect(expectQuery);
        return [queryMessage(sql)];
      },
      size: sql.length,
      ends: true,
      isExtended: false,
      trailing: [],
      silent: { answered, failed: (error) => (failed === undefined ? this.#fail(error.response()) : failed()) },
    });
  }
}

/** Source: pg_type.dat. */
const textOid = 25;

/** A row that the router itself refuses. */
class RowRefusal extends Error {
  override readonly cause: RouterError;
  readonly line: number;

  constructor(cause: RouterError, line: number) {
    super(cause.message);
    this.cause = cause;
    this.line = line;
  }
}
