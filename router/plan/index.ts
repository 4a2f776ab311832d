/** Planning of SQL: everything that the rest of the router imports about it. */
export { parseHints } from './hints.ts';
export { createPlanner } from './planner.ts';
export { clientSettings, guardSetting } from './settings.ts';
export {
  type Catalogue,
  type Hints,
  PlanError,
  type Planner,
  type Refusal,
  type StatementKind,
  type StatementPlan,
  type TableKind,
  type TenantSource,
  type TransactionVerb,
} from './types.ts';
