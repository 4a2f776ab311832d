/**
 * Which column a name means, as Postgres resolves it: nearest query first, aliases hide table names, and a name that
 * several tables have is ambiguous (an error there, unknown here).
 * Source: PostgreSQL documentation, "Table Expressions" and "Column References"; parser/parse_relation.c.
 */
import type { Term } from './terms.ts';

/** `unknown`: there may be such a column, but nothing is known of it. `absent`: surely there is none. */
export type Found = Term | 'unknown' | 'absent';

/** Columns that one item of a FROM clause provides. */
export interface Columns {
  find(name: string): Found;
}

/** Columns of which nothing is known. */
export const opaque: Columns = { find: () => 'unknown' };

/** Columns of a derived table, by name. `isComplete`: there are no others. */
export class DerivedColumns implements Columns {
  readonly #byName = new Map<string, Term | 'unknown'>();
  readonly #isComplete: boolean;

  constructor(columns: readonly { readonly name: string; readonly term: Term | undefined }[], isComplete: boolean) {
    this.#isComplete = isComplete;
    for (const { name, term } of columns)
      this.#byName.set(name, this.#byName.has(name) ? 'unknown' : (term ?? 'unknown'));
  }

  find(name: string): Found {
    return this.#byName.get(name) ?? (this.#isComplete ? 'absent' : 'unknown');
  }
}

/**
 * Columns that are found by looking further in, each name once: a chain of queries that each use the one before twice would
 * take twice the time with every link.
 */
export function remembered(find: (name: string) => Found): Columns {
  const known = new Map<string, Found>();
  return {
    find(name) {
      let found = known.get(name);
      if (found === undefined) known.set(name, (found = find(name)));
      return found;
    },
  };
}

/**
 * The columns of an item of FROM, which an outer join around it may fill with NULLs: a column of a derived table that holds
 * certain keys then no longer does. (A key column of a table says nothing by itself, so that it stays what it is.)
 */
export class ItemColumns implements Columns {
  readonly #columns: Columns;
  #mayBeNull = false;

  constructor(columns: Columns) {
    this.#columns = columns;
  }

  fillWithNulls(): void {
    this.#mayBeNull = true;
  }

  find(name: string): Found {
    const found = this.#columns.find(name);
    return this.#mayBeNull && typeof found === 'object' && found.kind === 'set' ? 'unknown' : found;
  }
}

/** Unqualified look-up among several items. */
export function findAmong(items: readonly Columns[], name: string): Found {
  const found = items.map((item) => item.find(name));
  const known = found.filter((one): one is Term => typeof one === 'object');
  if (known.length === 1 && known[0] !== undefined) return known[0];
  return known.length === 0 && found.every((one) => one === 'absent') ? 'absent' : 'unknown';
}

/** One query level. */
export class Scope {
  readonly outer: Scope | undefined;
  /** What a column name without a table may mean. */
  items: Columns[] = [];
  readonly #byAlias = new Map<string, Columns>();
  #hidesOuterNames = false;

  constructor(outer: Scope | undefined) {
    this.outer = outer;
  }

  name(alias: string, columns: Columns): void {
    this.#byAlias.set(alias, this.#byAlias.has(alias) ? opaque : columns);
  }

  /** Some item here has a name that isn't known: what isn't found here may be that, and isn't looked for further out. */
  hideOuterNames(): this {
    this.#hidesOuterNames = true;
    return this;
  }

  columnsOf(alias: string): Columns {
    return this.#byAlias.get(alias) ?? (this.#hidesOuterNames ? opaque : (this.outer?.columnsOf(alias) ?? opaque));
  }

  /** The term for a column reference, as its dotted names; undefined where nothing is known. */
  term(names: readonly string[]): Term | undefined {
    const column = names.at(-1);
    const alias = names.at(-2);
    if (column === undefined) return undefined;
    const found = alias === undefined ? this.#unqualified(column) : this.columnsOf(alias).find(column);
    return typeof found === 'object' ? found : undefined;
  }

  #unqualified(column: string): Found {
    const found = findAmong(this.items, column);
    if (found !== 'absent' || this.#hidesOuterNames || this.outer === undefined) return found;
    return this.outer.#unqualified(column);
  }
}
