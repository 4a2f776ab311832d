/**
 * Who may use what: of schema `meridian`, and of what Postgres itself gives to everybody but would let tenants reach each other or get
 * in the way of Meridian. Run as a superuser in the keyspace's database (privileges on system functions are per database).
 */
import { applicationGroup, directGroup, ownerRole, routerRole } from '#core/roles.ts';
import { catalogType, type TenantKey } from './tenant-key.ts';

export const privilegesSql = (key: TenantKey): string => `
revoke all on schema public from public;
grant usage on schema public to ${applicationGroup};
grant usage, create on schema public to ${ownerRole};

revoke all on schema meridian from public;
grant usage on schema meridian to ${applicationGroup}, ${routerRole};
revoke all on all tables in schema meridian from public;
revoke all on all functions in schema meridian from public;

-- A policy's functions run as whoever reads the table: everybody may call them, each learns of itself only.
grant execute on function
  meridian.login_tenant(), meridian.login_tenants(), meridian.login_is_operator(), meridian.refuse_session(${catalogType(key)}),
  meridian.claim_chosen(${catalogType(key)})
  to public;
grant usage on schema meridian to public;
grant execute on function meridian.router_logins(), meridian.router_catalogue() to ${routerRole};

-- Names that other tenants' sessions have chosen (application_name), and who they are.
revoke select on pg_catalog.pg_stat_activity from public;
revoke execute on function pg_catalog.pg_stat_get_activity(integer) from public;
grant select on pg_catalog.pg_stat_activity to ${directGroup}, pg_monitor;
grant execute on function pg_catalog.pg_stat_get_activity(integer) to ${directGroup}, pg_monitor;

-- An UPDATE of this view is a SET by another name, which no gate and no pooler sees.
revoke update on pg_catalog.pg_settings from public;

do $block$
declare
  function_oid regprocedure;
begin
  for function_oid in
    select p.oid from pg_proc p
    where p.pronamespace = 'pg_catalog'::regnamespace and (
      -- The key space of tenants' locks: whoever could take one could stop another tenant's writes or its freeze.
      (p.proname ~ '^pg_(try_)?advisory_' and p.proargtypes::text = '23 23')
      -- Large objects belong to no tenant, pass by row-level security, and can't move.
      or p.proname ~ '^lo_' or p.proname in ('loread', 'lowrite')
      -- Ending or cancelling a session of the same role is ending another client's, perhaps one that waits for its commit's acknowledgement.
      or p.proname in ('pg_cancel_backend', 'pg_terminate_backend')
      -- Writes to the log that logical replication reads.
      or p.proname = 'pg_logical_emit_message'
    )
  loop
    execute format('revoke execute on function %s from public', function_oid);
  end loop;
  for function_oid in
    select p.oid from pg_proc p
    where p.pronamespace = 'pg_catalog'::regnamespace
      and p.proname ~ '^pg_(try_)?advisory_' and p.proargtypes::text = '23 23'
  loop
    execute format('grant execute on function %s to ${ownerRole}', function_oid);
  end loop;
end
$block$;
`;
