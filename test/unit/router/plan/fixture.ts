/** A catalogue of the commerce kind, and one planner for all tests of a file. */
import { type Catalogue, createPlanner, type StatementPlan } from '#router/plan/index.ts';
import { functionsWith } from './golden/functions.ts';

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
    ...['busy', 'totals', 'ranked', 'largest', 'deeper', 'booked', 'odd'].map(
      (view) => [`public.${view}`, 'tenant'] as const,
    ),
    ['public.codes', 'reference'],
  ]),
  views: new Map([
    ['public.busy', 'SELECT orders.tenant_id, orders.total AS n FROM public.orders WHERE orders.total > 0'],
    ['public.totals', 'SELECT orders.tenant_id, count(*) AS n FROM public.orders GROUP BY orders.tenant_id'],
    ['public.ranked', 'SELECT orders.tenant_id, rank() OVER (ORDER BY orders.total) AS place FROM public.orders'],
    ['public.largest', 'SELECT max(stock.tenant_id) AS tenant_id FROM public.stock'],
    ['public.deeper', 'SELECT b.tenant_id AS t, c.code FROM public.busy b CROSS JOIN public.currencies c'],
    ['public.booked', 'SELECT orders.tenant_id, public.book_order(1) AS b FROM public.orders'],
    ['public.codes', 'SELECT currencies.code FROM public.currencies'],
    ['public.odd', 'SELECT nonsense of another version'],
  ]),
  functions: functionsWith(
    ['function', 'public', 'book_order', '1,1,v,f,f,f'],
    ['function', 'public', 'order_total', '1,1,s,f,f,f'],
    ['function', 'public', 'total_of', '1,1,s,f,f,t'],
    ['function', 'public', 'round_up', '1,1,i,f,t,f 2,3,v,f,f,f'],
    ['function', 'public', 'my_aggregate', '1,1,i,a,t,f'],
    ['operator', 'public', '<<<', '1,2,v,f,f,f'],
    ['operator', 'public', '~~~', '1,2,i,f,t,f'],
    ['cast', 'public', 'money_of_ours', '1,1,s,f,f,f'],
  ),
  volatileFunctions: new Set(['book_order', 'round_up']),
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
