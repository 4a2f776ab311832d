/**
 * Who a session may act for, as Postgres functions: what the policies (`pin`) and the ownership triggers ask.
 *
 * Everything goes by `session_user`, which no role but a superuser can change: neither SET ROLE, nor a SECURITY DEFINER function, nor a
 * foreign key's cascade (which runs as the table's owner) changes it.
 *
 * The `login_` functions are declared IMMUTABLE although they read a table: for one session the answer never changes. `session_user`
 * doesn't, and a role whose tenants change becomes another role (`roles.ts` drops it and makes it anew, so that sessions of the former
 * one have no privilege left). So the planner puts the tenant into the plan as a constant: a prepared statement pays nothing for its pin,
 * and partitions are pruned when planning. Invalidating plans instead would not do: a plan made anew in a REPEATABLE READ transaction
 * would hold what its old snapshot shows. It also means: never SET SESSION AUTHORIZATION in a session that goes on afterwards.
 *
 * They run inside every statement's planning, so they do without SET search_path (3.6 of 20 microseconds a call); instead every name and
 * operator in them is qualified, which is as safe: nothing is left for the caller's search_path to decide. A test tries.
 */
import { agentRole, operatorRole } from '#core/roles.ts';
import { catalogType, type TenantKey } from './tenant-key.ts';

export const loginSql = (key: TenantKey): string => `
-- The tenant of a login that is fixed to one, else null.
create or replace function meridian.login_tenant() returns ${catalogType(key)}
language plpgsql immutable parallel safe security definer as $function$
declare
  answer ${catalogType(key)};
begin
  select l.fixed_tenant into answer from meridian.login l where l.name operator(pg_catalog.=) session_user;
  return answer;
end
$function$;

-- The same tenant's serial.
create or replace function meridian.login_serial() returns pg_catalog.int4
language plpgsql immutable parallel safe security definer as $function$
declare
  answer pg_catalog.int4;
begin
  select l.fixed_serial into answer from meridian.login l where l.name operator(pg_catalog.=) session_user;
  return answer;
end
$function$;

-- The tenants that a login may act for: null means any, empty means none (an unknown login).
create or replace function meridian.login_tenants() returns ${catalogType(key)}[]
language plpgsql immutable parallel safe security definer as $function$
declare
  answer ${catalogType(key)}[];
begin
  select l.allowed into answer from meridian.login l where l.name operator(pg_catalog.=) session_user;
  if not found then
    return '{}';
  end if;
  return answer;
end
$function$;

-- Migrations and repairs: sessions of Meridian's own superusers, whatever role they have set.
create or replace function meridian.login_is_operator() returns pg_catalog.bool
language plpgsql immutable parallel safe as $function$
begin
  return session_user operator(pg_catalog.=) '${operatorRole}' or session_user operator(pg_catalog.=) '${agentRole}';
end
$function$;

-- Says why a session of a login that isn't fixed may not act. Never returns.
create or replace function meridian.refuse_session(chosen ${catalogType(key)}) returns ${catalogType(key)}
language plpgsql stable parallel safe as $function$
begin
  if chosen is not null then
    raise exception using
      errcode = '42501',
      message = pg_catalog.format('role "%s" may not act for tenant "%s"', session_user, chosen);
  end if;
  raise exception using
    errcode = 'MD003',
    message = 'no tenant is chosen',
    hint = 'Set meridian.tenant to the tenant to act for.';
end
$function$;
`;

const chosen = (key: TenantKey): string =>
  `nullif(pg_catalog.current_setting('meridian.tenant', true), '')::${catalogType(key)}`;

/**
 * The tenant whose rows a session sees, as an expression for policies. For logins of one tenant all of it is planned away but the
 * constant. Without a subquery, which would cost each statement more than it saves: as a key of an index it is worked out once, and where
 * the statement names the tenant as well, it is compared with that once.
 */
export const readTenantSql = (key: TenantKey): string =>
  `coalesce(meridian.login_tenant(), case when (${chosen(key)} operator(pg_catalog.=) any (meridian.login_tenants())) is not false then ${chosen(key)} end, meridian.refuse_session(${chosen(key)}))`;

/** The tenant of a new row: the same, but claimed (`claim-sql.ts`). Logins of one tenant have claimed theirs by trigger. */
export const newRowTenantSql = (key: TenantKey): string =>
  `coalesce(meridian.login_tenant(), meridian.claim_chosen(${chosen(key)}))`;

/** The same for rows that are there: claimed once, ahead of a scan that may look at many. */
export const presentRowTenantSql = (key: TenantKey): string =>
  `coalesce(meridian.login_tenant(), (select meridian.claim_chosen(${chosen(key)})))`;
