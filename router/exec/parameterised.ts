/**
 * Simple queries said as prepared statements: the constants that a column is compared with become parameters (plan/parameters.ts), so
 * that a member parses and plans all texts of a shape once. Members answer the same, but for how an error is told: where one comes
 * before anything was said, the query is run as it came.
 * Leaves to others: which queries go this way (session/ride.ts), the messages (wire/client-messages.ts).
 * Source: PostgreSQL documentation, "Extended Query", "Plan Caching" (PREPARE, "Notes").
 */
import { marks, type ShapeScanner } from '../plan/shape.ts';
import type { Parameters } from '../plan/types.ts';
import type { SharedStatement, SharedStatements } from '../session/statements.ts';
import { headerBytes } from '../wire/codes.ts';

/** A statement with parameters, for all texts of one shape that have the other constants in common. */
export interface Template {
  /** Of what tables, types and functions were then; what is kept at members isn't made anew when they change unless its name does. */
  readonly catalogue: number;
  /** Body of its Parse message: text and types of parameters. */
  readonly body: Buffer;
  /** Constants by index that are parameters, the first of them $1. */
  readonly parameters: readonly number[];
  /** How many more parameters there are behind them, always null. */
  readonly guards: number;
  /** The others, with their bytes. */
  readonly kept: readonly { readonly index: number; readonly bytes: Buffer }[];
}

/** A query with its values. */
export interface BoundQuery {
  readonly template: Template;
  readonly statement: SharedStatement;
  /** Of the statement at members, when it was bound. */
  readonly name: string;
  /** As in a Bind message: how many there are, then each with its length, as text. */
  readonly values: Buffer;
}

/** The types that Postgres gives constants (`make_const`); a string has none until it is used. Numbers of pg_type.dat. */
const types = { [marks.string]: 0, [marks.integer]: 23, [marks.bigInteger]: 20, [marks.decimal]: 1700 };
/** Surely 64 bits: longer ones may be `numeric`. */
const maxBigDigits = 18;
/** In the place of a value's length. */
const nullLength = -1;

/** Gives a parameter the type of an array of the column's, and says nothing else (plan/types.ts, `Guard`). */
const guard = (column: string, number: number): string =>
  ` and (true or array[${column}] operator(pg_catalog.=) $${number})`;

