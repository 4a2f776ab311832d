/**
 * Ways to get at another tenant's rows from a session that is pinned to `acme`; `ownership-pin.test.ts` runs each as a test. None may
 * show a text that contains `theirs` (in rows, notices or errors) or change a row of `globex`.
 */

export interface Attempt {
  readonly name: string;
  readonly sql: readonly string[];
  /** SQLSTATE of the last statement, or that it succeeds. */
  readonly ends: string;
}

const succeeds = '00000';
const denied = '42501';

/** What the attempts are made on. Every row of globex contains `theirs`. */
export const attemptSchema = `
create table notes (
  tenant_id text not null, id bigint not null, body text not null, primary key (tenant_id, id)
);
create table lines (
  tenant_id text not null, note_id bigint not null, n bigint generated always as identity, body text not null,
  primary key (tenant_id, n),
  foreign key (tenant_id, note_id) references notes (tenant_id, id) on delete cascade on update cascade
);
create table events (
  tenant_id text not null, id bigint not null, body text not null, primary key (tenant_id, id)
) partition by list (tenant_id);
create table events_acme partition of events for values in ('acme');
create table events_rest partition of events default;
create view notes_view as select * from notes;
create function all_notes() returns setof notes language sql security definer as 'select * from notes';
create function count_notes() returns bigint language plpgsql security definer as
  'begin execute ''set local meridian.tenant = globex''; return (select count(*) from notes); end';
create table log (tenant_id text not null, id bigint generated always as identity, body text not null, primary key (tenant_id, id));
create rule log_lines as on update to lines do also insert into log (tenant_id, body) select tenant_id, body from notes;
`;

export const attemptRows = (tenant: string, text: string): string => `
insert into notes values ('${tenant}', 1, '${text} 1'), ('${tenant}', 2, '${text} 2');
insert into lines (tenant_id, note_id, body) values ('${tenant}', 1, '${text} line');
insert into events values ('${tenant}', 1, '${text} event');
`;

const pretend = `select set_config('meridian.tenant', 'globex', false)`;

