/**
 * What is known about a tenant key column: equalities between key columns and sets of constants or parameters.
 * Invariant: a link is only ever made from an equality that every row which can matter must satisfy (`query.ts` says why
 * at each place); so following links can only miss a restriction, never invent one.
 */
import { needValue } from '../literals.ts';

/**
 * A finite set of keys: constants, parameters by their number from 1, and constants whose value isn't looked at (`literals.ts`), by their
 * reference. All sorted, each once.
 */
export interface KeySet {
  readonly indexes: readonly number[];
  readonly values: readonly string[];
  readonly literals: readonly number[];
}

/** The tenant key column of one occurrence of one table. Compared by identity. */
export class KeyColumn {
  readonly table: string;
  constructor(table: string) {
    this.table = table;
  }
}

export type Term =
  | { readonly kind: 'column'; readonly column: KeyColumn }
  | { readonly kind: 'set'; readonly keys: KeySet };

/** The column equals the other column, or one of the keys. */
export interface Link {
  readonly column: KeyColumn;
  readonly to: Term;
}

/**
 * Links that hold for a row as soon as one of these columns isn't NULL in it: what an outer join's condition says of the
 * side that it fills with NULLs. Any other link that mentions such a column shows that it isn't NULL.
 */
export interface Conditional {
  readonly columns: ReadonlySet<KeyColumn>;
  readonly links: readonly Link[];
}

/** The links, and those of the conditionals that they bring into force. */
export function inForce(links: readonly Link[], conditionals: readonly Conditional[]): readonly Link[] {
  if (conditionals.length === 0) return links;
  const all = [...links];
  const mentioned = new Set<KeyColumn>();
  const mention = (some: readonly Link[]): void => {
    for (const { column, to } of some) {
      mentioned.add(column);
      if (to.kind === 'column') mentioned.add(to.column);
    }
  };
  mention(links);
  let pending = conditionals;
  for (;;) {
    // Later joins usually mention earlier ones, so that one pass from the end brings all into force.
    const waiting = pending.toReversed().filter((conditional) => {
      if (![...conditional.columns].some((column) => mentioned.has(column))) return true;
      all.push(...conditional.links);
      mention(conditional.links);
      return false;
    });
    if (waiting.length === pending.length || waiting.length === 0) return all;
    pending = waiting.toReversed();
  }
}

export function keySet(
  indexes: readonly number[],
  values: readonly string[],
  literals: readonly number[] = [],
): KeySet {
  return {
    indexes: [...new Set(indexes)].toSorted((a, b) => a - b),
    values: [...new Set(values)].toSorted(),
    literals: [...new Set(literals)].toSorted((a, b) => a - b),
  };
}

export const unionOfKeys = (sets: readonly KeySet[]): KeySet =>
  keySet(
    sets.flatMap(({ indexes }) => indexes),
    sets.flatMap(({ values }) => values),
    sets.flatMap(({ literals }) => literals),
  );

export const sizeOf = ({ indexes, values, literals }: KeySet): number =>
  indexes.length + values.length + literals.length;

export function isSubset(inner: KeySet, outer: KeySet): boolean {
  const isSo = isWithin(inner, outer);
  // Different constants may have the same value.
  if (!isSo && inner.literals.length + outer.literals.length > 0) needValue();
  return isSo;
}

const isWithin = (inner: KeySet, outer: KeySet): boolean =>
  inner.indexes.every((index) => outer.indexes.includes(index)) &&
  inner.values.every((value) => outer.values.includes(value)) &&
  inner.literals.every((literal) => outer.literals.includes(literal));

export const identityOf = ({ indexes, values, literals }: KeySet): string =>
  JSON.stringify([indexes, values, literals]);

/** The links that hold at one place of a statement: its own and those of the places around it. */
export class Facts {
  readonly #links: readonly Link[];
  readonly #outer: Facts | undefined;
  #keys: ReadonlyMap<KeyColumn, KeySet> | undefined;

  constructor(links: readonly Link[], outer?: Facts) {
    this.#links = links;
    this.#outer = outer;
  }

  with(links: readonly Link[]): Facts {
    return links.length === 0 ? this : new Facts(links, this);
  }

  /** The keys to which the column is restricted; undefined where it isn't. */
  keysOf(column: KeyColumn): KeySet | undefined {
    this.#keys ??= this.#solve();
    return this.#keys.get(column);
  }

  #all(): (readonly Link[])[] {
    const all: (readonly Link[])[] = [this.#links];
    for (let facts = this.#outer; facts !== undefined; facts = facts.#outer) all.push(facts.#links);
    return all;
  }

  /** Columns that equal each other share the smallest set that any of them is restricted to. */
  #solve(): ReadonlyMap<KeyColumn, KeySet> {
    const parent = new Map<KeyColumn, KeyColumn>();
    const find = (column: KeyColumn): KeyColumn => {
      let root = column;
      for (let next = parent.get(root); next !== undefined && next !== root; next = parent.get(root)) root = next;
      for (let at = column; at !== root; ) {
        const next = parent.get(at) ?? root;
        parent.set(at, root);
        at = next;
      }
      return root;
    };
    const restrictions: { column: KeyColumn; keys: KeySet }[] = [];
    const columns = new Set<KeyColumn>();
    for (const links of this.#all()) {
      for (const { column, to } of links) {
        columns.add(column);
        if (to.kind === 'set') restrictions.push({ column, keys: to.keys });
        else {
          columns.add(to.column);
          parent.set(find(column), find(to.column));
        }
      }
    }
    const best = new Map<KeyColumn, KeySet>();
    for (const { column, keys } of restrictions) {
      const root = find(column);
      const known = best.get(root);
      // Which of them is smaller may depend on what they are.
      if (known !== undefined && keys.literals.length + known.literals.length > 2) needValue();
      if (known === undefined || isBetter(keys, known)) best.set(root, keys);
    }
    const solved = new Map<KeyColumn, KeySet>();
    for (const column of columns) {
      const keys = best.get(find(column));
      if (keys !== undefined) solved.set(column, keys);
    }
    return solved;
  }
}

/** Fewer keys, then constants rather than parameters: known when the statement is parsed. */
const isBetter = (one: KeySet, other: KeySet): boolean =>
  sizeOf(one) !== sizeOf(other) ? sizeOf(one) < sizeOf(other) : one.indexes.length < other.indexes.length;
