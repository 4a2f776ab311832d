/**
 * The shape of a statement: its tokens with one space where white space or comments stood, and with a mark in place of every plain
 * string and number. Texts of one shape have one parse tree but for the values of those constants, so that plans can be found by it.
 * A lexer that knows the common part of SQL only: whatever else it meets (E'', dollar quotes, 1e5, several statements ...) it gives
 * up, and says so. It reads bytes of UTF-8, makes no objects, and writes into memory of its own that the next scan overwrites.
 * Held against Postgres' own scanner in `shape.test.ts`.
 * Source: PostgreSQL documentation, "Lexical Structure"; parser/scan.l. standard_conforming_strings is on (settings.ts).
 */

/** What stands for a constant in a shape: no text has these bytes where a token could begin. */
export const marks = { string: 1, integer: 2, bigInteger: 3, decimal: 4 } as const;

const maxShapeBytes = 64 * 1024;
const maxLiterals = 4096;

const other = 0;
const space = 1;
const name = 2;
const digit = 3;
const unknown = 4;

const classes = new Uint8Array(256).fill(unknown);
for (const byte of Buffer.from(' \t\n\r\f\v')) classes[byte] = space;
for (const byte of Buffer.from('+-*/<>=~!@#%^&|`?.,()[]:;')) classes[byte] = other;
for (const byte of Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_')) classes[byte] = name;
for (const byte of Buffer.from('0123456789')) classes[byte] = digit;
classes.fill(name, 0x80);

const quote = 0x27;
const doubleQuote = 0x22;
const dollar = 0x24;
const dash = 0x2d;
const slash = 0x2f;
const star = 0x2a;
const plus = 0x2b;
const dot = 0x2e;
const semicolon = 0x3b;
const blank = 0x20;
const newline = 0x0a;
const carriageReturn = 0x0d;
const ampersand = 0x26;
const largestInteger = Buffer.from('2147483647');

/** Letters that make a string of another kind of the quote behind them: E'', B'', X'', N''; and U&''. */
const prefixes = new Set(Buffer.from('eEbBxXnN'));
const unicodePrefixes = new Set(Buffer.from('uU'));

export class ShapeScanner {
  /** The first `length` bytes are the shape. */
  readonly shape = new Uint8Array(maxShapeBytes);
  length = 0;
  /** Of the shape and the seed. */
  hash = 0;
  /** Where each constant stands in the text, quotes included; its mark tells of which kind it is. */
  readonly starts = new Int32Array(maxLiterals);
  readonly ends = new Int32Array(maxLiterals);
  readonly kinds = new Uint8Array(maxLiterals);
  count = 0;
  /** The comment that the text begins with, where it does: hints may be in it. */
  hintStart = 0;
  hintEnd = 0;
  /** Has a comment that is meant for the member's planner (pg_hint_plan). */
  hasPlanHints = false;

  /** False for a text that it doesn't vouch for. */
  scan(text: Uint8Array, start: number, end: number, seed: number): boolean {
    const { shape } = this;
    let hash = seed | 0;
    let length = 0;
    let at = start;
    let isApart = false;
    let hasEnded = false;
    let isStart = true;
    // Two strings in a row may be one, if there is a line between them.
    let wasString = false;
    this.count = 0;
    this.hintStart = this.hintEnd = 0;
    this.hasPlanHints = false;
    while (at < end) {
      const byte = text[at] as number;
      const kind = classes[byte] as number;
      if (kind === space) {
        isApart = true;
        at += 1;
        continue;
      }
      if (byte === dash && text[at + 1] === dash && at + 1 < end) {
        at += 2;
        while (at < end && text[at] !== newline && text[at] !== carriageReturn) at += 1;
        isStart = false;
        isApart = true;
        continue;
      }
      if (byte === slash && text[at + 1] === star && at + 1 < end) {
        const after = endOfComment(text, at, end);
        if (after < 0) return false;
        if (text[at + 2] === plus) this.hasPlanHints = true;
        if (isStart) {
          this.hintStart = at;
          this.hintEnd = after;
        }
        isStart = false;
        at = after;
        isApart = true;
        continue;
      }
      if (byte === semicolon) {
        // Those before a statement belong to where the statement starts: left to the parser.
        if (length === 0) return false;
        hasEnded = true;
        at += 1;
        continue;
      }
      if (hasEnded) return false;
      // Room for what is written at once below; what may be longer looks for itself.
      if (length + 2 > maxShapeBytes) return false;
      if (isApart && length > 0) {
        shape[length++] = blank;
        hash = Math.imul(hash ^ blank, 0x01000193);
      }
      isApart = isStart = false;
      let mark = 0;
      const from = at;
      if (kind === name) {
        wasString = false;
        do at += 1;
        while (at < end && isNamePart(text[at] as number));
        const next = text[at];
        if (at - from === 1 && at < end) {
          if (next === quote && prefixes.has(byte)) return false;
          if (next === ampersand && unicodePrefixes.has(byte) && isQuote(text[at + 1])) return false;
        }
        if (length + at - from > maxShapeBytes) return false;
        for (let index = from; index < at; index++) {
          const part = text[index] as number;
          shape[length++] = part;
          hash = Math.imul(hash ^ part, 0x01000193);
        }
        continue;
      }
      if (byte === quote) {
        if (wasString) return false;
        at = endOfString(text, at, end);
        if (at < 0) return false;
        wasString = true;
        mark = marks.string;
      } else if (kind === digit) {
        wasString = false;
        do at += 1;
        while (at < end && classes[text[at] as number] === digit);
        mark = isSmall(text, from, at) ? marks.integer : marks.bigInteger;
        if (text[at] === dot && at < end) {
          at += 1;
          while (at < end && classes[text[at] as number] === digit) at += 1;
          mark = marks.decimal;
          if (text[at] === dot && at < end) return false;
        }
        // 1e5, 0x1F, 1_000, and what isn't SQL.
        if (at < end && isNamePart(text[at] as number)) return false;
      } else if (byte === doubleQuote) {
        wasString = false;
        do at += 1;
        while (at < end && text[at] !== doubleQuote);
        if (at >= end) return false;
        at += 1;
      } else if (byte === dollar) {
        wasString = false;
        do at += 1;
        while (at < end && classes[text[at] as number] === digit);
        // $1 is a parameter; $$ and $tag$ begin a string.
        if (at - from === 1 || (at < end && isNamePart(text[at] as number))) return false;
      } else if (kind === unknown) {
        return false;
      } else {
        wasString = false;
        at += 1;
        if (byte === dot && at < end && classes[text[at] as number] === digit) return false;
      }
      if (mark !== 0) {
        if (this.count === maxLiterals) return false;
        this.starts[this.count] = from;
        this.ends[this.count] = at;
        this.kinds[this.count] = mark;
        this.count += 1;
        shape[length++] = mark;
        hash = Math.imul(hash ^ mark, 0x01000193);
        continue;
      }
      if (length + at - from > maxShapeBytes) return false;
      for (let index = from; index < at; index++) {
        const part = text[index] as number;
        shape[length++] = part;
        hash = Math.imul(hash ^ part, 0x01000193);
      }
    }
    this.length = length;
    this.hash = hash;
    return length > 0;
  }
}

/** Part of a name behind its first letter. */
const isNamePart = (byte: number): boolean => {
  const kind = classes[byte];
  return kind === name || kind === digit || byte === dollar;
};

const isQuote = (byte: number | undefined): boolean => byte === quote || byte === doubleQuote;

/** Comments nest. -1 where it doesn't end. */
function endOfComment(text: Uint8Array, start: number, end: number): number {
  let depth = 0;
  let at = start;
  while (at < end - 1) {
    if (text[at] === slash && text[at + 1] === star) {
      depth += 1;
      at += 2;
    } else if (text[at] === star && text[at + 1] === slash) {
      depth -= 1;
      at += 2;
      if (depth === 0) return at;
    } else {
      if (text[at] === 0) return -1;
      at += 1;
    }
  }
  return -1;
}

/** Behind the closing quote; a doubled one is part of the string. -1 where it doesn't end. */
function endOfString(text: Uint8Array, start: number, end: number): number {
  for (let at = start + 1; at < end; at++) {
    const byte = text[at];
    if (byte === 0) return -1;
    if (byte !== quote) continue;
    if (at + 1 < end && text[at + 1] === quote) at += 1;
    else return at + 1;
  }
  return -1;
}

/** Whether the digits are an integer of 32 bits: the grammar has another token for larger ones. */
function isSmall(text: Uint8Array, start: number, end: number): boolean {
  const digits = largestInteger.length;
  if (end - start < digits) return true;
  let first = start;
  while (first < end && text[first] === 0x30) first += 1;
  if (end - first !== digits) return end - first < digits;
  for (let index = 0; index < digits; index++) {
    const difference = (text[first + index] as number) - (largestInteger[index] as number);
    if (difference !== 0) return difference < 0;
  }
  return true;
}
