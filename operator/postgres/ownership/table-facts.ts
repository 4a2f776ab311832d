/**
 * What Postgres' catalogue says about a keyspace's relations, in one query: the input of `table-problems.ts` and `protect.ts`.
 * Relations of extensions are left out: they are the extension's, and applications get nothing on them from us.
 * Source: PostgreSQL documentation, "System Catalogs".
 */
import type { ClientBase } from 'pg';
import { applicationGroup } from '#core/roles.ts';
import { patternTables, policies, triggers } from './pattern-sql.ts';
import type { TenantKey } from './tenant-key.ts';

export interface ColumnFacts {
  readonly name: string;
  /** As format_type writes it. */
  readonly type: string;
  readonly notNull: boolean;
  readonly generated: boolean;
  readonly identity: boolean;
  /** False for a collation under which different keys compare equal. */
  readonly deterministic: boolean;
}

export interface IndexFacts {
  readonly name: string;
  readonly primary: boolean;
  readonly immediate: boolean;
  readonly exclusion: boolean;
  readonly valid: boolean;
  /** Whether the tenant column is among its keys (for an exclusion constraint: compared with `=`). */
  readonly hasTenant: boolean;
}

export interface ForeignKeyFacts {
  readonly name: string;
  readonly targetSchema: string;
  readonly targetTable: string;
  /** Whether the tenant column here refers to the tenant column there. */
  readonly hasTenant: boolean;
  /** Whether a change of the row referred to may change rows here (any ON DELETE or ON UPDATE action). */
  readonly cascades: boolean;
  /** Whether ON DELETE or ON UPDATE would set the tenant column to null or its default. */
  readonly clearsTenant: boolean;
}

export interface RelationFacts {
  readonly schema: string;
  readonly name: string;
  /** pg_class.relkind: r table, p partitioned, v view, m materialised view, f foreign table. */
  readonly kind: 'r' | 'p' | 'v' | 'm' | 'f';
  readonly owner: string;
  readonly unlogged: boolean;
  readonly isPartition: boolean;
  /** An INHERITS child or parent that is no partition. */
  readonly inherits: boolean;
  /** pg_class.relreplident: d default, n nothing, f full, i index. */
  readonly replicaIdentity: 'd' | 'n' | 'f' | 'i';
  readonly tenantColumn: ColumnFacts | null;
  /** Columns of types that point at large objects. */
  readonly largeObjectColumns: readonly string[];
  /** Columns filled from sequences. */
  readonly sequenceColumns: readonly string[];
  readonly uniqueIndexes: readonly IndexFacts[];
  readonly foreignKeys: readonly ForeignKeyFacts[];
  readonly rowSecurity: boolean;
  readonly forceRowSecurity: boolean;
  /** Our policies that are there and as on the pattern table. */
  readonly rightPolicies: readonly string[];
  /** Ours that are there but otherwise. */
  readonly wrongPolicies: readonly string[];
  /** Of others, each of which opens the table further (restrictive ones only narrow it). */
  readonly permissivePolicies: readonly string[];
  /** Our triggers that are there, enabled and as on the pattern table. */
  readonly rightTriggers: readonly string[];
  /** Ours that are there but otherwise. */
  readonly wrongTriggers: readonly string[];
  /** What `meridian_application` may do, sorted. */
  readonly granted: readonly string[];
  /** What PUBLIC may do. */
  readonly public: readonly string[];
}

export interface SequenceFacts {
  readonly schema: string;
  readonly name: string;
  readonly type: string;
  readonly increment: string;
  readonly minimum: string;
  readonly maximum: string;
  readonly start: string;
  readonly cache: string;
  readonly cycle: boolean;
  /** The last value it gave out; null before the first. */
  readonly lastValue: string | null;
  readonly unlogged: boolean;
  /** The column that it belongs to (serial, identity). */
  readonly ownerTable: string | null;
  readonly ownerColumnType: string | null;
  readonly granted: readonly string[];
}

export interface SchemaFacts {
  readonly name: string;
  readonly usable: boolean;
  readonly open: boolean;
}

export async function readRelations(client: ClientBase, key: TenantKey): Promise<readonly RelationFacts[]> {
  const { rows } = await client.query<{ facts: RelationFacts }>(relationsSql, [
    key.column,
    ...[patternTables.plain, patternTables.partitioned].map(({ schema, name }) => `${schema}.${name}`),
    triggers,
    policies,
  ]);
  return rows.map((row) => row.facts);
}

