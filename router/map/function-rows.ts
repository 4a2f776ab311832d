/**
 * The functions of a database as its catalogue has them, read for the planner (`plan/functions.ts`): some two thousand rows, so that
 * they are asked for only when their fingerprint has changed. Any role may read these catalogues.
 * Source: PostgreSQL documentation, "System Catalogs": pg_proc, pg_aggregate, pg_operator, pg_cast, pg_amproc, pg_policy, pg_constraint.
 */
import type { FunctionForm, FunctionRow } from '../plan/functions.ts';

/**
 * Temporary ones are a session's own and nobody else's (a tenant's `pg_temp.count()` must not make everybody's suspect); that session
 * can't mean them either without saying so, which is then unknown ("Client Connection Defaults", search_path). `column`: a namespace.
 */
const isLasting = (column: string): string =>
  `${column} NOT IN (SELECT t.oid FROM pg_catalog.pg_namespace t WHERE t.nspname ~ '^pg_(toast_)?temp_')`;

/** Differs after any CREATE, ALTER or DROP; the same on every member of a shard. */
export const fingerprintSql = `SELECT pg_catalog.md5(pg_catalog.string_agg(c, ' ')) FROM (
  SELECT pg_catalog.string_agg(p.oid::text || ' ' || p.xmin::text, ' ' ORDER BY p.oid) FROM pg_catalog.pg_proc p
    WHERE ${isLasting('p.pronamespace')}
  UNION ALL SELECT pg_catalog.string_agg(o.oid::text || ' ' || o.xmin::text, ' ' ORDER BY o.oid) FROM pg_catalog.pg_operator o
    WHERE ${isLasting('o.oprnamespace')}
  UNION ALL SELECT pg_catalog.string_agg(t.oid::text || ' ' || t.xmin::text, ' ' ORDER BY t.oid) FROM pg_catalog.pg_cast t
  UNION ALL SELECT pg_catalog.string_agg(a.oid::text || ' ' || a.xmin::text, ' ' ORDER BY a.oid) FROM pg_catalog.pg_amproc a
  UNION ALL SELECT pg_catalog.string_agg(l.oid::text || ' ' || l.xmin::text, ' ' ORDER BY l.oid) FROM pg_catalog.pg_policy l
  UNION ALL SELECT pg_catalog.string_agg(k.oid::text || ' ' || k.xmin::text, ' ' ORDER BY k.oid) FROM pg_catalog.pg_constraint k
    WHERE k.contypid <> 0 AND ${isLasting('k.connamespace')}
) AS all_of_them (c)`;

/**
 * One row per kind, schema and name, its forms as `min,max,volatility,kind,self-contained,takes a row,shipped`. An aggregate is
 * what it is made of: itself it always says immutable. Immutable functions read no tables ("Function Volatility Categories"), but
 * in any language but C nothing would keep them from it. Shipped are those that came with Postgres, whose oids are below 16384 ("System
 * Catalog Initial Data", OID Assignment), and immutable ones in C (or by another name) that came with an extension: what only a superuser can bring.
 *
 * `unseen`: some statements run functions that aren't shipped and that they don't name: implicit casts, operator classes, policies,
 * checks of domains. The owner's own schema is trusted with policies: its functions are the operator's.
 */
