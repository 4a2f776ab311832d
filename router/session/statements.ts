/**
 * Prepared statements of clients, and what they are called at backends. A client's name means something in its session only;
 * at backends a statement is known by its text and parameter types, so that all clients share one.
 */
import { randomBytes } from 'node:crypto';
import type { PlannedStatement } from '../exec/plan-cache.ts';

/** One text with its parameter types, as backends know it. */
export interface SharedStatement {
  readonly key: string;
  /** Name at backends; changes when the statement has to be made anew everywhere (its result type changed). */
  name: string;
  /** Body of the Parse message: text and parameter types. */
  readonly body: Buffer;
}

/** A statement of one session, under the client's name ('' for the unnamed one). */
export interface ClientStatement {
  readonly name: string;
  readonly sql: string;
  readonly body: Buffer;
  readonly parameterTypes: readonly number[];
  /** Undefined for an empty statement. */
  readonly planned: PlannedStatement | undefined;
  /** Undefined for the unnamed statement: those are as many as there are literals. */
  readonly shared: SharedStatement | undefined;
  /** ParseComplete has been said for it. */
  confirmed: boolean;
}

/** The parameter types declared in the body of a Parse message. */
export function parameterTypesOf(body: Buffer): number[] {
  const start = body.indexOf(0) + 1;
  const count = body.readUInt16BE(start);
  const types: number[] = [];
  for (let index = 0; index < count; index++) types.push(body.readUInt32BE(start + 2 + index * 4));
  return types;
}

/** Names for shared statements; one per worker. Bounded: the least recently used are forgotten (backends drop theirs themselves). */
export class SharedStatements {
  readonly #byKey = new Map<string, SharedStatement>();
  readonly #limit: number;
  /** Names that no client comes upon: a statement that the client never made must not be found at a backend. */
  readonly #prefix = `m${randomBytes(6).toString('hex')}_`;
  #sequence = 0;

  constructor(limit = 10_000) {
    this.#limit = limit;
  }

  of(body: Buffer): SharedStatement {
    const key = body.toString('latin1');
    let statement = this.#byKey.get(key);
    if (statement !== undefined) this.#byKey.delete(key);
    else statement = { key, name: this.#nextName(), body: Buffer.from(body) };
    this.#byKey.set(key, statement);
    if (this.#byKey.size > this.#limit) {
      const oldest = this.#byKey.keys().next();
      if (oldest.done !== true) this.#byKey.delete(oldest.value);
    }
    return statement;
  }

  /** After "cached plan must not change result type": backends make it anew under another name. */
  renew(statement: SharedStatement): void {
    statement.name = this.#nextName();
  }

  #nextName(): string {
    this.#sequence += 1;
    return `${this.#prefix}${this.#sequence}`;
  }
}
