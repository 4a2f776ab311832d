/**
 * The real Postgres grammar, from libpg-query's WebAssembly, in instances of our own.
 * A statement that is nested too deeply ends in a trap, which leaves an instance broken: some thirty of them, and it
 * parses nothing any more. So an instance that trapped is thrown away, and a spare takes its place; one that a huge
 * statement has made big is replaced, too, since WebAssembly memory never shrinks.
 */
import type { ParseResult } from '@pgsql/types';
// @ts-expect-error The package declares no types for its inner module.
import makeModule from 'libpg-query/wasm/libpg-query.js';
import { PlanError } from './types.ts';

/** Longest text that is parsed. */
const maxTextBytes = 16 * 1024 * 1024;
/** Largest parse tree that is read, in bytes of JSON: some 25 times the text of a list of short constants. */
const maxTreeBytes = 32 * 1024 * 1024;

/** What of libpg-query's module is used. Pointers are offsets into its memory. */
interface Instance {
  readonly HEAPU8: Uint8Array;
  _malloc(bytes: number): number;
  _free(pointer: number): void;
  _wasm_parse_query_raw(text: number): number;
  _wasm_free_parse_result(result: number): void;
  lengthBytesUTF8(text: string): number;
  stringToUTF8(text: string, pointer: number, maxBytes: number): void;
  UTF8ToString(pointer: number): string;
  getValue(pointer: number, type: 'i32'): number;
}

const makeInstance = makeModule as () => Promise<Instance>;

export class Parser {
  #instance: Instance;
  #spare: Instance | undefined;
  #isMaking = false;
  readonly #usualBytes: number;

  private constructor(instance: Instance, spare: Instance) {
    this.#instance = instance;
    this.#spare = spare;
    this.#usualBytes = instance.HEAPU8.length;
  }

  static async create(): Promise<Parser> {
    return new Parser(await makeInstance(), await makeInstance());
  }

  /** Text without a statement gives no statements. @throws PlanError */
  parse(text: string): ParseResult {
    if (text.includes('\0')) throw new PlanError('22021', 'invalid byte sequence for encoding "UTF8": 0x00');
    const bytes = Buffer.byteLength(text);
    if (bytes > maxTextBytes) throw tooLarge(`${bytes} bytes of text`);
    try {
      return this.#parse(text, bytes);
    } catch (error) {
      if (error instanceof PlanError) throw error;
      this.#replace();
      throw new PlanError('54001', 'the statement is nested too deeply to be parsed', {
        hint: 'Write long chains of operators or set operations as lists: IN (...), VALUES, arrays.',
      });
    } finally {
      if (this.#instance.HEAPU8.length > this.#usualBytes) this.#replace();
    }
  }

  #parse(text: string, bytes: number): ParseResult {
    const instance = this.#instance;
    const input = instance._malloc(bytes + 1);
    instance.stringToUTF8(text, input, bytes + 1);
    const result = instance._wasm_parse_query_raw(input);
    try {
      const tree = instance.getValue(result, 'i32');
      const error = instance.getValue(result + 8, 'i32');
      if (error !== 0) throw syntaxError(instance, error);
      const end = instance.HEAPU8.indexOf(0, tree);
      if (end - tree > maxTreeBytes) throw tooLarge('too many constants or names');
      return JSON.parse(instance.UTF8ToString(tree)) as ParseResult;
    } finally {
      instance._free(input);
      instance._wasm_free_parse_result(result);
    }
  }

  /** Where there is no spare yet, the instance goes on being used: it takes many traps to break it. */
  #replace(): void {
    if (this.#spare !== undefined) {
      this.#instance = this.#spare;
      this.#spare = undefined;
    }
    if (this.#isMaking) return;
    this.#isMaking = true;
    void makeInstance().then((made) => {
      this.#spare = made;
      this.#isMaking = false;
    });
  }
}

const tooLarge = (what: string): PlanError =>
  new PlanError('54000', `the statement is too large to be routed: ${what}`, {
    hint: 'Bind values as parameters, or send fewer rows at a time.',
  });

/** PgQueryError: message, function, file, line, position (characters from 1, 0 where unknown). */
function syntaxError(instance: Instance, error: number): PlanError {
  const message = instance.UTF8ToString(instance.getValue(error, 'i32'));
  const position = instance.getValue(error + 16, 'i32');
  return new PlanError(sqlstateOf(message), message, position > 0 ? { position } : {});
}

/** The grammar's errors come without their SQLSTATE; nearly all are syntax errors. */
function sqlstateOf(message: string): string {
  if (/Unicode|surrogate/.test(message) && !message.startsWith('syntax error')) return '22025';
  if (message.startsWith('stack depth limit exceeded')) return '54001';
  if (/not implemented|not supported|no longer supported/.test(message)) return '0A000';
  return '42601';
}
