/**
 * What psql and drivers ask of the catalogue touches no table of a tenant, so that it works with no tenant named.
 * `golden/psql.sql` is what `psql -E` shows for its backslash commands; those of drivers are from their sources.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { plan } from './fixture.ts';

const psql = readFileSync(new URL('golden/psql.sql', import.meta.url), 'utf8')
  .split('\n--------\n')
  .map((query) => query.replace(/^-- .*\n/, ''));

const drivers: readonly string[] = [
  // node-postgres, postgres.js
  "select b.oid, b.typarray from pg_catalog.pg_type a left join pg_catalog.pg_type b on b.oid = a.typelem where a.typcategory = 'A' group by b.oid, b.typarray order by b.oid",
  // pgjdbc
  'SET extra_float_digits = 3',
  "SET application_name = 'PostgreSQL JDBC Driver'",
  'SHOW TRANSACTION ISOLATION LEVEL',
  "SELECT current_schema(), session_user, pg_catalog.current_setting('server_version_num')",
  'SELECT n.nspname = ANY(current_schemas(true)), n.nspname, t.typname FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON t.typnamespace = n.oid WHERE t.oid = $1',
  "SELECT typinput='pg_catalog.array_in'::regproc as is_array, typtype, typname, pg_type.oid FROM pg_catalog.pg_type LEFT JOIN (select ns.oid as nspoid, ns.nspname, r.r from pg_namespace as ns join ( select s.r, (current_schemas(false))[s.r] as nspname from generate_series(1, array_upper(current_schemas(false), 1)) as s(r) ) as r using ( nspname )) as sp ON sp.nspoid = typnamespace WHERE typname = $1 ORDER BY sp.r, pg_type.oid DESC",
  // asyncpg
  `WITH RECURSIVE typeinfo_tree(oid, ns, name, kind, basetype, elemtype, elemdelim, depth) AS (
     SELECT ti.oid, ti.ns, ti.name, ti.kind, ti.basetype, ti.elemtype, ti.elemdelim, 0
     FROM (SELECT t.oid, n.nspname AS ns, t.typname AS name, t.typtype AS kind, t.typbasetype AS basetype, t.typelem AS elemtype, t.typdelim AS elemdelim
           FROM pg_catalog.pg_type AS t INNER JOIN pg_catalog.pg_namespace AS n ON (n.oid = t.typnamespace)) AS ti
     WHERE ti.oid = any($1::oid[])
     UNION ALL
     SELECT ti.oid, ti.typname::text, ti.typname, ti.typtype, ti.typbasetype, ti.typelem, ti.typdelim, tt.depth + 1
     FROM pg_type ti, typeinfo_tree tt WHERE (tt.elemtype IS NOT NULL AND ti.oid = tt.elemtype))
   SELECT DISTINCT *, basetype::regtype::text AS basetype_name FROM typeinfo_tree ORDER BY depth DESC`,
  'CLOSE ALL',
  'UNLISTEN *',
  'RESET ALL',
  // psycopg, SQLAlchemy, Npgsql
  'select pg_catalog.version()',
  'show standard_conforming_strings',
  "select relname from pg_class c join pg_namespace n on n.oid=c.relnamespace where pg_catalog.pg_table_is_visible(c.oid) and relname='orders'",
  "SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid FROM (SELECT typ.oid, typ.typnamespace, typ.typname, typ.typtype, typ.typrelid, typ.typnotnull, CASE WHEN proc.proname='array_recv' THEN typ.typelem END AS elemtypoid FROM pg_type AS typ LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid) LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive) AS t JOIN pg_namespace AS ns ON (ns.oid = typnamespace) ORDER BY 1",
  // pg_dump of a tenant's tables
  "SELECT set_config('search_path', '', false)",
  'SET row_security = on',
  'BEGIN',
  'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY',
  'SELECT oid, rolname FROM pg_catalog.pg_roles ORDER BY 1',
  // Kysely, Prisma
  'select table_name from information_schema.tables where table_schema = current_schema()',
];

test('there are psql queries to try', () => assert.ok(psql.length > 20));

for (const sql of [...psql, ...drivers]) {
  test(`touches no table: ${sql.replaceAll(/\s+/g, ' ').slice(0, 90)}`, () => {
    const { touches, tenant, refuse } = plan(sql);
    assert.deepEqual([touches, tenant, refuse], ['nothing', { from: 'none' }, undefined]);
  });
}