/** Postgres cuts them off and says so, which only the one would hear for whom the statement is made (NAMEDATALEN). */
const longName = /[\w$\x80-\xff]{64}|"(?:[^"]|""){64}/;
const openAhead = /\( *$/;

/** `scanner` has scanned `text`, whose constants are to be parameters. Undefined where they can't be. */
export function templateOf(
  scanner: ShapeScanner,
  text: Uint8Array,
  { constants, guards }: Parameters,
  catalogue: number,
): Template | undefined {
  const numbers = new Map(constants.map((index, position) => [index, position + 1]));
  const behind = new Map(
    guards.map(({ after, column }, position) => [after, guard(column, constants.length + position + 1)]),
  );
  const pieces: Uint8Array[] = [];
  const kept: { index: number; bytes: Buffer }[] = [];
  let from = 0;
  let index = 0;
  const { shape, length, starts, ends, kinds } = scanner;
  const said = Buffer.from(shape.buffer, shape.byteOffset, length).toString('latin1');
  if (longName.test(said)) return undefined;
  for (let at = 0; at < length; at++) {
    if ((shape[at] as number) > marks.decimal) continue;
    pieces.push(shape.slice(from, at));
    const number = numbers.get(index);
    if (number === undefined) {
      const bytes = Buffer.from(text.subarray(starts[index], ends[index]));
      kept.push({ index, bytes });
      pieces.push(bytes);
    } else {
      // In parentheses of its own, the guard would be compared as well.
      if (behind.has(index) && openAhead.test(said.slice(0, at))) return undefined;
      // A string needs no space between it and a name, $1 does.
      pieces.push(Buffer.from(` $${number}${behind.get(index) ?? ''} `));
    }
    from = at + 1;
    index += 1;
  }
  pieces.push(shape.slice(from, length));
  const declared = Buffer.alloc(1 + 2 + constants.length * 4);
  declared.writeUInt16BE(constants.length, 1);
  for (const [position, constant] of constants.entries())
    declared.writeUInt32BE(types[kinds[constant] as keyof typeof types], 3 + position * 4);
  return { catalogue, body: Buffer.concat([...pieces, declared]), parameters: constants, guards: guards.length, kept };
}

/**
 * Classes of errors that a query may not have where its statement does: feature_not_supported (what it gives has changed), data exception,
 * invalid_sql_statement_name, syntax error or access rule violation, internal error (Bind reads a value by a type that is there no more:
 * "cache lookup failed for type").
 */
const ofStatement: ReadonlySet<string> = new Set(['0A', '22', '26', '42', 'XX']);
/** Whether an error of Parse or Bind may be the statement's own, which the query as it came would not have. */
export const isOfStatement = (sqlstate: string): boolean => ofStatement.has(sqlstate.slice(0, 2));

/** What is known of a template at work. */
interface Use {
  /** By the settings under which they are made. */
  readonly statements: Map<string, SharedStatement>;
  runs: number;
  failures: number;
}

/** A template that fails more often than once in so many runs isn't used. */
const runsToAFailure = 20;
const freeFailures = 3;
const maxSettings = 16;
/** Settings of which more is said aren't worth a statement: their text is a key of every template's map. */
const maxMeaning = 1_024;
export class Parameterised {
  readonly #scanner: ShapeScanner;
  readonly #shared: SharedStatements;
  readonly #uses = new WeakMap<Template, Use>();

  constructor(scanner: ShapeScanner, shared: SharedStatements) {
    this.#scanner = scanner;
    this.#shared = shared;
  }

  /**
   * Undefined where it has to go as it is. `frame`: of a Query whose plan has the template. `meaning`: the settings by which a member
   * reads constants.
   */
  bind(frame: Buffer, template: Template, meaning: string): BoundQuery | undefined {
    if (meaning.length > maxMeaning) return undefined;
    const use = this.#useOf(template);
    if (use.failures > freeFailures + use.runs / runsToAFailure) return undefined;
    const values = this.#values(frame, template);
    if (values === undefined) return undefined;
    use.runs += 1;
    const statement = this.#statementOf(use.statements, template, meaning);
    return { template, statement, name: statement.name, values };
  }

  /**
   * A member has refused it before it ran. It is made anew, since it may be outdated: what it gives, an operator, or the type by which
   * the value was read.
   */
  failed({ template, statement, name }: BoundQuery): void {
    // Of those that were sent by the old name only the first says something new.
    if (name !== statement.name) return;
    this.#useOf(template).failures += 1;
    this.#shared.renew(statement);
  }

  #statementOf(
    statements: Map<string, SharedStatement>,
    { catalogue, body }: Template,
    meaning: string,
  ): SharedStatement {
    let statement = statements.get(meaning);
    if (statement === undefined) {
      if (statements.size >= maxSettings) statements.clear();
      // Apart from those that clients have named: what they were told of theirs is kept with them.
      statement = this.#shared.of(body, `${meaning}\0template ${catalogue}`);
      statements.set(meaning, statement);
    }
    return statement;
  }

  #useOf(template: Template): Use {
    let use = this.#uses.get(template);
    if (use === undefined) this.#uses.set(template, (use = { statements: new Map(), runs: 0, failures: 0 }));
    return use;
  }

  #values(frame: Buffer, { parameters, guards, kept }: Template): Buffer | undefined {
    const scanner = this.#scanner;
    if (!scanner.scan(frame, headerBytes, frame.length - 1, 0) || scanner.hasPlanHints) return undefined;
    const { starts, ends, kinds } = scanner;
    for (const { index, bytes } of kept)
      if (!bytes.equals(frame.subarray(starts[index], ends[index]))) return undefined;
    let length = 2 + 4 * guards;
    for (const index of parameters) length += 4 + (ends[index] as number) - (starts[index] as number);
    const values = Buffer.allocUnsafe(length);
    values.writeUInt16BE(parameters.length + guards, 0);
    let at = 2;
    for (const index of parameters) {
      const start = starts[index] as number;
      const end = ends[index] as number;
      if (kinds[index] === marks.bigInteger && end - start > maxBigDigits) return undefined;
      const written =
        kinds[index] === marks.string
          ? unquote(frame, start + 1, end - 1, values, at + 4)
          : frame.copy(values, at + 4, start, end);
      values.writeUInt32BE(written, at);
      at += 4 + written;
    }
    for (let guard = 0; guard < guards; guard++) at = values.writeInt32BE(nullLength, at);
    return values.subarray(0, at);
  }
}

const quote = 0x27;

/** Copies what stands between the quotes, doubled ones once. Returns how many bytes that is. */
function unquote(from: Buffer, start: number, end: number, to: Buffer, at: number): number {
  let written = at;
  for (let index = start; index < end; index++) {
    const byte = from[index] as number;
    to[written++] = byte;
    if (byte === quote) index += 1;
  }
  return written - at;
}
