/**
 * Plans by statement text, bounded in bytes: parsing takes tens of microseconds, a hit none. A plan depends on the catalogue's
 * version and the search path as well, and on nothing else.
 */
import { LRUCache } from 'lru-cache';
import type { Catalogue, Hints, Planner, StatementPlan } from '../plan/types.ts';

export interface PlannedStatement {
  readonly plan: StatementPlan;
  /** Of the comment at the start of this very statement. */
  readonly hints: Hints;
}

/** What a plan weighs besides its text, roughly. */
const planOverheadBytes = 1_024;

export class PlanCache {
  readonly #planner: Planner;
  readonly #cache: LRUCache<string, readonly PlannedStatement[]>;

  constructor(planner: Planner, maxBytes = 32 * 1024 * 1024) {
    this.#planner = planner;
    this.#cache = new LRUCache({
      maxSize: maxBytes,
      sizeCalculation: (_planned, key) => key.length * 4 + planOverheadBytes,
    });
  }

  /** @throws PlanError on a syntax error; those aren't kept. */
  plan(sql: string, catalogue: Catalogue): readonly PlannedStatement[] {
    const key = `${catalogue.version}\0${catalogue.searchPath.join(',')}\0${sql}`;
    const known = this.#cache.get(key);
    if (known !== undefined) return known;
    const planned = this.#planner.plan(sql, catalogue).map((plan, index) => ({
      plan,
      hints: this.#planner.parseHints(index === 0 ? sql : plan.text),
    }));
    this.#cache.set(key, planned);
    return planned;
  }
}