export const functionsSql = `
WITH part AS (
  SELECT p.oid, p.provolatile, n.nspname IN ('pg_catalog', 'information_schema')
    OR (p.provolatile = 'i' AND l.lanname IN ('c', 'internal')) AS self_contained,
    n.nspname, p.oid < 16384 OR (p.provolatile = 'i' AND l.lanname IN ('c', 'internal') AND EXISTS (
      SELECT FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'
    )) AS shipped
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
  WHERE ${isLasting('p.pronamespace')}
),
made AS (
  SELECT a.aggfnoid, pg_catalog.max(part.provolatile::text) AS provolatile, pg_catalog.bool_and(part.self_contained) AS self_contained,
    pg_catalog.bool_and(part.shipped) AS shipped
  FROM pg_catalog.pg_aggregate a
  JOIN part ON part.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, a.aggmfinalfn)
  GROUP BY 1
),
function AS (
  SELECT p.oid, n.nspname, p.proname, p.prokind, p.pronargs - p.pronargdefaults AS least,
    CASE WHEN p.provariadic = 0 THEN p.pronargs::integer ELSE -1 END AS most,
    coalesce(m.provolatile, part.provolatile::text) AS volatility,
    coalesce(m.self_contained, part.self_contained) AS self_contained,
    coalesce(m.shipped, part.shipped) AS shipped,
    coalesce(r.typtype = 'c', false) AS takes_row,
    NOT p.proargtypes::pg_catalog.oid[] && ARRAY['pg_catalog.internal'::pg_catalog.regtype::pg_catalog.oid]
      AND p.prorettype::pg_catalog.regtype::text NOT IN ('internal', 'trigger', 'event_trigger') AS is_callable
  FROM pg_catalog.pg_proc p
  JOIN part ON part.oid = p.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  LEFT JOIN made m ON m.aggfnoid = p.oid
  LEFT JOIN pg_catalog.pg_type r ON r.oid = p.proargtypes[0]
),
form AS (
  SELECT 'function' AS what, nspname AS schema_name, proname AS name, least, most, volatility, prokind, self_contained, takes_row, shipped
  FROM function WHERE is_callable
  UNION ALL
  SELECT 'operator', n.nspname, o.oprname, 1, 2, f.volatility, 'f', f.self_contained, false, f.shipped
  FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace JOIN function f ON f.oid = o.oprcode
  WHERE (n.nspname <> 'pg_catalog' OR f.nspname <> 'pg_catalog' OR NOT f.shipped) AND ${isLasting('o.oprnamespace')}
  UNION ALL
  SELECT 'cast', n.nspname, t.typname, 1, 1, f.volatility, 'f', f.self_contained, false, f.shipped
  FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_type t ON t.oid = c.casttarget
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace JOIN function f ON f.oid = c.castfunc
  WHERE (f.nspname <> 'pg_catalog' OR NOT f.shipped) AND ${isLasting('t.typnamespace')}
  UNION ALL
  SELECT 'unseen', '', '', 0, 0, 'i', 'f', true, false, false WHERE EXISTS (
    SELECT FROM pg_catalog.pg_cast c JOIN part f ON f.oid = c.castfunc WHERE c.castcontext = 'i' AND NOT f.shipped
    UNION ALL SELECT FROM pg_catalog.pg_amproc a JOIN part f ON f.oid = a.amproc WHERE NOT f.shipped
    UNION ALL SELECT FROM pg_catalog.pg_depend d JOIN part f ON f.oid = d.refobjid AND NOT f.shipped
      WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
        AND (d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND f.nspname <> 'meridian'
          OR d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
            AND d.objid IN (SELECT k.oid FROM pg_catalog.pg_constraint k WHERE k.contypid <> 0))
  )
)
SELECT what, schema_name, name, pg_catalog.string_agg(DISTINCT pg_catalog.concat_ws(',',
  least, most, volatility, prokind, self_contained, takes_row, shipped), ' ')
FROM form GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`;

type TextRow = readonly (string | null)[];

export const functionRowsOf = (rows: readonly TextRow[]): FunctionRow[] =>
  rows.map(([what, schema, name, forms]) => ({
    what: what === 'operator' || what === 'cast' || what === 'unseen' ? what : 'function',
    schema: schema ?? '',
    name: name ?? '',
    forms: (forms ?? '').split(' ').map(formOf),
  }));

const volatilities = { i: 'immutable', s: 'stable', v: 'volatile' } as const;
const kinds = { f: 'function', p: 'function', a: 'aggregate', w: 'window' } as const;

function formOf(text: string): FunctionForm {
  const [least, most, volatility, kind, selfContained, takesRow, shipped] = text.split(',');
  return {
    minArguments: Number(least),
    maxArguments: most === '-1' ? Number.POSITIVE_INFINITY : Number(most),
    volatility: volatilities[volatility as keyof typeof volatilities] ?? 'volatile',
    kind: kinds[kind as keyof typeof kinds] ?? 'aggregate',
    isSelfContained: selfContained === 't',
    takesRow: takesRow === 't',
    isShipped: shipped === 't',
  };
}

/** Volatile only because they answer differently each time: nothing is left behind. */
const harmlessBuiltins: ReadonlySet<string> = new Set([
  'clock_timestamp',
  'gen_random_uuid',
  'pg_current_wal_flush_lsn',
  'pg_current_wal_insert_lsn',
  'pg_current_wal_lsn',
  'pg_is_in_recovery',
  'pg_last_wal_receive_lsn',
  'pg_last_wal_replay_lsn',
  'pg_last_xact_replay_timestamp',
  'pg_sleep',
  'pg_sleep_for',
  'pg_sleep_until',
  'random',
  'random_normal',
  'timeofday',
]);

/** Names of functions that may leave something behind: any of that name counts, in whatever schema. */
export const volatileNames = (rows: readonly FunctionRow[]): Set<string> =>
  new Set(
    rows
      .filter(({ schema, name }) => schema !== 'pg_catalog' || !harmlessBuiltins.has(name))
      .filter(({ forms }) => forms.some(({ volatility }) => volatility === 'volatile'))
      .map(({ name }) => name),
  );
