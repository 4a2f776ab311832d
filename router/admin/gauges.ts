/**
 * Prometheus metrics out of the tables of SHOW, by the columns that say that they are one: `pools_sv_idle{user="...",member="..."}`.
 * Tenants aren't among them: whoever may scrape need not know who they are, and they are too many. Roles are.
 */
import type { Column, Table } from './table.ts';

/** Pools beyond this many have no metrics: each would be a time series for each column. */
const maxRows = 1_000;

export function gaugesOf(name: string, { columns, rows }: Table): Record<string, number> {
  const gauges: Record<string, number> = {};
  for (const row of rows.slice(0, maxRows)) {
    const labels = columns.flatMap((column, index) =>
      column.metric === 'label' ? [`${column.name}="${escaped(String(row[index] ?? ''))}"`] : [],
    );
    for (const [index, column] of columns.entries())
      if (isMetric(column)) gauges[`${name}_${column.name}{${labels.join(',')}}`] = Number(row[index]);
  }
  return gauges;
}

const isMetric = ({ metric }: Column): boolean => metric === 'gauge' || metric === 'counter';

const escaped = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');

/** What HELP and TYPE say of each. */
export const described = (name: string, columns: readonly Column[]): [string, { type: string; help: string }][] =>
  columns.flatMap((column) =>
    isMetric(column) ? [[`${name}_${column.name}`, { type: column.metric ?? 'gauge', help: column.help ?? '' }]] : [],
  );
