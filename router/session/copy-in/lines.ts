/**
 * Formats text and csv: lines, and the values in them. A line end within quotes (csv), or behind a backslash (text), belongs to the row.
 * Source: PostgreSQL source, CopyReadLineText, CopyReadAttributesText and CopyReadAttributesCSV in copyfromparse.c.
 */
import { Holding } from './holding.ts';
import type { CopyOptions } from './options.ts';
import { CopyDataError, type CopyRow, checkCount, maxColumns, maxRowBytes, type RowReader } from './rows.ts';

const newline = 0x0a;
const carriageReturn = 0x0d;
const backslash = 0x5c;

export class LineRows implements RowReader {
  readonly #options: CopyOptions;
  readonly #columns: readonly string[];
  readonly #forcedNotNull: readonly boolean[];
  readonly #forcedNull: readonly boolean[];
  readonly #held = new Holding();
  #line = 0;
  /** Line ends within the row at hand. */
  #innerLines = 0;
  #isInQuotes = false;
  #wasEscape = false;
  /** Lines end in CR LF; known from the first one. */
  #hasReturns: boolean | undefined;
  #isOver = false;

  constructor(options: CopyOptions, columns: readonly string[]) {
    this.#options = options;
    this.#columns = columns;
    const named = (names: readonly string[]) => columns.map((column) => names.includes('*') || names.includes(column));
    this.#forcedNotNull = named(options.forceNotNull);
    this.#forcedNull = named(options.forceNull);
  }