/** Schemas of the keyspace in which `meridian_application` may not look, or in which it or PUBLIC may make something. */
export async function readSchemas(client: ClientBase): Promise<readonly SchemaFacts[]> {
  const { rows } = await client.query<SchemaFacts>(`
    select n.nspname as name,
      has_schema_privilege('${applicationGroup}', n.oid, 'USAGE') as usable,
      has_schema_privilege('${applicationGroup}', n.oid, 'CREATE') as open
    from pg_namespace n
    where n.nspname not in ('pg_catalog', 'information_schema', 'meridian') and n.nspname not like 'pg\\_%'`);
  return rows;
}

export async function readSequences(client: ClientBase): Promise<readonly SequenceFacts[]> {
  const { rows } = await client.query<{ facts: SequenceFacts }>(sequencesSql);
  return rows.map((row) => row.facts);
}

/** Schemas whose relations are the keyspace's. */
const ours = `n.nspname not in ('pg_catalog', 'information_schema', 'meridian', 'pg_toast') and n.nspname not like 'pg\\_temp\\_%'
    and n.nspname not like 'pg\\_toast\\_temp\\_%'
    and not exists (
      select from pg_catalog.pg_depend d
      where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
    )`;

const privileges = (grantee: string): string => `coalesce((
      select jsonb_agg(distinct a.privilege_type order by a.privilege_type)
      from aclexplode(c.relacl) a where a.grantee = ${grantee}
    ), '[]')`;

const policyForm = `jsonb_build_array(
      p.polcmd, p.polpermissive, p.polroles::text, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))`;

/** A WHEN by its text: in its internal form column numbers and offsets differ between tables. */
const triggerForm = `jsonb_build_array(
      t.tgfoid, t.tgtype, t.tgenabled, substring(pg_get_triggerdef(t.oid) from 'FOR EACH .*$'))`;

