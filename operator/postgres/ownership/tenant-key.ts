/**
 * What a keyspace's tenant key is: one column name and one type for every tenant table.
 */
export const tenantKeyTypes = ['text', 'uuid', 'bigint', 'integer'] as const;
export type TenantKeyType = (typeof tenantKeyTypes)[number];

export interface TenantKey {
  /** The column that every tenant table has. */
  readonly column: string;
  readonly type: TenantKeyType;
}

/** The type's qualified name, which no search_path changes; `bigint` and `integer` are words of the grammar only. */
export function catalogType(key: TenantKey): string {
  const names = { text: 'text', uuid: 'uuid', bigint: 'int8', integer: 'int4' } as const;
  return `pg_catalog.${names[key.type]}`;
}
