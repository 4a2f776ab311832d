/**
 * The ownership check on writes, as trigger functions: takes the tenant's lock in shared mode for the rest of the transaction, and
 * checks that this shard owns the tenant in state `active`; else SQLSTATE MD001.
 *
 * The lock comes first and the check second, so that a freeze is either waiting for this transaction or seen by it. The lock is tried,
 * never awaited: a freeze that holds it or waits for it makes later writers fail at once, so it can't be starved.
 *
 * The check has two ways. The fast one needs no query: plans hold as constants which version of `meridian.ownership` they were made with
 * (and whether the login's tenant was active in it); as long as the sequence, which shows every change at once and to everybody, still
 * has that version, nothing has changed since. Each change moves both on, the sequence before it commits and under the tenant's
 * exclusive lock, and has these constants made anew (`note_change`). A constant made from an old snapshot, a change that was rolled back
 * or a crash leave the two different: then the slow way is taken, which is right, only slower, until the next change.
 * The slow way (`owns`) reads the row. In REPEATABLE READ and SERIALIZABLE the snapshot may be older than the lock, so there the row is
 * locked FOR SHARE as well: 40001 if it has changed since.
 *
 * Logins of one tenant pay once per statement, by their tenant. All others (several tenants; the operator's own migrations) pay per row,
 * by the row's own key, since the setting can change while the statement runs. In `login-sql.ts` is why no function sets search_path.
 */
import { identifier } from '../sql-text.ts';
import { tenantLockClass } from './lock.ts';
import { catalogType, type TenantKey } from './tenant-key.ts';

const take = (serial: string): string => `pg_catalog.pg_try_advisory_xact_lock_shared(${tenantLockClass}, ${serial})`;

const presentVersion = `pg_catalog.pg_sequence_last_value('meridian.ownership_version'::pg_catalog.regclass)`;

export const claimSql = (key: TenantKey): string =>
  `${versionSql}${slowSql}${statementSql}${rowSql(key)}${truncateSql}`;

const versionSql = `
-- The version of meridian.ownership that this plan was made with.
create or replace function meridian.planned_version() returns pg_catalog.int8
language plpgsql immutable parallel safe security definer as $function$
declare
  answer pg_catalog.int8;
begin
  select c.version into answer from meridian.ownership_change c;
  return answer;
end
$function$;

-- The same, if the login is fixed to a tenant that was active in it; else null.
create or replace function meridian.planned_active_version() returns pg_catalog.int8
language plpgsql immutable parallel safe security definer as $function$
declare
  answer pg_catalog.int8;
begin
  select c.version into answer
  from meridian.login l
  join meridian.ownership o on o.serial operator(pg_catalog.=) l.fixed_serial
  cross join meridian.ownership_change c
  where l.name operator(pg_catalog.=) session_user and o.state operator(pg_catalog.=) 'active';
  return answer;
end
$function$;

-- Moves the version on. ALTER FUNCTION makes every plan that holds one of the constants above be made anew after this commits.
create or replace function meridian.next_version() returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $function$
declare
  answer int8;
begin
  -- The row's lock puts changes in a row, one after another.
  update meridian.ownership_change
    set version = greatest(version, pg_sequence_last_value('meridian.ownership_version'::regclass)) + 1
    returning version into answer;
  -- Not nextval: after a crash that would be ahead.
  perform setval('meridian.ownership_version'::regclass, answer);
  alter function meridian.planned_version() cost 100;
  alter function meridian.planned_active_version() cost 100;
end
$function$;

create or replace function meridian.note_change() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $function$
begin
  perform meridian.next_version();
  return null;
end
$function$;

-- Ending an expired freeze is no change in this sense: writers do it, and who takes the slow way for it loses time only.
create or replace trigger note_insert after insert or delete on meridian.ownership
  for each row execute function meridian.note_change();
create or replace trigger note_update after update on meridian.ownership
  for each row when (not (old.state = 'frozen' and new.state = 'active' and new.attempt = old.attempt and new.epoch = old.epoch))
  execute function meridian.note_change();
`;

const slowSql = `
-- Whether this shard owns the tenant, whose lock the caller holds. Ends a freeze that has expired.
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

-- Locks the tenant and looks, or raises MD001.
create or replace function meridian.claim_slowly(tenant pg_catalog.text) returns void
language plpgsql volatile as $function$
declare
  wanted pg_catalog.int4;
begin
  select t.serial into wanted from meridian.tenant t where t.key operator(pg_catalog.=) tenant;
  if ${take('wanted')} then
    if meridian.owns(wanted) then
      return;
    end if;
  end if;
  raise exception using
    errcode = 'MD001',
    message = pg_catalog.format('this shard does not accept writes for tenant "%s" now', tenant),
    hint = 'The tenant is owned by another shard or is about to be: find its place anew, then try again.';
end
$function$;
`;

const statementSql = `
-- Before each statement, for logins of one tenant.
create or replace function meridian.claim_statement() returns trigger
language plpgsql volatile security definer as $function$
begin
  if meridian.login_serial() is null then
    return null;
  end if;
  if ${take('meridian.login_serial()')} and ${presentVersion} operator(pg_catalog.=) meridian.planned_active_version() then
    return null;
  end if;
  perform meridian.claim_slowly(meridian.login_tenant()::pg_catalog.text);
  return null;
end
$function$;
`;

/** One function per event: what they cost logins of one tenant is the call and one look at a constant. */
const rowSql = (key: TenantKey): string => {
  const column = identifier(key.column);
  return `${rowFunction('claim_insert', 'new', claimKey(key, `new.${column}`))}
${rowFunction('claim_delete', 'old', claimKey(key, `old.${column}`))}
${rowFunction(
  'claim_update',
  'new',
  `${claimKey(key, `old.${column}`)}
  if new.${column} operator(pg_catalog.<>) old.${column} then
    ${claimKey(key, `new.${column}`)}
  end if;`,
)}`;
};

const rowFunction = (name: string, row: 'new' | 'old', claim: string): string => `
create or replace function meridian.${name}() returns trigger
language plpgsql volatile security definer as $function$
declare
  wanted pg_catalog.int4;
begin
  if meridian.login_serial() is not null then
    return ${row};
  end if;
  ${claim}
  return ${row};
end
$function$;
`;

/** That the login may act for the row's tenant, is for the policy to say; here only so that nothing is told of other tenants. */
const claimKey = (key: TenantKey, value: string): string => `
  if (${value}::${catalogType(key)} operator(pg_catalog.=) any (meridian.login_tenants())) is false and not meridian.login_is_operator() then
    raise exception using
      errcode = '42501',
      message = pg_catalog.format('role "%s" may not act for tenant "%s"', session_user, ${value});
  end if;
  select o.serial into wanted from meridian.ownership o
    where o.key operator(pg_catalog.=) ${value}::pg_catalog.text and o.state operator(pg_catalog.=) 'active';
  if (${take('wanted')} and ${presentVersion} operator(pg_catalog.=) meridian.planned_version()) is not true then
    perform meridian.claim_slowly(${value}::pg_catalog.text);
  end if;`;

const truncateSql = `
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
