/**
 * Rows out of the data of a COPY, as they come in, in pieces of any size: values as Postgres' COPY would read them. Pure but for what it
 * keeps of a row that isn't whole yet. Source: PostgreSQL source, copyfromparse.c; documentation, "COPY", "File Formats".
 */
import { Holding } from './holding.ts';

/** `values`: as the types' input functions (or, in binary, their receive functions) take them. */
export interface CopyRow {
  readonly values: readonly (Buffer | null)[];
  /** Counted from 1, with a header and with the line ends within quotes. */
  readonly line: number;
}

/** What can't be read; `text` is the line, where there is one to be shown. */
export class CopyDataError extends Error {
  readonly sqlstate: string;
  readonly line: number;
  readonly text: string | undefined;

  constructor(sqlstate: string, message: string, line: number, text?: string) {
    super(message);
    this.name = 'CopyDataError';
    this.sqlstate = sqlstate;
    this.line = line;
    this.text = text;
  }
}

export interface RowReader {
  /** @throws CopyDataError */
  push(chunk: Buffer, take: (row: CopyRow) => void): void;
  /** No more comes. @throws CopyDataError */
  end(take: (row: CopyRow) => void): void;
}

/** The longest row that is taken: it is held whole. */
export const maxRowBytes = 64 * 1024 * 1024;

/** No table has more columns ("PostgreSQL Limits"): whatever a line says, no more values are read of it. */
export const maxColumns = 1_600;

/** More values, or fewer, than there are columns. */
export function checkCount(values: readonly unknown[], columns: readonly string[], line: number, text?: string): void {
  if (values.length > columns.length)
    throw new CopyDataError('22P04', 'extra data after last expected column', line, text);
  const missing = columns[values.length];
  if (missing !== undefined) throw new CopyDataError('22P04', `missing data for column "${missing}"`, line, text);
}

const signature = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1');

/** Format binary: a header, and for each row a count and values with their lengths. */
export class BinaryRows implements RowReader {
  readonly #columns: readonly string[];
  /** At hand. */
  #rest: Buffer = Buffer.alloc(0);
  readonly #held = new Holding();
  #hasHeader = false;
  #isOver = false;
  #line = 0;

  constructor(columns: readonly string[]) {
    this.#columns = columns;
  }

  push(chunk: Buffer, take: (row: CopyRow) => void): void {
    const isContinued = this.#held.length > 0;
    if (isContinued) this.#held.add(chunk);
    this.#rest = isContinued ? this.#held.bytes : chunk;
    if (this.#rest.length > maxRowBytes + chunk.length)
      throw new CopyDataError('54000', `a row of more than ${maxRowBytes} bytes`, this.#line + 1);
    let position = this.#hasHeader ? 0 : this.#header();
    for (let next = position; next !== undefined; next = this.#row(next, take)) position = next;
    if (!isContinued || (position ?? 0) > 0) this.#held.replace(this.#rest.subarray(position ?? 0));
    this.#rest = Buffer.alloc(0);
  }

  end(): void {
    if (!this.#hasHeader) throw new CopyDataError('22P04', 'COPY file signature not recognized', 0);
    // Without the trailer, as pgx does: Postgres takes the end behind a whole row for the end.
    if (!this.#isOver && this.#held.length >= 2)
      throw new CopyDataError('22P04', 'unexpected EOF in COPY data', this.#line + 1);
  }

  #header(): number | undefined {
    const length = signature.length + 8;
    if (this.#rest.length < length) return undefined;
    if (!this.#rest.subarray(0, signature.length).equals(signature))
      throw new CopyDataError('22P04', 'COPY file signature not recognized', 0);
    if (this.#rest.readUInt32BE(signature.length) >>> 16 !== 0)
      throw new CopyDataError('22P04', 'unrecognized critical flags in COPY file header', 0);
    const end = length + this.#rest.readUInt32BE(signature.length + 4);
    if (this.#rest.length < end) return undefined;
    this.#hasHeader = true;
    return end;
  }

  /** Where the next begins; undefined where this one isn't whole. */
  #row(start: number, take: (row: CopyRow) => void): number | undefined {
    const buffer = this.#rest;
    if (buffer.length - start < 2) return undefined;
    const line = this.#line + 1;
    if (this.#isOver) throw new CopyDataError('22P04', 'received copy data after EOF marker', line);
    const count = buffer.readInt16BE(start);
    if (count === -1) {
      this.#isOver = true;
      return start + 2;
    }
    if (count !== this.#columns.length)
      throw new CopyDataError('22P04', `row field count is ${count}, expected ${this.#columns.length}`, line);
    const values: (Buffer | null)[] = [];
    let position = start + 2;
    for (let index = 0; index < count; index++) {
      if (buffer.length - position < 4) return undefined;
      const length = buffer.readInt32BE(position);
      if (length < -1) throw new CopyDataError('22P04', 'invalid field size', line);
      position += 4;
      if (length === -1) values.push(null);
      else if (buffer.length - position < length) return undefined;
      else {
        values.push(buffer.subarray(position, position + length));
        position += length;
      }
    }
    this.#line = line;
    take({ values, line });
    return position;
  }
}
