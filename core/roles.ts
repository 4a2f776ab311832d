/**
 * The Postgres roles that Meridian itself uses, and the SQL that makes them right after `initdb`.
 * Application roles are made by the operator from the Keyspace; here are only the fixed ones.
 * Invariant: names that start with `meridian` are ours; the Keyspace schema refuses them for applications.
 * Source: PostgreSQL documentation, "Database Roles", "Client Authentication" (pg_hba.conf, User Name Maps).
 */

/** Bootstrap superuser; the agent's, over the local socket only. */
export const agentRole = 'meridian_agent';
/** What followers' Postgres and base copies log in as, through the agents' tunnels and the local socket only. */
export const replicationRole = 'meridian_replication';
/** Where pg_rewind reads a member's files, as `replicationRole`: grants are by database. */
export const rewindDatabase = 'postgres';
/** Superuser for the operator, over the network by certificate only. */
export const operatorRole = 'meridian_operator';
/** The router's own look-ups, by certificate only; may call the `meridian.router_*` functions and nothing else. */
export const routerRole = 'meridian_router';
/** Owns the `meridian` schema and every table of a keyspace; cannot log in. */
export const ownerRole = 'meridian_owner';
/** Bypasses row-level security for moves; cannot log in. */
export const moverRole = 'meridian_mover';
/** Every application role is a member; members come in only with the router's certificate. */
export const applicationGroup = 'meridian_application';
/** People and monitoring that log in to a member directly, with a password (SCRAM) over TLS. */
export const directGroup = 'meridian_direct';

/** The common name in each kind of certificate; `pg_ident.conf` maps it to roles. */
export const certificateNames = {
  member: 'meridian-member',
  router: 'meridian-router',
  operator: 'meridian-operator',
  /** Of applications; no `pg_ident.conf` has it, so no member lets it in. */
  role: 'meridian-client',
} as const;

/**
 * Makes the fixed roles; safe to run twice. Run as a superuser in `rewindDatabase`. Roles are shared by all databases of the
 * member. The functions are those that pg_rewind needs of its source ("pg_rewind", Notes); who may take a base copy may read
 * every file in any case.
 */
export const bootstrapRolesSql = `
do $$
declare
  wanted record;
begin
  for wanted in
    select * from (values
      ('${replicationRole}', 'login replication'),
      ('${operatorRole}', 'login superuser'),
      ('${routerRole}', 'login'),
      ('${ownerRole}', 'nologin'),
      ('${moverRole}', 'nologin bypassrls'),
      ('${applicationGroup}', 'nologin'),
      ('${directGroup}', 'nologin')
    ) as roles(name, options)
  loop
    if not exists (select from pg_catalog.pg_roles where rolname = wanted.name) then
      execute format('create role %I %s', wanted.name, wanted.options);
    end if;
  end loop;
  grant execute on function
    pg_catalog.pg_ls_dir(text, boolean, boolean), pg_catalog.pg_stat_file(text, boolean),
    pg_catalog.pg_read_binary_file(text), pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)
    to ${replicationRole};
end
$$;
`;
