/**
 * What Postgres' own catalogue says of the functions that a statement calls: may they write, may they read tables that the statement
 * doesn't name, may they be aggregates. A call is judged by its name and its number of arguments: of all functions that it could
 * mean, the worst counts. One that the catalogue doesn't know is the worst of all.
 * Operators and explicit casts are calls as well, where what they run isn't Postgres' own.
 *
 * Not seen from here: implicit casts, and the functions of types, domains and operator classes of an application's own. That there are
 * such is known (`runsUnseen`).
 */
import type { FuncCall } from '@pgsql/types';

export interface FunctionForm {
  readonly minArguments: number;
  /** Infinity where the last is VARIADIC. */
  readonly maxArguments: number;
  readonly volatility: 'immutable' | 'stable' | 'volatile';
  /** Procedures count as functions. */
  readonly kind: 'function' | 'aggregate' | 'window';
  /** Reads no table, but for what is in its name's list below: Postgres' own, and immutable ones in C. */
  readonly isSelfContained: boolean;
  /** Its first argument is a row of a table's type, so that `orders.total_of` may be a call of it. */
  readonly takesRow: boolean;
  /** Postgres' own, or as good as that: nobody but a superuser can have made it. */
  readonly isShipped: boolean;
}

/**
 * `name` is that of an operator or of a type (that it is cast to) for the next two kinds. 'unseen': there are functions that aren't
 * shipped and run though no statement names them.
 */
export interface FunctionRow {
  readonly what: 'function' | 'operator' | 'cast' | 'unseen';
  readonly schema: string;
  readonly name: string;
  readonly forms: readonly FunctionForm[];
}

/** What of a call matters to the planner. */
export interface Judgement {
  readonly isVolatile: boolean;
  /** It may read any table. */
  readonly isForeign: boolean;
  readonly mayAggregate: boolean;
  /** Only what comes with Postgres runs, so that nothing else than what it is known to do is done. */
  readonly isShipped: boolean;
}

/**
 * Of Postgres' own: those that run a query, or read a table, that an argument names ("XML Functions", "Text Search Functions").
 * Nothing in the catalogue tells them from others.
 */
const readingArguments =
  /^(query|cursor|table|schema|database)_to_xml(schema)?$|_to_xml_and_xmlschema$|^ts_stat$|^ts_rewrite$/;

const unknown: Judgement = { isVolatile: true, isForeign: true, mayAggregate: true, isShipped: false };

export const worst = (one: Judgement | undefined, other: Judgement): Judgement => ({
  isVolatile: one?.isVolatile === true || other.isVolatile,
  isForeign: one?.isForeign === true || other.isForeign,
  mayAggregate: one?.mayAggregate === true || other.mayAggregate,
  isShipped: one?.isShipped !== false && other.isShipped,
});

export class FunctionCatalogue {
  readonly #functions = new Map<string, FunctionRow[]>();
  readonly #operators = new Map<string, FunctionRow[]>();
  readonly #casts = new Map<string, FunctionRow[]>();
  readonly #ofRows = new Set<string>();
  /** Statements may run functions that aren't shipped, though they don't name them. */
  readonly runsUnseen: boolean;

  constructor(rows: Iterable<FunctionRow>) {
    const maps = { function: this.#functions, operator: this.#operators, cast: this.#casts };
    let runsUnseen = false;
    for (const row of rows) {
      if (row.what === 'unseen') {
        runsUnseen = true;
        continue;
      }
      const known = maps[row.what].get(row.name);
      if (known === undefined) maps[row.what].set(row.name, [row]);
      else known.push(row);
      if (row.forms.some(({ takesRow }) => takesRow)) this.#ofRows.add(row.name);
    }
    this.runsUnseen = runsUnseen;
  }

  ofCall(call: FuncCall): Judgement {
    const names = namesOf(call.funcname);
    const schema = names.length > 1 ? names.at(-2) : undefined;
    const count = (call.args ?? []).length + (call.agg_within_group === true ? (call.agg_order ?? []).length : 0);
    return this.#judge(this.#functions, names.at(-1) ?? '', schema, call.func_variadic === true ? undefined : count);
  }

  /** `table.name` where that may be a call of `name`; undefined where it can't ("Function Calls": functional notation). */
  ofAttribute(name: string): Judgement | undefined {
    return this.#ofRows.has(name) ? this.#judge(this.#functions, name, undefined, 1) : undefined;
  }

  /** Undefined for Postgres' own. */
  ofOperator(names: readonly string[]): Judgement | undefined {
    return this.#other(this.#operators, names);
  }

  ofCast(typeNames: readonly string[]): Judgement | undefined {
    return this.#other(this.#casts, typeNames);
  }

  #other(map: ReadonlyMap<string, FunctionRow[]>, names: readonly string[]): Judgement | undefined {
    const name = names.at(-1) ?? '';
    if (!map.has(name) || (names.length > 1 && names.at(-2) === 'pg_catalog')) return undefined;
    return this.#judge(map, name, undefined, undefined);
  }

  /** `count` undefined: any. Whichever schema a name without one means: the search path may be anything. */
  #judge(
    map: ReadonlyMap<string, FunctionRow[]>,
    name: string,
    schema: string | undefined,
    count: number | undefined,
  ): Judgement {
    const rows = (map.get(name) ?? []).filter((row) => schema === undefined || row.schema === schema);
    const forms = rows
      .flatMap((row) => row.forms)
      .filter((form) => count === undefined || (form.minArguments <= count && count <= form.maxArguments));
    if (forms.length === 0) return unknown;
    return {
      isVolatile: forms.some(({ volatility }) => volatility === 'volatile'),
      isForeign: readingArguments.test(name) || forms.some(({ isSelfContained }) => !isSelfContained),
      mayAggregate: forms.some(({ kind }) => kind !== 'function'),
      isShipped: forms.every(({ isShipped }) => isShipped),
    };
  }
}

export const namesOf = (parts: readonly object[] | undefined): string[] =>
  (parts ?? []).map((part) => ('String' in part ? ((part.String as { sval?: string }).sval ?? '') : ''));

/** The function's name without its schema. */
export const functionName = (call: FuncCall): string => namesOf(call.funcname).at(-1) ?? '';
