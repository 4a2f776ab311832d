/**
 * The tables of schema `meridian`. Tenant keys are kept in text form where any type may come, and typed where policies compare.
 * Every statement may run again on what is already there.
 */
import { ownerRole } from '#core/roles.ts';
import type { TenantKey } from './tenant-key.ts';

export const schemaSql = (key: TenantKey): string => `
create schema if not exists meridian authorization ${ownerRole};
set local role ${ownerRole};

-- One row: what can't change after the first installation, and which version of the SQL is installed.
create table if not exists meridian.settings (
  only_row boolean primary key default true check (only_row),
  tenant_column name not null,
  tenant_type text not null,
  shard_ordinal integer not null check (shard_ordinal between 0 and 8191),
  installed text not null default ''
);

-- A tenant's serial on this shard. Rows stay when the tenant is gone, so that a serial never means another tenant.
create table if not exists meridian.tenant (
  serial integer generated always as identity primary key,
  key text not null unique
);

-- What this shard owns. Room on the page for row locks and state changes without new index entries.
create table if not exists meridian.ownership (
  serial integer primary key references meridian.tenant,
  key text not null unique,
  epoch bigint not null check (epoch > 0),
  state text not null check (state in ('active', 'frozen', 'sealed', 'moved', 'cleaning')),
  attempt integer not null check (attempt >= 0),
  until timestamptz,
  check ((state = 'frozen') = (until is not null))
) with (fillfactor = 50);

-- How often meridian.ownership has changed, twice: in a row, which a snapshot shows as it was, and in a sequence, which everybody sees as
-- it is. While they are equal, what a snapshot shows of meridian.ownership is how things are (claim-sql.ts).
create table if not exists meridian.ownership_change (
  only_row boolean primary key default true check (only_row),
  version bigint not null
);
insert into meridian.ownership_change (version) values (1) on conflict do nothing;
create sequence if not exists meridian.ownership_version cache 1;
-- Only at first: a change on its way has moved the sequence on already, and it must never go back.
select setval('meridian.ownership_version', version) from meridian.ownership_change
where pg_sequence_last_value('meridian.ownership_version') is null;

-- Whom each login may act for. The fixed_ columns are there exactly for logins of one tenant.
create table if not exists meridian.login (
  name name primary key,
  any_tenant boolean not null,
  tenants text[] not null,
  allowed ${key.type}[],
  fixed_tenant ${key.type},
  fixed_serial integer references meridian.tenant,
  check (any_tenant = (allowed is null)),
  check ((fixed_tenant is null) = (fixed_serial is null)),
  check ((fixed_tenant is not null) = (not any_tenant and cardinality(tenants) = 1))
);

-- Apart from meridian.login, so that no function that applications reach reads secrets.
create table if not exists meridian.login_verifier (
  name name primary key references meridian.login on delete cascade,
  verifier text not null,
  previous_verifier text,
  previous_until timestamptz
);

create table if not exists meridian.reference_table (
  schema_name name,
  table_name name,
  primary key (schema_name, table_name)
);

-- Kysely's record of applied migrations and its lock have these forms; ours is the checksum beside them.
create table if not exists meridian.migrations (
  name varchar(255) primary key,
  "timestamp" varchar(255) not null
);
create table if not exists meridian.migration_lock (
  id varchar(255) primary key,
  is_locked integer not null default 0
);
create table if not exists meridian.migration_text (
  position integer primary key check (position > 0),
  name varchar(255) not null unique,
  sha256 text not null
);
reset role;
`;
