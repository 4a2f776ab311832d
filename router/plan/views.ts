/**
 * Views as what they are: queries. A condition on a view reaches the tables below it as far as it would reach into the same query in
 * FROM, and what a view calls, the statement calls. Their text is that of pg_get_viewdef() under an empty search path, so that
 * it means the same whatever a session's is.
 */
import type { SelectStmt } from '@pgsql/types';
import { worst } from './functions.ts';
import { type Inventory, takeInventory } from './inventory.ts';
import type { Parser } from './parser.ts';
import { relationOf } from './restriction/analysis.ts';
import { type Catalogue, PlanError } from './types.ts';

export interface View {
  readonly select: SelectStmt;
  readonly inventory: Inventory;
}

export class Views {
  readonly #parser: Parser;
  /** By the catalogue's views, so that they go with it; undefined for what can't be read. */
  readonly #known = new WeakMap<Catalogue['views'], Map<string, View | undefined>>();

  constructor(parser: Parser) {
    this.#parser = parser;
  }

  /** `name` with its schema. Undefined where it is no view, or its definition is none that this grammar knows. */
  find(name: string, { views, functions }: Catalogue): View | undefined {
    const text = views.get(name);
    if (text === undefined) return undefined;
    let known = this.#known.get(views);
    if (known === undefined) this.#known.set(views, (known = new Map()));
    if (!known.has(name)) known.set(name, this.#read(text, functions));
    return known.get(name);
  }

  /** With everything that is in the views, and the views below them. */
  expanded(inventory: Inventory, catalogue: Catalogue): Inventory {
    const seen = new Set<string>();
    const add = (from: Inventory, to: Inventory): Inventory => {
      let all = to;
      for (const mention of from.mentions) {
        const relation = relationOf(catalogue, mention);
        if (!('name' in relation) || seen.has(relation.name)) continue;
        const view = this.find(relation.name, catalogue);
        if (view === undefined) continue;
        seen.add(relation.name);
        all = add(view.inventory, both(all, view.inventory));
      }
      return all;
    };
    return catalogue.views.size === 0 ? inventory : add(inventory, inventory);
  }

  #read(text: string, functions: Catalogue['functions']): View | undefined {
    try {
      const [only] = this.#parser.parse(text).stmts ?? [];
      if (only?.stmt === undefined || !('SelectStmt' in only.stmt)) return undefined;
      return { select: only.stmt.SelectStmt, inventory: takeInventory(only.stmt, functions) };
    } catch (error) {
      if (error instanceof PlanError) return undefined;
      throw error;
    }
  }
}

const both = (one: Inventory, other: Inventory): Inventory => ({
  ...one,
  mentions: new Set([...one.mentions, ...other.mentions]),
  called: calledByBoth(one.called, other.called),
  hasRowLocks: one.hasRowLocks || other.hasRowLocks,
});

function calledByBoth(one: Inventory['called'], other: Inventory['called']): Inventory['called'] {
  const all = new Map(one);
  for (const [name, judgement] of other) all.set(name, worst(all.get(name), judgement));
  return all;
}