export const attempts: readonly Attempt[] = [
  { name: 'set_config', sql: [pretend, 'select * from notes'], ends: succeeds },
  { name: 'SET LOCAL', sql: ['begin', 'set local meridian.tenant = globex', 'select * from notes'], ends: succeeds },
  {
    name: 'an UPDATE of pg_settings, which is a SET that no gate sees',
    sql: [`update pg_settings set setting = 'off' where name = 'row_security'`],
    ends: denied,
  },
  {
    name: 'set_config inside the statement',
    sql: [`select set_config('meridian.tenant', 'globex', false), n.* from notes n`, 'select * from notes'],
    ends: succeeds,
  },
  {
    name: 'DO with dynamic SQL and notices',
    sql: [
      `do $$ declare r record; begin
         perform set_config('meridian.tenant', 'globex', true);
         for r in execute 'select * from notes' loop raise notice '%', r; end loop;
       end $$`,
    ],
    ends: succeeds,
  },
  {
    name: 'DO that writes',
    sql: [
      `do $$ begin perform set_config('meridian.tenant', 'globex', true); update notes set tenant_id = 'globex'; end $$`,
    ],
    ends: denied,
  },
  {
    name: 'a statement prepared before',
    sql: [
      'prepare p as select * from notes',
      'execute p',
      pretend,
      'execute p',
      'execute p',
      'execute p',
      'execute p',
      'execute p',
    ],
    ends: succeeds,
  },
  {
    name: 'a cursor opened before',
    sql: ['begin', 'declare c cursor for select * from notes', pretend, 'fetch all from c'],
    ends: succeeds,
  },
  { name: 'SET ROLE to the group', sql: ['set role meridian_application'], ends: denied },
  { name: 'SET ROLE to the owner', sql: ['set role meridian_owner'], ends: denied },
  { name: 'SET ROLE to the mover', sql: ['set role meridian_mover'], ends: denied },
  { name: 'SET ROLE to another login', sql: ['set role globex_app'], ends: denied },
  { name: 'SET SESSION AUTHORIZATION', sql: ['set session authorization globex_app'], ends: denied },
  { name: 'granting itself the owner', sql: ['grant meridian_owner to acme_app'], ends: denied },
  { name: 'giving itself BYPASSRLS', sql: ['alter role acme_app bypassrls'], ends: denied },
  {
    name: 'a default of its own',
    sql: [`alter role acme_app set meridian.tenant = 'globex'`],
    ends: denied,
  },
  { name: 'row_security off', sql: ['set row_security = off', 'select * from notes'], ends: denied },
  { name: 'disabling row-level security', sql: ['alter table notes disable row level security'], ends: denied },
  { name: 'disabling the trigger', sql: ['alter table notes disable trigger all'], ends: denied },
  { name: 'triggers off as on a replica', sql: ['set session_replication_role = replica'], ends: denied },
  { name: 'a policy of its own', sql: ['create policy p on notes using (true)'], ends: denied },
  { name: 'a rule of its own', sql: ['create rule r as on insert to notes do instead nothing'], ends: denied },
  { name: 'a function of its own', sql: [`create function f() returns int language sql as 'select 1'`], ends: denied },
  { name: 'a schema of its own', sql: ['create schema mine'], ends: denied },
  { name: 'TRUNCATE', sql: ['truncate notes cascade'], ends: denied },
  { name: 'a view', sql: [pretend, 'select * from notes_view'], ends: succeeds },
  { name: 'a SECURITY DEFINER function of a migration', sql: [pretend, 'select * from all_notes()'], ends: succeeds },
  { name: 'a function that sets the tenant', sql: ['select count_notes()', 'select * from notes'], ends: succeeds },
  { name: 'a rule of a migration', sql: [`update lines set body = 'ours again'`, 'select * from log'], ends: succeeds },
  { name: 'a partition', sql: ['select * from events_rest'], ends: denied },
  { name: 'a partitioned table', sql: [pretend, 'select * from events'], ends: succeeds },
  { name: 'a row of another tenant', sql: [`insert into notes values ('globex', 9, 'x')`], ends: denied },
  { name: 'a key that another tenant uses', sql: [`insert into notes values ('globex', 1, 'x')`], ends: denied },
  {
    name: 'ON CONFLICT DO UPDATE',
    sql: [`insert into notes values ('globex', 1, 'x') on conflict (tenant_id, id) do update set body = 'taken'`],
    ends: denied,
  },
  {
    name: 'MERGE',
    sql: [
      `merge into notes n using (values ('globex', 1)) v(t, i) on n.tenant_id = v.t and n.id = v.i
       when matched then delete when not matched then insert values (v.t, v.i, 'x')`,
    ],
    ends: denied,
  },
  { name: 'UPDATE of the key', sql: [`update notes set tenant_id = 'globex'`], ends: denied },
  {
    name: 'UPDATE and DELETE of others',
    sql: [`update notes set body = 'taken' where tenant_id = 'globex'`, `delete from notes where tenant_id <> 'acme'`],
    ends: succeeds,
  },
  {
    name: 'a cascade',
    sql: [pretend, `update notes set id = id + 100`, 'delete from notes', 'select * from lines'],
    ends: succeeds,
  },
  {
    name: 'a foreign key as a probe',
    sql: [`insert into lines (tenant_id, note_id, body) values ('globex', 1, '')`],
    ends: denied,
  },
  { name: 'locking rows', sql: [`select * from notes for update`], ends: succeeds },
  { name: 'a leaky predicate', sql: [`select * from notes where replace(body, 'ours ', '')::int > 0`], ends: succeeds },
  {
    name: 'rows by their place',
    sql: [`select * from notes where ctid = any (array['(0,1)', '(0,2)', '(0,3)', '(0,4)']::tid[])`],
    ends: succeeds,
  },
  { name: 'EXPLAIN ANALYZE', sql: ['explain (analyze, verbose) select * from notes'], ends: succeeds },
  { name: 'statistics', sql: [`select * from pg_stats where tablename = 'notes'`], ends: succeeds },
  { name: 'raw statistics', sql: ['select * from pg_statistic'], ends: denied },
  {
    name: 'a query inside a function of Postgres',
    sql: [`select query_to_xml('select * from notes', true, false, '')`],
    ends: succeeds,
  },
  { name: 'the list of logins', sql: ['select * from meridian.login'], ends: denied },
  { name: 'the verifiers', sql: ['select * from meridian.login_verifier'], ends: denied },
  { name: 'the look-ups of routers', sql: ['select * from meridian.router_logins()'], ends: denied },
  { name: 'writing the list of logins', sql: [`update meridian.login set fixed_tenant = 'globex'`], ends: denied },
  { name: 'what this shard owns', sql: ['select * from meridian.ownership'], ends: denied },
  { name: 'claiming another tenant', sql: [`select meridian.claim_slowly('globex')`], ends: denied },
  { name: 'claiming another tenant as policies do', sql: [`select meridian.claim_chosen('globex')`], ends: denied },
  { name: 'the lock of tenants', sql: [`select pg_advisory_lock(1, 1)`], ends: denied },
  { name: 'the lock of tenants, tried', sql: [`select pg_try_advisory_xact_lock_shared(1, 1)`], ends: denied },
  { name: 'large objects', sql: ['select lo_create(0)'], ends: denied },
  { name: 'ending another session', sql: ['select pg_terminate_backend(pg_backend_pid())'], ends: denied },
  { name: 'files of the server', sql: [`select pg_read_file('postgresql.conf')`], ends: denied },
];
