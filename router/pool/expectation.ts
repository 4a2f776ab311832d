/**
 * What a backend still owes: one entry for each message sent to it that has an answer, in order. Answers are matched against
 * the first entry; this is what keeps the router's own statements apart from the client's, and tells when a backend is clean.
 */
import type { ClientStatement } from '../session/statements.ts';

export interface OwnAnswer {
  readonly rows: readonly (readonly (string | null)[])[];
  /** Fields of the ErrorResponse, by letter. */
  readonly error: ReadonlyMap<string, string> | undefined;
}

/** A simple query of the router's own: nothing of its answer reaches a client. */
export interface OwnQuery {
  readonly kind: 'own';
  readonly rows: (string | null)[][];
  error: ReadonlyMap<string, string> | undefined;
  readonly done: (answer: OwnAnswer) => void;
}

export type Expectation =
  | OwnQuery
  /** A client's simple query or function call: everything up to its ReadyForQuery. */
  | { readonly kind: 'query' }
  /** `hidden`: the router's own, ahead of a Bind or Describe. `name`: the statement's name at the backend. */
  | {
      readonly kind: 'parse';
      readonly hidden: boolean;
      readonly name: string;
      readonly statement: ClientStatement | undefined;
    }
  | { readonly kind: 'bind'; readonly hidden: boolean }
  /** `seen`: the router's own, of a statement that was just made. */
  | {
      readonly kind: 'describe';
      /** `parameters`: its ParameterDescription; `columns`: its RowDescription, or nothing for NoData. */
      readonly seen?: (parameters: Buffer, columns: Buffer | undefined) => void;
      /** They come first. */
      parameters?: Buffer;
    }
  | { readonly kind: 'execute' }
  | { readonly kind: 'close'; readonly hidden: boolean }
  | { readonly kind: 'sync' }
  /** The router's own, which surely fails: what came before it in the pipeline goes with it. A `local` follows that says why. */
  | { readonly kind: 'refusal' }
  /** Said by the router in the backend's place, when everything before it has been answered. */
  | { readonly kind: 'local'; readonly bytes: Buffer; readonly statement: ClientStatement | undefined };

/** True where the description of a result is the router's own. */
export function isSeen(due: Expectation, description: Buffer | undefined): boolean {
  if (due.kind !== 'describe' || due.seen === undefined || due.parameters === undefined) return false;
  due.seen(due.parameters, description);
  return true;
}

export const expectQuery: Expectation = { kind: 'query' };
export const expectRefusal: Expectation = { kind: 'refusal' };
export const expectBind: Expectation = { kind: 'bind', hidden: false };
export const expectHiddenBind: Expectation = { kind: 'bind', hidden: true };
export const expectDescribe: Expectation = { kind: 'describe' };
export const expectExecute: Expectation = { kind: 'execute' };
export const expectClose: Expectation = { kind: 'close', hidden: false };
export const expectHiddenClose: Expectation = { kind: 'close', hidden: true };
export const expectSync: Expectation = { kind: 'sync' };

/** First in, first out, without moving the array at each step. */
export class ExpectationQueue {
  #items: (Expectation | undefined)[] = [];
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  get first(): Expectation | undefined {
    return this.#items[this.#head];
  }

  push(expectation: Expectation): void {
    this.#items.push(expectation);
  }

  shift(): Expectation | undefined {
    const item = this.#items[this.#head];
    if (item === undefined) return undefined;
    this.#items[this.#head++] = undefined;
    if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    }
    return item;
  }
}
