/**
 * Channels of LISTEN and NOTIFY for each tenant. Postgres' own are the whole database's, so a tenant would hear the others; here each
 * has its own, under names that only this shard can make (it keeps a secret), so that nobody speaks into another's, not from a DO block
 * either. Routers ask for the name (`router/session/channels.ts`); functions and triggers of the keyspace call `meridian.notify`.
 */
import { applicationGroup, ownerRole } from '#core/roles.ts';
import { readTenantSql } from './login-sql.ts';
import type { TenantKey } from './tenant-key.ts';

export const channelSql = (key: TenantKey): string => `
create table if not exists meridian.channel_secret (
  only_row boolean primary key default true check (only_row),
  secret bytea not null
);
insert into meridian.channel_secret (secret)
values (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())))
on conflict do nothing;

-- The name of the session's tenant's channel. Shorter than a name may be (NAMEDATALEN).
create or replace function meridian.channel(channel text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $function$
begin
  if channel is null or channel = '' or octet_length(channel) > 63 then
    raise exception using errcode = '22023', message = 'a channel''s name has 1 to 63 bytes';
  end if;
  return (
    select 'm_' || left(encode(sha256(s.secret
      || sha256(convert_to((${readTenantSql(key)})::text, 'UTF8')) || convert_to(channel, 'UTF8')), 'hex'), 40)
    from meridian.channel_secret s
  );
end
$function$;

-- What pg_notify() is elsewhere. Migrations and repairs act for no tenant, and tell nobody.
create or replace function meridian.notify(channel text, payload text default '') returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $function$
begin
  if not meridian.login_is_operator() then
    perform pg_notify(meridian.channel(channel), coalesce(payload, ''));
  end if;
end
$function$;
`;

export const channelPrivilegesSql = `
grant execute on function meridian.channel(text), meridian.notify(text, text) to ${applicationGroup};
revoke execute on function pg_notify(text, text) from public;
grant execute on function pg_notify(text, text) to ${ownerRole};
`;
