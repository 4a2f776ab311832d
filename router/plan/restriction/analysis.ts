/**
 * What one analysis of a statement gathers: every place where a tenant-owned table is read or written, with the keys to
 * which it is restricted there. Names of tables are resolved here; conditions in `conditions.ts`.
 */
import type { RangeVar, SelectStmt } from '@pgsql/types';
import type { Catalogue, TableKind } from '../types.ts';
import { type Facts, KeyColumn, type KeySet } from './terms.ts';

/** What a relation name means where it isn't that of a common table expression. */
export type Relation =
  | { readonly kind: TableKind; readonly name: string }
  /** pg_catalog and information_schema. */
  | { readonly kind: 'system' }
  /** Not in the catalogue: a view, a temporary table, a new table. */
  | { readonly kind: 'undeclared'; readonly name: string };

export interface Occurrence {
  readonly table: string;
  /** Undefined: not restricted here. */
  readonly keys: KeySet | undefined;
  /** Why not, where more can be said than that nothing restricts it. */
  readonly reason?: string | undefined;
}

/** The query of a view by its name with its schema. */
export type ViewQuery = (name: string) => SelectStmt | undefined;

/** Views in views count each time that they are looked into: the work per statement stays bounded. */
const maxViews = 100;

export class Analysis {
  readonly catalogue: Catalogue;
  readonly occurrences: Occurrence[] = [];
  /** Every mention of a relation that was understood. */
  readonly visited = new Set<RangeVar>();
  /** Those of them that name a common table expression. */
  readonly ctes = new Set<RangeVar>();
  /** Every key column met so far, in the order in which tables were bound. */
  readonly keyColumns: KeyColumn[] = [];
  /** How often the second part of a recursive query was bound again. */
  secondLooks = 0;
  /** Reasons for which nothing can be concluded, however the tables are restricted. */
  readonly doubts: string[] = [];

  /** How many views were looked into. */
  #viewCount = 0;
  readonly #viewQuery: ViewQuery;

  constructor(catalogue: Catalogue, viewQuery: ViewQuery) {
    this.catalogue = catalogue;
    this.#viewQuery = viewQuery;
  }

  isView({ name }: { readonly name: string }): boolean {
    return this.catalogue.views.has(name);
  }

  /** The query of a view; undefined where it isn't known, or too many were looked into already: then nothing is concluded. */
  viewQuery({ name }: { readonly name: string }): SelectStmt | undefined {
    this.#viewCount += 1;
    const query = this.#viewCount > maxViews ? undefined : this.#viewQuery(name);
    if (query === undefined) this.doubts.push(`what view "${name}" reads is not known`);
    return query;
  }

  get tenantColumn(): string {
    return this.catalogue.tenantColumn;
  }

  relation(mention: RangeVar): Relation {
    return relationOf(this.catalogue, mention);
  }

  keyColumn(table: string): KeyColumn {
    const column = new KeyColumn(table);
    this.keyColumns.push(column);
    return column;
  }

  /** The key column of a tenant-owned table is met at a place where these facts hold. */
  restricted(column: KeyColumn, facts: Facts): void {
    this.occurrences.push({ table: column.table, keys: facts.keysOf(column) });
  }
}

/**
 * pg_catalog is searched before anything on the path, so that an unqualified `pg_...` is a system table, unless the
 * catalogue has one of that name: then it counts as that, which can only be stricter.
 */
export function relationOf(catalogue: Catalogue, { schemaname, relname = '' }: RangeVar): Relation {
  if (schemaname === 'pg_catalog' || schemaname === 'information_schema' || schemaname === 'pg_toast')
    return { kind: 'system' };
  const schemas = schemaname === undefined || schemaname === '' ? catalogue.searchPath : [schemaname];
  for (const schema of schemas) {
    const name = `${schema}.${relname}`;
    const kind = catalogue.tables.get(name);
    if (kind !== undefined) return { kind, name };
  }
  if (schemaname === undefined && relname.startsWith('pg_')) return { kind: 'system' };
  return { kind: 'undeclared', name: schemaname === undefined ? relname : `${schemaname}.${relname}` };
}
