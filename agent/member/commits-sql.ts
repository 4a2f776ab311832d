/**
 * The tables of the agent's own commits, in the keyspace's database. Both have one row. `authority` is what followers, and
 * with it the router's reads, tell epochs by: epoch, timeline and fork are those of the record, `opening` counts the times
 * that a primary was opened. `heartbeat` is the canary; room is left in its page, so that its updates stay there.
 * The schema is the operator's as well (operator/postgres/ownership): whoever comes first makes it, the same way.
 */
import { agentMark } from '#agent/rejoin/scan.ts';
import { ownerRole, routerRole } from '#core/roles.ts';

export const prepareSql = `
begin;
create schema if not exists meridian authorization ${ownerRole};
create table if not exists meridian.authority (
  singleton boolean primary key default true check (singleton),
  epoch bigint not null,
  timeline bigint not null,
  fork_lsn pg_catalog.pg_lsn not null,
  opening bigint not null,
  at timestamptz not null
);
create table if not exists meridian.heartbeat (
  singleton boolean primary key default true check (singleton),
  beat bigint not null,
  at timestamptz not null
) with (fillfactor = 10);
alter table meridian.authority owner to ${ownerRole};
alter table meridian.heartbeat owner to ${ownerRole};
grant usage on schema meridian to ${routerRole};
grant select on meridian.authority, meridian.heartbeat to ${routerRole};
commit`;

/** $1 epoch, $2 timeline, $3 fork. */
export const gateSql = marked(`
insert into meridian.authority as known (epoch, timeline, fork_lsn, opening, at)
values ($1, $2, $3, 1, pg_catalog.clock_timestamp())
on conflict (singleton) do update
   set epoch = excluded.epoch, timeline = excluded.timeline, fork_lsn = excluded.fork_lsn,
       opening = known.opening + 1, at = excluded.at returning 1`);

export const heartbeatSql = marked(`
insert into meridian.heartbeat as known (beat, at) values (1, pg_catalog.clock_timestamp())
on conflict (singleton) do update set beat = known.beat + 1, at = excluded.at returning 1`);

/** A transaction of the agent's own, told by its mark from those that somebody could miss (agent/rejoin/scan.ts). */
function marked(statement: string): string {
  return `with own as (${statement}) select pg_catalog.pg_logical_emit_message(true, '${agentMark}', '') from own`;
}
