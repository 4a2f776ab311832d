/**
 * Measures what runs on a connection of its own, for what is known of plans that may share one: how long from its being sent to its
 * ReadyForQuery, and how much it answered.
 */
import type { StatementPlan } from '../plan/types.ts';
import type { PlanCosts } from './plan-cost.ts';
import type { Progress } from './progress.ts';

export class CostWatch {
  readonly #costs: PlanCosts;
  #progress: Progress | undefined;
  #sinceMs = 0;
  bytes = 0;

  constructor(costs: PlanCosts) {
    this.#costs = costs;
  }

  begin(progress: Progress): void {
    this.#progress = progress;
    this.#sinceMs = performance.now();
    this.bytes = 0;
  }

  end(plans: readonly (StatementPlan | undefined)[]): void {
    const progress = this.#progress;
    if (progress === undefined) return;
    this.#progress = undefined;
    progress.answered();
    const nowMs = performance.now();
    const micros = (nowMs - this.#sinceMs) * 1_000;
    progress.tally.queryMicros += micros;
    const [only] = plans;
    if (plans.length !== 1 || only?.mayShare !== true) return;
    this.#costs.of(only).noteAlone(micros, this.bytes, nowMs);
  }
}
