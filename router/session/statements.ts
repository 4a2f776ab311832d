/**
 * Prepared statements of clients, and what they are called at backends. A client's name means something in its session only;
 * at backends a statement is known by its text and parameter types, so that all clients share one. Its constants are read when
 * it is made, by the settings of that moment (a date by TimeZone and DateStyle), and its parameters get the types that columns have
 * then: only clients with the same ones share it.
 */
import { hash, randomBytes } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { PlannedStatement } from '../exec/plan-cache.ts';
import type { Catalogue } from '../plan/types.ts';

/** One text with its parameter types, as backends know it. */
export interface SharedStatement {
  /** Name at backends; changes when the statement has to be made anew everywhere (its result type changed). */
  name: string;
  /** Body of the Parse message: text and parameter types. */
  readonly body: Buffer;
  /** Names and types of its columns, as the last backend that made it said; '' for none. */
  shape?: string;
  /** Types of its parameters, in the same way. */
  types?: string;
}

/** A statement of one session, under the client's name ('' for the unnamed one). */
export class ClientStatement {
  readonly name: string;
  readonly sql: string;
  /** What it is made of at backends: the text and the parameter types. */
  body: Buffer;
  /** Its text at backends isn't the client's. */
  isRewritten = false;
  readonly parameterTypes: readonly number[];
  /** ParseComplete has been said for it. */
  confirmed = false;
  readonly #scope: StatementScope;
  #planned: PlannedStatement | undefined;
  #catalogue: Catalogue;
  /** The types of its parameters are those of the columns when the client made it. */
  readonly #columnTypes: string;
  #shared: SharedStatement | undefined;
  #sharedUnder: string | undefined;
  /** By what name at backends it went when the client was told what it gives, or could have asked. */
  #told: { readonly of: SharedStatement; readonly name: string } | undefined;
  /** Of its parameters, when it was made: the client's values are of these. */
  #types: string | undefined;

  /** @throws RouterError on a syntax error. */
  constructor(parsed: { readonly name: string; readonly sql: string; readonly body: Buffer }, scope: StatementScope) {
    this.name = parsed.name;
    this.sql = parsed.sql;
    // A copy: what came with it in one packet would be kept as well.
    this.body = parsed.name === '' ? parsed.body : Buffer.from(parsed.body);
    this.parameterTypes = parameterTypesOf(parsed.body);
    this.#scope = scope;
    this.#catalogue = scope.planner.catalogue;
    this.#columnTypes = this.#catalogue.columnTypes ?? '';
    this.#planned = scope.planner.planOne(parsed.sql);
  }

  /** Undefined for an empty statement. By the search path and the tables of now: Postgres reads it anew, too, when they have changed. */
  get planned(): PlannedStatement | undefined {
    const { planner } = this.#scope;
    if (planner.catalogue !== this.#catalogue) {
      this.#planned = planner.planOne(this.sql);
      this.#catalogue = planner.catalogue;
    }
    return this.#planned;
  }

  /** Said to backends in other words, without parameters. */
  rewrite(sql: string): void {
    const body = Buffer.concat([Buffer.from(`${sql}\0`, 'utf8'), Buffer.from([0, 0])]);
    if (body.equals(this.body)) return;
    this.body = body;
    this.isRewritten = true;
    this.#shared = undefined;
  }

  /** What keeping it takes, roughly: its text, and its body. */
  get bytes(): number {
    return this.sql.length * 2 + this.body.length;
  }

  /** The client makes it, or is told what it gives. */
  tell(): void {
    const { shared } = this;
    if (shared !== undefined && this.#told?.name !== shared.name) this.#told = { of: shared, name: shared.name };
  }

  /**
   * What it takes and gives at a backend that has just made it. The backends that have it under one name all do the same: where one does
   * something else, tables have changed, and the name goes with those that were told before. `isMadeNow`: by the client.
   */
  learn(made: SharedStatement, types: string, shape: string, isToldNow: boolean, isMadeNow: boolean): void {
    if (made.shape !== undefined && (made.shape !== shape || made.types !== types)) this.#scope.shared.renew(made);
    made.shape = shape;
    made.types = types;
    if (isToldNow) this.tell();
    if (isMadeNow) this.#types = types;
  }

  /** The client makes it where a backend has it, or is told what it takes. */
  takeTypes(): void {
    this.#types = this.shared?.types ?? this.#types;
  }

  /** At a backend that has it now, its parameters have other types than the client's values. */
  get isTypedOtherwise(): boolean {
    const types = this.shared?.types;
    return types !== undefined && this.#types !== undefined && types !== this.#types;
  }

  /** What it gives has changed since. */
  get isToldOtherwise(): boolean {
    const told = this.#told;
    return told !== undefined && told.of === this.shared && told.name !== told.of.name;
  }

  /** As it is called at backends under the settings of now. Undefined for the unnamed statement: those are as many as there are literals. */
  get shared(): SharedStatement | undefined {
    if (this.name === '') return undefined;
    const under = this.#scope.settings.meaning;
    if (this.#shared === undefined || this.#sharedUnder !== under) {
      this.#shared = this.#scope.shared.of(this.body, `${this.#columnTypes}\0${under}`);
      this.#sharedUnder = under;
    }
    return this.#shared;
  }
}

/** What the statements of one session depend on. */
export interface StatementScope {
  readonly planner: {
    readonly catalogue: Catalogue;
    planOne(sql: string): PlannedStatement | undefined;
  };
  readonly shared: SharedStatements;
  readonly settings: { readonly meaning: string };
}

/** The parameter types declared in the body of a Parse message. */
export function parameterTypesOf(body: Buffer): number[] {
  const start = body.indexOf(0) + 1;
  const count = body.readUInt16BE(start);
  const types: number[] = [];
  for (let index = 0; index < count; index++) types.push(body.readUInt32BE(start + 2 + index * 4));
  return types;
}

/** What a statement weighs besides its body, roughly. */
const overheadBytes = 512;

/** Names for shared statements; one per worker. Bounded in bytes: the least recently used are forgotten (backends drop theirs themselves). */
export class SharedStatements {
  readonly #byKey: LRUCache<string, SharedStatement>;
  /** Names that no client comes upon: a statement that the client never made must not be found at a backend. */
  readonly #prefix = `m${randomBytes(6).toString('hex')}_`;
  #sequence = 0;

  constructor(maxBytes = 64 * 1024 * 1024) {
    this.#byKey = new LRUCache({
      maxSize: maxBytes,
      sizeCalculation: (statement) => statement.body.length + overheadBytes,
    });
  }

  /** `settings`: those under which it is made, as a text. `body` is kept. */
  of(body: Buffer, settings: string): SharedStatement {
    const key = `${hash('sha256', body, 'base64')} ${hash('sha256', settings, 'base64')}`;
    let statement = this.#byKey.get(key);
    if (statement === undefined) {
      statement = { name: this.#nextName(), body };
      this.#byKey.set(key, statement);
    }
    return statement;
  }

  /** After "cached plan must not change result type": backends make it anew under another name. */
  renew(statement: SharedStatement): void {
    statement.name = this.#nextName();
    delete statement.shape;
    delete statement.types;
  }

  #nextName(): string {
    this.#sequence += 1;
    return `${this.#prefix}${this.#sequence}`;
  }
}
