/**
 * The part of a Keyspace that says what its tables are: migrations and reference tables, and how names are spelled.
 */
import { z } from 'zod';
import { mapOf, setOf } from './list.ts';
import { ruled } from './rule.ts';

const identifierForm = /^[a-z_][a-z0-9_]*$/;
const identifierMessage =
  'is lower-case letters, digits and _, starting with a letter or _ (so that it needs no quotes)';

export const isIdentifier = (text: string): boolean => text.length <= 63 && identifierForm.test(text);

export const databaseNameMessage =
  "the keyspace's name would give a database that Postgres itself has: set spec.database, or choose another name";

/** A Postgres identifier that needs no quotes, 63 bytes at most (NAMEDATALEN - 1). */
export const identifier = (what: string) =>
  ruled(z.string().min(1).max(63), {
    cel: `self.matches('${identifierForm.source}')`,
    message: `${what} ${identifierMessage}`,
    holds: isIdentifier,
  });

const tableForm = /^([a-z_][a-z0-9_]*\.)?[a-z_][a-z0-9_]*$/;

/** A table, as name or schema.name. */
export const tableName = () =>
  ruled(z.string().min(1).max(127), {
    cel: `self.matches('${tableForm.source.replaceAll('\\', '\\\\')}')`,
    message: 'a table is name or schema.name, in lower-case letters, digits and _',
    holds: (name) => tableForm.test(name),
  });

/** The one spelling of a table's name: with its schema, which is public where none was given. */
export const qualified = (table: string): string => (table.includes('.') ? table : `public.${table}`);

export const referenceTables = ruled(
  setOf(tableName(), 200),
  {
    cel: "self.all(t, t.contains('.') || !(('public.' + t) in self))",
    message: 'a reference table is listed twice, with and without its schema public: keep one',
    holds: (tables) => new Set(tables.map(qualified)).size === tables.length,
  },
  {
    cel: "self.all(t, !t.startsWith('meridian.') && !t.startsWith('pg_catalog.') && !t.startsWith('information_schema.'))",
    message: 'the schemas meridian, pg_catalog and information_schema are not yours to declare',
    holds: (tables) => !tables.some((table) => /^(meridian|pg_catalog|information_schema)\./.test(table)),
  },
);

const migration = ruled(
  z.strictObject({
    name: z
      .string()
      .min(1)
      .max(100)
      .regex(/^[a-z0-9][a-z0-9._-]*$/)
      .describe('Name of the migration, under which it is recorded on every shard, such as 0001-products.'),
    sql: z.string().min(1).max(131_072).optional().describe('The SQL, inline. 128 Ki characters at most.'),
    configMapKeyRef: z
      .strictObject({
        name: z
          .string()
          .min(1)
          .max(253)
          .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/)
          .describe('Name of the ConfigMap, in the namespace of the keyspace.'),
        key: z
          .string()
          .min(1)
          .max(253)
          .regex(/^[-._a-zA-Z0-9]+$/)
          .describe('Key in that ConfigMap whose value is the SQL.'),
      })
      .optional()
      .describe('Where the SQL is kept, instead of inline.'),
  }),
  {
    cel: 'has(self.sql) != has(self.configMapKeyRef)',
    message: 'a migration has its SQL in exactly one place: sql or configMapKeyRef',
    holds: ({ sql, configMapKeyRef }) => (sql === undefined) !== (configMapKeyRef === undefined),
  },
);

const ascending = (names: readonly string[]): boolean =>
  names.every((name, index) => index === 0 || (names[index - 1] ?? '') < name);

export const migrations = ruled(mapOf(migration, 'name', 500), {
  cel: 'self.all(i, m, i == 0 || self[i - 1].name < m.name)',
  message: 'migrations run in the order of their names: list them in that order (0001-..., 0002-...)',
  holds: (list) => ascending(list.map(({ name }) => name)),
});
