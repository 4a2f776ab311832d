/**
 * The ownership check on writes: takes the tenant's lock in shared mode for the rest of the transaction, and checks that this shard owns
 * the tenant in state `active`; else SQLSTATE MD001. Every way to write has exactly one place that calls it (`pattern-sql.ts`):
 *
 * - logins of one tenant: a statement trigger, by the login's tenant;
 * - logins of several: the policies for writing, whose tenant comes from `claim_chosen`: what is claimed is the very value that the rows
 *   must equal, so changing the setting while the statement runs gets around nothing (trap B15);
 * - migrations (as `meridian_owner`, in the operator's session): the policies for writing, by each row's own tenant;
 * - superusers as such, whom no policy holds, are refused by the statement trigger: they write as `meridian_owner`, like migrations.
 *   (What moves rows between shards runs as `meridian_mover`, or with `session_replication_role = replica`, and answers for itself.)
 *
 * What a foreign key's cascade changes has the tenant of the row that it started from, which is claimed already.
 *
 * The lock comes first and the check second, so that a freeze is either waiting for this transaction or seen by it. The lock is tried,
 * never awaited: a freeze that holds it or waits for it makes later writers fail at once, so it can't be starved.
 *
 * The check has two ways. The fast one needs no query: plans hold as constants which tenants were active in which version of
 * `meridian.ownership`; as long as the sequence, which shows every change at once and to everybody, still has that version, nothing has
 * changed since. Each change moves both on, the sequence before it commits and under the tenant's exclusive lock, and has the constants
 * made anew (`next_version`). A constant made from an old snapshot, a change that was rolled back or a crash leave the two different:
 * then the slow way is taken, which is right, only slower, until the next change.
 * The slow way (`owns`) reads the row. In REPEATABLE READ and SERIALIZABLE the snapshot may be older than the lock, so there the row is
 * locked FOR SHARE as well: 40001 if it has changed since.
 *
 * In `login-sql.ts` is why the functions that every write calls set no search_path.
 */
import { ownerRole } from '#core/roles.ts';
import { identifier } from '../sql-text.ts';
import { tenantLockClass } from './lock.ts';
import { catalogType, type TenantKey } from './tenant-key.ts';

const take = (serial: string): string => `pg_catalog.pg_try_advisory_xact_lock_shared(${tenantLockClass}, ${serial})`;

const presentVersion = `pg_catalog.pg_sequence_last_value('meridian.ownership_version'::pg_catalog.regclass)`;

/** More active tenants than this are looked up one by one: the constant would cost each session too much memory. */
const plannedTenants = 5000;

/** A serial with the version that it was seen in, as one number, so that they can't come from two snapshots. */
const pack = (serial: string, version: string): string =>
  `(${serial}::pg_catalog.int8 operator(pg_catalog.<<) 32) operator(pg_catalog.|) (${version} operator(pg_catalog.&) 4294967295)`;

export const claimSql = (key: TenantKey): string =>
  `${versionSql}${slowSql}${statementSql}${sessionSql(key)}${rowSql(key)}${truncateSql}`;

