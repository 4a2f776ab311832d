/**
 * What routers may ask of a member: logins, and the catalogue of tables. SECURITY DEFINER with a pinned
 * search_path; EXECUTE only for `meridian_router`.
 */
import type { TenantKey } from './tenant-key.ts';

export const routerSql = (key: TenantKey): string => `
-- Its result can't be replaced by another one, only dropped.
do $$
begin
  if exists (
    select from pg_catalog.pg_proc p
    where p.oid = pg_catalog.to_regprocedure('meridian.router_logins()') and not 'login_until' = any (p.proargnames)
  ) then
    drop function meridian.router_logins();
  end if;
end $$;
-- login_until: VALID UNTIL of the role, after which no password is accepted (null: without end).
-- verifiers[1] is the present password's; verifiers[2], if any, the former one's, accepted until valid_until (null: no end yet).
create or replace function meridian.router_logins()
returns table (role name, verifiers text[], any_tenant boolean, tenants text[], valid_until timestamptz, login_until timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  select
    l.name,
    case when v.previous_verifier is null or v.previous_until <= clock_timestamp()
      then array[v.verifier] else array[v.verifier, v.previous_verifier] end,
    l.any_tenant,
    l.tenants,
    case when v.previous_until > clock_timestamp() then v.previous_until end,
    (select nullif(r.rolvaliduntil, 'infinity') from pg_roles r where r.rolname = l.name)
  from meridian.login l join meridian.login_verifier v on v.name = l.name
  order by l.name;
end;

-- Tables and partitions with the tenant column are 'tenant', declared ones 'reference'. A view counts as what it reads: 'tenant' if any
-- relation below it is (tenant_column is null if it doesn't show that column), 'reference' if only reference tables are.
create or replace function meridian.router_catalogue()
returns table (schema_name name, table_name name, kind text, tenant_column name)
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  with recursive relation as (
    select c.oid, n.nspname, c.relname, c.relkind,
      exists (
        select from meridian.reference_table r where r.schema_name = n.nspname and r.table_name = c.relname
      ) as is_reference,
      exists (
        select from pg_attribute a
        where a.attrelid = c.oid and a.attname = '${key.column.replaceAll("'", "''")}'
          and not a.attisdropped and a.atttypid = '${key.type}'::regtype
      ) as has_key
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v') and n.nspname not in ('pg_catalog', 'information_schema', 'meridian')
      and n.nspname not like 'pg\\_%'
  ),
  below (top, oid) as (
    select oid, oid from relation where relkind = 'v'
    union
    select below.top, d.refobjid
    from below
    join pg_rewrite w on w.ev_class = below.oid
    join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass
    where d.refobjid <> below.oid
  ),
  kinds as (
    select r.oid,
      case
        when r.relkind <> 'v' then
          case when r.is_reference then 'reference' when r.has_key then 'tenant' else 'local' end
        when exists (
          select from below b join relation t on t.oid = b.oid
          where b.top = r.oid and t.relkind <> 'v' and t.has_key and not t.is_reference
        ) then 'tenant'
        when exists (
          select from below b join relation t on t.oid = b.oid where b.top = r.oid and t.is_reference
        ) then 'reference'
        else 'local'
      end as kind
    from relation r
  )
  select r.nspname, r.relname, k.kind, case when k.kind = 'tenant' and r.has_key then '${key.column.replaceAll("'", "''")}'::name end
  from relation r join kinds k on k.oid = r.oid
  order by 1, 2;
end;

-- Routers read pg_proc by themselves.
drop function if exists meridian.router_functions();
`;