  push(chunk: Buffer, take: (row: CopyRow) => void): void {
    let start = 0;
    while (!this.#isOver) {
      const end = this.#options.format === 'csv' ? this.#endInCsv(chunk, start) : this.#endInText(chunk, start);
      if (end === -1) break;
      const last = chunk.subarray(start, end);
      start = end + 1;
      this.#takeLine(this.#whole(last), take);
    }
    if (this.#isOver || start === chunk.length) return;
    this.#held.add(chunk.subarray(start));
    if (this.#held.length > maxRowBytes)
      throw new CopyDataError('54000', `a row of more than ${maxRowBytes} bytes`, this.#line + 1);
  }

  end(take: (row: CopyRow) => void): void {
    if (this.#isOver || this.#held.length === 0) return;
    if (this.#isInQuotes) throw new CopyDataError('22P04', 'unterminated CSV quoted field', this.#line + 1);
    this.#takeLine(this.#whole(Buffer.alloc(0)), take);
  }

  /** With what came before. */
  #whole(last: Buffer): Buffer {
    if (this.#held.length === 0) return last;
    this.#held.add(last);
    const { bytes } = this.#held;
    this.#held.replace(Buffer.alloc(0));
    return bytes;
  }

  /** Of the row that goes on at `start`; -1 where it goes on in the next piece. */
  #endInText(chunk: Buffer, start: number): number {
    for (let from = start; ; ) {
      const end = chunk.indexOf(newline, from);
      const upTo = end === -1 ? chunk.length : end;
      let escapes = 0;
      while (upTo - escapes - 1 >= from && chunk[upTo - escapes - 1] === backslash) escapes += 1;
      // All of it backslashes: what the piece before ended in counts, too.
      const isOdd = (escapes % 2 === 1) !== (escapes === upTo - from && this.#wasEscape);
      this.#wasEscape = end === -1 && isOdd;
      if (end === -1) return -1;
      if (!isOdd) return end;
      this.#innerLines += 1;
      from = end + 1;
    }
  }

  #endInCsv(chunk: Buffer, start: number): number {
    const { quote } = this.#options;
    const escape = this.#options.escape === quote ? -1 : this.#options.escape;
    for (let index = start; index < chunk.length; index++) {
      const byte = chunk[index] as number;
      if (byte === newline) {
        if (!this.#isInQuotes) return index;
        this.#innerLines += 1;
      }
      if (this.#isInQuotes && byte === escape) this.#wasEscape = !this.#wasEscape;
      if (byte === quote && !this.#wasEscape) this.#isInQuotes = !this.#isInQuotes;
      if (byte !== escape) this.#wasEscape = false;
    }
    return -1;
  }

  #takeLine(whole: Buffer, take: (row: CopyRow) => void): void {
    this.#hasReturns ??= whole.at(-1) === carriageReturn;
    const bytes = this.#hasReturns && whole.at(-1) === carriageReturn ? whole.subarray(0, -1) : whole;
    this.#line += 1 + this.#innerLines;
    this.#innerLines = 0;
    const isFirst = this.#line === 1;
    if (bytes.length === 2 && bytes[0] === backslash && bytes[1] === 0x2e) {
      this.#isOver = true;
      return;
    }
    const values = this.#options.format === 'csv' ? this.#csvValues(bytes) : this.#textValues(bytes);
    if (isFirst && this.#options.header !== 'none') return this.#checkHeader(values);
    checkCount(values, this.#columns, this.#line, shown(bytes));
    take({ values, line: this.#line });
  }

  #checkHeader(values: readonly (Buffer | null)[]): void {
    if (this.#options.header !== 'match') return;
    if (values.length !== this.#columns.length)
      throw new CopyDataError(
        '22P04',
        `wrong number of fields in header line: got ${values.length}, expected ${this.#columns.length}`,
        this.#line,
      );
    for (const [index, column] of this.#columns.entries()) {
      const name = values[index]?.toString('utf8');
      if (name !== column)
        throw new CopyDataError(
          '22P04',
          `column name mismatch in header line field ${index + 1}: got ${name === undefined ? 'null value' : `"${name}"`}, expected "${column}"`,
          this.#line,
        );
    }
  }

  #textValues(line: Buffer): (Buffer | null)[] {
    const { delimiter, nullText } = this.#options;
    const values: (Buffer | null)[] = [];
    for (let start = 0; ; ) {
      let end = start;
      let hasEscapes = false;
      for (; end < line.length; end++) {
        const byte = line[end];
        if (byte === delimiter) break;
        if (byte === backslash) {
          hasEscapes = true;
          end += 1;
        }
      }
      end = Math.min(end, line.length);
      const raw = line.subarray(start, end);
      if (raw.equals(nullText)) values.push(null);
      else values.push(hasEscapes ? unescaped(raw) : raw);
      if (end >= line.length || values.length > maxColumns) return values;
      start = end + 1;
    }
  }

  #csvValues(line: Buffer): (Buffer | null)[] {
    const { delimiter, quote, escape, nullText } = this.#options;
    const values: (Buffer | null)[] = [];
    let position = 0;
    for (;;) {
      const start = position;
      const pieces: Buffer[] = [];
      let hasQuotes = false;
      let from = position;
      while (position < line.length && line[position] !== delimiter) {
        if (line[position] !== quote) {
          position += 1;
          continue;
        }
        hasQuotes = true;
        pieces.push(line.subarray(from, position));
        position += 1;
        from = position;
        for (; ; position++) {
          if (position >= line.length)
            throw new CopyDataError('22P04', 'unterminated CSV quoted field', this.#line, shown(line));
          const byte = line[position];
          const next = line[position + 1];
          if (byte === escape && (next === quote || next === escape)) {
            pieces.push(line.subarray(from, position));
            from = position + 1;
            position += 1;
          } else if (byte === quote) break;
        }
        pieces.push(line.subarray(from, position));
        position += 1;
        from = position;
      }
      pieces.push(line.subarray(from, position));
      const value = pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces);
      values.push(this.#csvNull(values.length, value, hasQuotes, line.subarray(start, position), nullText));
      if (position >= line.length || values.length > maxColumns) return values;
      position += 1;
    }
  }

  #csvNull(index: number, value: Buffer, hasQuotes: boolean, raw: Buffer, nullText: Buffer): Buffer | null {
    const isNull = !hasQuotes && raw.equals(nullText);
    if (isNull) return this.#forcedNotNull[index] === true ? value : null;
    return this.#forcedNull[index] === true && value.equals(nullText) ? null : value;
  }
}

/** As an error shows a line. */
const shown = (line: Buffer): string => line.subarray(0, 100).toString('utf8');

const letters: ReadonlyMap<number, number> = new Map(
  Object.entries({ b: 8, f: 12, n: 10, r: 13, t: 9, v: 11 }).map(([letter, value]) => [letter.charCodeAt(0), value]),
);

/** Backslash sequences of format text. */
function unescaped(raw: Buffer): Buffer {
  const out = Buffer.allocUnsafe(raw.length);
  let length = 0;
  for (let index = 0; index < raw.length; index++) {
    const byte = raw[index] as number;
    if (byte !== backslash || index + 1 >= raw.length) {
      out[length++] = byte;
      continue;
    }
    index += 1;
    const next = raw[index] as number;
    const octal = /^[0-7]{1,3}/.exec(raw.toString('latin1', index, index + 3))?.[0];
    const hex = next === 0x78 ? /^[0-9a-f]{1,2}/i.exec(raw.toString('latin1', index + 1, index + 3))?.[0] : undefined;
    if (octal !== undefined) {
      out[length++] = Number.parseInt(octal, 8) & 0xff;
      index += octal.length - 1;
    } else if (hex !== undefined) {
      out[length++] = Number.parseInt(hex, 16);
      index += hex.length;
    } else out[length++] = letters.get(next) ?? next;
  }
  return out.subarray(0, length);
}