const versionSql = `
-- The version of meridian.ownership that this plan was made with, if the login is fixed to a tenant that was active in it; else null.
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

-- The tenants that were active when this plan was made, each with its serial and that version.
create or replace function meridian.planned_tenants() returns pg_catalog.jsonb
language plpgsql immutable parallel safe security definer as $function$
declare
  answer pg_catalog.jsonb;
begin
  select pg_catalog.jsonb_object_agg(o.key, ${pack('o.serial', 'c.version')}) into answer
  from meridian.ownership o cross join meridian.ownership_change c
  where o.state operator(pg_catalog.=) 'active'
  having pg_catalog.count(*) operator(pg_catalog.<=) ${plannedTenants};
  return coalesce(answer, '{}');
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
  alter function meridian.planned_tenants() cost 100;
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
-- Before each statement, for logins of one tenant; and for superusers, who must be held by the policies.
create or replace function meridian.claim_statement() returns trigger
language plpgsql volatile security definer as $function$
begin
  -- One expression: PL/pgSQL prepares each anew in every transaction.
  if ${take('meridian.login_serial()')} and ${presentVersion} operator(pg_catalog.=) meridian.planned_active_version() then
    return null;
  end if;
  if meridian.login_serial() is not null then
    perform meridian.claim_slowly(meridian.login_tenant()::pg_catalog.text);
  elsif pg_catalog.current_setting('is_superuser') operator(pg_catalog.=) 'on' then
    raise exception using
      errcode = 'MD001',
      message = pg_catalog.format('a superuser does not write to "%s" as such: nothing would check who owns the rows', tg_table_name),
      hint = 'SET ROLE ${ownerRole} first: then each row is checked.';
  end if;
  return null;
end
$function$;
`;

const sessionSql = (key: TenantKey): string => `
-- For policies: the tenant that a session of several tenants has chosen, claimed. Applications may call it: it gives no more than a write.
create or replace function meridian.claim_chosen(chosen ${catalogType(key)}) returns ${catalogType(key)}
language plpgsql volatile security definer as $function$
declare
  seen pg_catalog.int8;
begin
  seen := (meridian.planned_tenants() operator(pg_catalog.->) chosen::pg_catalog.text)::pg_catalog.int8;
  if (chosen operator(pg_catalog.=) any (meridian.login_tenants())) is not false
    and ${take('(seen operator(pg_catalog.>>) 32)::pg_catalog.int4')}
    and (${presentVersion} operator(pg_catalog.&) 4294967295) operator(pg_catalog.=) (seen operator(pg_catalog.&) 4294967295)
  then
    return chosen;
  end if;
  return meridian.claim_chosen_slowly(chosen);
end
$function$;

-- The rest of it. Null in the operator's sessions, whose rows are claimed one by one.
create or replace function meridian.claim_chosen_slowly(chosen ${catalogType(key)}) returns ${catalogType(key)}
language plpgsql volatile as $function$
declare
  seen pg_catalog.int8;
begin
  if chosen is null or (chosen operator(pg_catalog.=) any (meridian.login_tenants())) is false then
    if meridian.login_is_operator() then
      return null;
    end if;
    return meridian.refuse_session(chosen);
  end if;
  -- Where the tenants are too many for a constant.
  select ${pack('o.serial', 'c.version')} into seen
  from meridian.ownership o cross join meridian.ownership_change c
  where o.key operator(pg_catalog.=) chosen::pg_catalog.text and o.state operator(pg_catalog.=) 'active';
  if (
    ${take('(seen operator(pg_catalog.>>) 32)::pg_catalog.int4')}
    and (${presentVersion} operator(pg_catalog.&) 4294967295) operator(pg_catalog.=) (seen operator(pg_catalog.&) 4294967295)
  ) is not true then
    perform meridian.claim_slowly(chosen::pg_catalog.text);
  end if;
  return chosen;
end
$function$;
`;

const rowSql = (key: TenantKey): string => `
-- For migrations' rows. Only for meridian_owner.
create or replace function meridian.claim_tenant(tenant ${catalogType(key)}) returns pg_catalog.bool
language plpgsql volatile security definer as $function$
begin
  perform meridian.claim_slowly(tenant::pg_catalog.text);
  return true;
end
$function$;

-- After an UPDATE that gave a row to another tenant, where the policy has claimed only the new one. Applications don't do that.
create or replace function meridian.check_tenant_change() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $function$
begin
  if not meridian.login_is_operator() then
    raise exception using
      errcode = '42501',
      message = format('a row of "%s" may not change its tenant', tg_table_name),
      hint = 'INSERT a row for the other tenant and DELETE this one.';
  end if;
  perform meridian.claim_slowly(old.${identifier(key.column)}::text);
  return null;
end
$function$;
`;

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
