/**
 * The ownership check on writes, as trigger functions: takes the tenant's lock in shared mode for the rest of the transaction, and
 * checks that this shard owns the tenant in state `active`; else SQLSTATE MD001.
 *
 * The lock comes first and the look at the row second, with a snapshot of its own (VOLATILE functions in READ COMMITTED), so that a
 * freeze is either waiting for this transaction or seen by it. In REPEATABLE READ and SERIALIZABLE the snapshot may be older than the
 * lock, so the row is locked FOR SHARE as well: 40001 if it has changed since.
 * The lock is tried, never awaited: a freeze that holds it or waits for it makes later writers fail at once, so it can't be starved.
 *
 * Logins of one tenant pay once per statement, by their tenant. All others (several tenants; the operator's own migrations) pay per row,
 * by the row's own key, since the setting can change while the statement runs. In `login-sql.ts` is why no function sets search_path.
 */
import { identifier } from '../sql-text.ts';
import { tenantLockClass } from './lock.ts';
import { catalogType, type TenantKey } from './tenant-key.ts';

export const claimSql = (key: TenantKey): string => {
  const column = identifier(key.column);
  return `
-- Whether this shard owns the tenant, whose lock the caller holds: for what the fast path leaves over. Ends a freeze that has expired.
create or replace function meridian.owns(wanted pg_catalog.int4) returns pg_catalog.bool
language plpgsql volatile as $function$
declare
  seen meridian.ownership;
begin
  for round in 1 .. 3 loop
    select * into seen from meridian.ownership o where o.serial operator(pg_catalog.=) wanted;
    if not found then
      return false;
    elsif seen.state operator(pg_catalog.=) 'active' then
      if pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.=) 'read committed' then
        return true;
      end if;
      perform from meridian.ownership o
        where o.serial operator(pg_catalog.=) wanted and o.state operator(pg_catalog.=) 'active' for share;
      return found;
    elsif seen.state operator(pg_catalog.=) 'frozen' and seen.until operator(pg_catalog.<=) pg_catalog.clock_timestamp() then
      update meridian.ownership o set state = 'active', until = null
        where o.serial operator(pg_catalog.=) wanted and o.state operator(pg_catalog.=) 'frozen'
          and o.attempt operator(pg_catalog.=) seen.attempt and o.until operator(pg_catalog.<=) pg_catalog.clock_timestamp();
      if found then
        return true;
      end if;
    else
      return false;
    end if;
  end loop;
  return false;
end
$function$;

-- Never returns.
create or replace function meridian.refuse_write(tenant pg_catalog.text) returns void
language plpgsql volatile as $function$
begin
  raise exception using
    errcode = 'MD001',
    message = pg_catalog.format('this shard does not accept writes for tenant "%s" now', tenant),
    hint = 'The tenant is owned by another shard or is about to be: find its place anew, then try again.';
end
$function$;

-- Before each statement, for logins of one tenant.
create or replace function meridian.claim_statement() returns trigger
language plpgsql volatile security definer as $function$
declare
  seen pg_catalog.text;
begin
  if meridian.login_serial() is null then
    return null;
  end if;
  if pg_catalog.pg_try_advisory_xact_lock_shared(${tenantLockClass}, meridian.login_serial()) then
    if pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.=) 'read committed' then
      select o.state into seen from meridian.ownership o where o.serial operator(pg_catalog.=) meridian.login_serial();
      if seen operator(pg_catalog.=) 'active' then
        return null;
      end if;
    end if;
    if meridian.owns(meridian.login_serial()) then
      return null;
    end if;
  end if;
  perform meridian.refuse_write(meridian.login_tenant()::pg_catalog.text);
end
$function$;

-- For the row trigger. Applications may call it: it gives them no more than a write for a tenant they may act for gives.
create or replace function meridian.claim(tenant pg_catalog.text) returns pg_catalog.bool
language plpgsql volatile security definer as $function$
declare
  wanted pg_catalog.int4;
  seen pg_catalog.text;
begin
  if (tenant::${catalogType(key)} operator(pg_catalog.=) any (meridian.login_tenants())) is false and not meridian.login_is_operator() then
    raise exception using
      errcode = '42501',
      message = pg_catalog.format('role "%s" may not act for tenant "%s"', session_user, tenant);
  end if;
  select o.serial into wanted from meridian.ownership o where o.key operator(pg_catalog.=) tenant;
  if pg_catalog.pg_try_advisory_xact_lock_shared(${tenantLockClass}, wanted) then
    if pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.=) 'read committed' then
      select o.state into seen from meridian.ownership o where o.serial operator(pg_catalog.=) wanted;
      if seen operator(pg_catalog.=) 'active' then
        return true;
      end if;
    end if;
    if meridian.owns(wanted) then
      return true;
    end if;
  end if;
  perform meridian.refuse_write(tenant);
end
$function$;

-- Before each row, for all other logins. Not SECURITY DEFINER: what it costs logins of one tenant is one look at a constant.
create or replace function meridian.claim_row() returns trigger
language plpgsql volatile as $function$
declare
  claimed pg_catalog.bool;
begin
  if meridian.login_serial() is null then
    if tg_op operator(pg_catalog.<>) 'INSERT' then
      claimed := meridian.claim(old.${column}::pg_catalog.text);
    end if;
    if tg_op operator(pg_catalog.=) 'INSERT' then
      claimed := meridian.claim(new.${column}::pg_catalog.text);
    elsif tg_op operator(pg_catalog.=) 'UPDATE' and new.${column} operator(pg_catalog.<>) old.${column} then
      claimed := meridian.claim(new.${column}::pg_catalog.text);
    end if;
  end if;
  if tg_op operator(pg_catalog.=) 'DELETE' then
    return old;
  end if;
  return new;
end
$function$;

-- TRUNCATE knows no tenants: it would write for all of them, and moves don't carry it.
create or replace function meridian.refuse_truncate() returns trigger
language plpgsql volatile as $function$
begin
  raise exception using
    errcode = 'MD001',
    message = pg_catalog.format('TRUNCATE of "%s" would write for every tenant', tg_table_name),
    hint = 'DELETE the rows of the tenants that are meant.';
end
$function$;
`;
};
