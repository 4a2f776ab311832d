/** A catalogue of the commerce kind, and one planner for all tests of a file. */
import { type Catalogue, createPlanner, type StatementPlan } from '#router/plan/index.ts';

export const catalogue: Catalogue = {
  version: 1,
  tenantColumn: 'tenant_id',
  searchPath: ['public'],
  tables: new Map([
    ['public.products', 'tenant'],
    ['public.stock', 'tenant'],
    ['public.orders', 'tenant'],
    ['public.order_lines', 'tenant'],
    ['sales.orders', 'tenant'],
    ['public.currencies', 'reference'],
    ['public.schema_history', 'local'],
  ]),
  volatileFunctions: new Set(['book_order']),
};

const planner = await createPlanner();

export const plans = (sql: string, other: Partial<Catalogue> = {}): StatementPlan[] =>
  planner.plan(sql, { ...catalogue, ...other });

/** The plan of a text with one statement. */
export function plan(sql: string, other: Partial<Catalogue> = {}): StatementPlan {
  const [only, ...more] = plans(sql, other);
  if (only === undefined || more.length > 0) throw new Error(`not one statement: ${sql}`);
  return only;
}
