/**
 * Names of tables as a keyspace declares them: `table` means `public.table`.
 */
export const qualifiedName = (schema: string, name: string): string => `${schema}.${name}`;

export interface TableName {
  readonly schema: string;
  readonly name: string;
}

export function parseTableName(declared: string): TableName {
  const dot = declared.indexOf('.');
  return dot === -1
    ? { schema: 'public', name: declared }
    : { schema: declared.slice(0, dot), name: declared.slice(dot + 1) };
}