/** $1 tenant column, $2 and $3 pattern tables, $4 our triggers, $5 our policies. */
const relationsSql = `
with pattern as (
  select
    partitioned,
    (select jsonb_object_agg(p.polname, ${policyForm})
      from pg_policy p where p.polrelid = shape.relation) as policies,
    (select jsonb_object_agg(t.tgname, ${triggerForm}) from pg_trigger t where t.tgrelid = shape.relation) as triggers
  from (values (false, $2::regclass), (true, $3::regclass)) as shape(partitioned, relation)
)
select jsonb_build_object(
  'schema', n.nspname,
  'name', c.relname,
  'kind', c.relkind,
  'owner', pg_get_userbyid(c.relowner),
  'unlogged', c.relpersistence <> 'p',
  'isPartition', c.relispartition,
  'inherits', exists (
    select from pg_inherits i join pg_class child on child.oid = i.inhrelid
    where (i.inhrelid = c.oid or i.inhparent = c.oid) and not child.relispartition
  ),
  'replicaIdentity', c.relreplident,
  'tenantColumn', (
    select jsonb_build_object(
      'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'notNull', a.attnotnull,
      'generated', a.attgenerated <> '', 'identity', a.attidentity <> '',
      'deterministic', coalesce((select l.collisdeterministic from pg_collation l where l.oid = a.attcollation), true))
    from pg_attribute a where a.attrelid = c.oid and a.attname = $1 and a.attnum > 0 and not a.attisdropped
  ),
  'largeObjectColumns', coalesce((
    select jsonb_agg(a.attname order by a.attnum) from pg_attribute a join pg_type t on t.oid = a.atttypid
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and (t.oid = 'oid'::regtype or t.typbasetype = 'oid'::regtype)
  ), '[]'),
  'sequenceColumns', coalesce((
    select jsonb_agg(distinct a.attname) from pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and (
      a.attidentity <> '' or exists (
        select from pg_attrdef f
        join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid and d.refclassid = 'pg_class'::regclass
        join pg_class s on s.oid = d.refobjid and s.relkind = 'S'
        where f.adrelid = c.oid and f.adnum = a.attnum
      ))
  ), '[]'),
  'uniqueIndexes', coalesce((
    select jsonb_agg(jsonb_build_object(
      'name', ic.relname, 'primary', i.indisprimary, 'immediate', i.indimmediate, 'exclusion', i.indisexclusion, 'valid', i.indisvalid,
      'hasTenant', exists (
        select from unnest(i.indkey::int2[]) with ordinality as k(attnum, position)
        join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
        where k.position <= i.indnkeyatts and a.attname = $1 and (
          not i.indisexclusion or exists (
            select from pg_constraint x join pg_operator o on o.oid = x.conexclop[k.position]
            where x.conindid = i.indexrelid and x.contype in ('x', 'p', 'u') and o.oprname = '='
          )
        )
      )) order by ic.relname)
    from pg_index i join pg_class ic on ic.oid = i.indexrelid
    where i.indrelid = c.oid and (i.indisunique or i.indisexclusion)
  ), '[]'),
  'foreignKeys', coalesce((
    select jsonb_agg(jsonb_build_object(
      'name', f.conname, 'targetSchema', tn.nspname, 'targetTable', t.relname,
      'hasTenant', exists (
        select from unnest(f.conkey, f.confkey) as pair(here, there)
        join pg_attribute h on h.attrelid = c.oid and h.attnum = pair.here and h.attname = $1
        join pg_attribute o on o.attrelid = t.oid and o.attnum = pair.there and o.attname = $1
      ),
      'cascades', f.confdeltype in ('c', 'n', 'd') or f.confupdtype in ('c', 'n', 'd'),
      'clearsTenant', exists (
        select from pg_attribute h
        where h.attrelid = c.oid and h.attname = $1 and h.attnum = any (f.conkey) and (
          f.confupdtype in ('n', 'd')
          or (f.confdeltype in ('n', 'd') and (coalesce(cardinality(f.confdelsetcols), 0) = 0 or h.attnum = any (f.confdelsetcols)))
        )
      )) order by f.conname)
    from pg_constraint f join pg_class t on t.oid = f.confrelid join pg_namespace tn on tn.oid = t.relnamespace
    where f.conrelid = c.oid and f.contype = 'f' and f.conparentid = 0
  ), '[]'),
  'rowSecurity', c.relrowsecurity,
  'forceRowSecurity', c.relforcerowsecurity,
  'rightPolicies', coalesce((
    select jsonb_agg(p.polname) from pg_policy p where p.polrelid = c.oid and p.polname = any ($5::name[]) and pattern.policies -> p.polname::text = ${policyForm}
  ), '[]'),
  'wrongPolicies', coalesce((
    select jsonb_agg(p.polname) from pg_policy p where p.polrelid = c.oid and p.polname = any ($5::name[])
      and pattern.policies -> p.polname::text is distinct from ${policyForm}
  ), '[]'),
  'permissivePolicies', coalesce((
    select jsonb_agg(p.polname) from pg_policy p where p.polrelid = c.oid and p.polname <> all ($5::name[]) and p.polpermissive
  ), '[]'),
  'rightTriggers', coalesce((
    select jsonb_agg(t.tgname) from pg_trigger t
    where t.tgrelid = c.oid and t.tgname = any ($4::name[])
      and pattern.triggers -> t.tgname::text = ${triggerForm}
  ), '[]'),
  'wrongTriggers', coalesce((
    select jsonb_agg(t.tgname) from pg_trigger t
    where t.tgrelid = c.oid and t.tgname = any ($4::name[])
      and pattern.triggers -> t.tgname::text is distinct from ${triggerForm}
  ), '[]'),
  'granted', ${privileges(`'${applicationGroup}'::regrole`)},
  'public', ${privileges('0')}
) as facts
from pg_class c join pg_namespace n on n.oid = c.relnamespace
  join pattern on pattern.partitioned = (c.relkind = 'p' or c.relispartition)
where c.relkind in ('r', 'p', 'v', 'm', 'f') and ${ours}
order by n.nspname, c.relname`;

const sequencesSql = `
select jsonb_build_object(
  'schema', n.nspname,
  'name', c.relname,
  'type', format_type(s.seqtypid, null),
  'increment', s.seqincrement::text,
  'minimum', s.seqmin::text,
  'maximum', s.seqmax::text,
  'start', s.seqstart::text,
  'cache', s.seqcache::text,
  'cycle', s.seqcycle,
  'lastValue', pg_sequence_last_value(c.oid)::text,
  'unlogged', c.relpersistence <> 'p',
  'ownerTable', o.owner_table,
  'ownerColumnType', o.column_type,
  'granted', ${privileges(`'${applicationGroup}'::regrole`)}
) as facts
from pg_sequence s join pg_class c on c.oid = s.seqrelid join pg_namespace n on n.oid = c.relnamespace
left join lateral (
  select format('%s.%s', tn.nspname, t.relname) as owner_table, format_type(a.atttypid, null) as column_type
  from pg_depend d
  join pg_class t on t.oid = d.refobjid join pg_namespace tn on tn.oid = t.relnamespace
  join pg_attribute a on a.attrelid = t.oid and a.attnum = d.refobjsubid
  where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.refclassid = 'pg_class'::regclass
    and d.deptype in ('a', 'i') and d.refobjsubid > 0
  limit 1
) o on true
where c.relpersistence <> 't' and ${ours}
order by n.nspname, c.relname`;
