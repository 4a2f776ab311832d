/**
 * Application roles on one shard: the Postgres role, the tenants it may act for, and the verifiers that routers check passwords with.
 * Passwords and verifiers are made in `operator/passwords`; Postgres itself gets no password, since these roles come in with the
 * router's certificate only.
 * Invariants: an application role has no attribute, membership or setting but those given here; for one Postgres role (one OID) the
 * tenants never change, since plans hold them as constants (`ownership/login-sql.ts`): other tenants make another role of the same name.
 */
import type { ClientBase } from 'pg';
import { applicationGroup } from '#core/roles.ts';
import { readSettings } from './ownership/install.ts';
import { catalogType } from './ownership/tenant-key.ts';
import { canonicalKey, serialOf } from './ownership/tenants.ts';
import { identifier, inTransaction, literal } from './sql-text.ts';

export type RoleTenants =
  /** One tenant: the role is fixed to it. More: it is trusted with these, pinned by the setting `meridian.tenant`. None: it may act for nobody. */
  { readonly tenants: readonly string[] } | { readonly anyTenant: true };

export type ApplicationRole = {
  readonly name: string;
  /** SCRAM-SHA-256 verifier as Postgres writes it. */
  readonly verifier: string;
  /** Accepted as well, until `previousUntil` (without end while that is absent). Same salt and iterations. */
  readonly previousVerifier?: string;
  readonly previousUntil?: Date;
  /** VALID UNTIL: nobody logs in after it; sessions that are open go on, as in Postgres. Without end while absent. */
  readonly validUntil?: Date;
} & RoleTenants;

/** A name that isn't an application's: Meridian's own, Postgres' own, or of a role that somebody else made. */
export class RoleNameError extends Error {
  override name = 'RoleNameError';
}

const rolePattern = /^(?!pg_|meridian)[a-z_][a-z0-9_]{0,40}$/;

/** A client that leaves a transaction open would hold up its tenant's moves: after this long its session ends. */
const settings = { idle_in_transaction_session_timeout: '10min' } as const;

/**
 * Connected to the keyspace's database as `meridian_operator`. Idempotent. When the role's tenants change, it is dropped and made
 * anew: sessions that are open lose every privilege with their next statement, and the idle ones are ended.
 */
export async function applyRole(client: ClientBase, role: ApplicationRole): Promise<void> {
  checkName(role.name);
  const anyTenant = 'anyTenant' in role;
  const tenants = 'anyTenant' in role ? [] : await canonicalTenants(client, role.tenants);
  const wasReplaced = await inTransaction(client, async () => {
    await client.query('lock table meridian.login in share row exclusive mode');
    const replaced = await actsForOthers(client, role.name, anyTenant, tenants);
    if (replaced) await dropWithin(client, role.name);
    await applyPostgresRole(client, role.name, role.validUntil?.toISOString() ?? 'infinity');
    await applyLogin(client, role.name, anyTenant, tenants);
    await client.query(
      `insert into meridian.login_verifier (name, verifier, previous_verifier, previous_until) values ($1, $2, $3, $4)
       on conflict (name) do update
       set verifier = excluded.verifier, previous_verifier = excluded.previous_verifier, previous_until = excluded.previous_until
       where row(login_verifier.*) is distinct from row(excluded.*)`,
      [role.name, role.verifier, role.previousVerifier ?? null, role.previousUntil ?? null],
    );
    return replaced;
  });
  if (wasReplaced) await endSessionsOfDroppedRoles(client);
}

/** Takes the role away with its privileges; safe to run twice. Sessions of it that are open fail at their next statement. */
export async function dropRole(client: ClientBase, name: string): Promise<void> {
  checkName(name);
  await inTransaction(client, async () => {
    await client.query('lock table meridian.login in share row exclusive mode');
    await dropWithin(client, name);
  });
  await endSessionsOfDroppedRoles(client);
}

/** Names of the application roles that this shard knows, in order. */
export async function readRoles(client: ClientBase): Promise<readonly string[]> {
  const { rows } = await client.query<{ name: string }>('select name from meridian.login order by name');
  return rows.map((row) => row.name);
}

async function actsForOthers(
  client: ClientBase,
  name: string,
  anyTenant: boolean,
  tenants: readonly string[],
): Promise<boolean> {
  const { rowCount } = await client.query(
    'select from meridian.login where name = $1 and (any_tenant, tenants) is distinct from ($2, $3::text[])',
    [name, anyTenant, tenants],
  );
  return rowCount === 1;
}

async function dropWithin(client: ClientBase, name: string): Promise<void> {
  await client.query('delete from meridian.login where name = $1', [name]);
  if (!(await exists(client, name))) return;
  await refuseForeignRole(client, name);
  await client.query(`drop owned by ${identifier(name)}`);
  await client.query(`drop role ${identifier(name)}`);
}

/**
 * So that pools notice. Only idle sessions, which can't be waiting for their commit's acknowledgement (ending such a one would show
 * others what is not acknowledged); what the rest try next fails anyway.
 */
async function endSessionsOfDroppedRoles(client: ClientBase): Promise<void> {
  await client.query(
    `select pg_catalog.pg_terminate_backend(a.pid) from pg_catalog.pg_stat_activity a
     where a.datname = pg_catalog.current_database() and a.backend_type = 'client backend' and a.state like 'idle%'
       and not exists (select from pg_catalog.pg_roles r where r.oid = a.usesysid)`,
  );
}

function checkName(name: string): void {
  if (!rolePattern.test(name)) throw new RoleNameError(`"${name}" is not a name for an application role`);
}

async function canonicalTenants(client: ClientBase, keys: readonly string[]): Promise<string[]> {
  const canonical = new Set<string>();
  for (const key of keys) canonical.add(await canonicalKey(client, key));
  return [...canonical].toSorted();
}

async function exists(client: ClientBase, name: string): Promise<boolean> {
  const { rowCount } = await client.query('select from pg_catalog.pg_roles where rolname = $1', [name]);
  return rowCount === 1;
}

async function refuseForeignRole(client: ClientBase, name: string): Promise<void> {
  const { rowCount } = await client.query(
    `select from pg_catalog.pg_auth_members m where m.member = $1::regrole and m.roleid = $2::regrole`,
    [name, applicationGroup],
  );
  if (rowCount === 0) throw new RoleNameError(`role "${name}" exists and is not an application's`);
}

/** Roles can change their own settings (ALTER ROLE .. SET), so these are put back as well. */
async function applyPostgresRole(client: ClientBase, name: string, validUntil: string): Promise<void> {
  const role = identifier(name);
  if (await exists(client, name)) await refuseForeignRole(client, name);
  else await client.query(`create role ${role} in role ${applicationGroup}`);
  const { rows } = await client.query<RoleFacts>(roleFacts, [name, applicationGroup, validUntil]);
  const facts = rows[0];
  if (facts === undefined) throw new Error(`role ${name} vanished`);
  if (!facts.attributes_right) {
    await client.query(
      `alter role ${role} login inherit nosuperuser nocreatedb nocreaterole noreplication nobypassrls password null`,
    );
  }
  if (!facts.validity_right) await client.query(`alter role ${role} valid until ${literal(validUntil)}`);
  for (const other of facts.others) await client.query(`revoke ${identifier(other)} from ${role} cascade`);
  if (!facts.membership_right) {
    await client.query(`grant ${applicationGroup} to ${role} with inherit true, set false, admin false`);
  }
  const wanted = Object.entries(settings).map(([setting, value]) => `${setting}=${value}`);
  if (facts.settings.join('\n') === wanted.join('\n') && facts.databases.length === 0) return;
  for (const database of facts.databases) {
    await client.query(`alter role ${role} in database ${identifier(database)} reset all`);
  }
  await client.query(`alter role ${role} reset all`);
  for (const [setting, value] of Object.entries(settings)) {
    await client.query(`alter role ${role} set ${identifier(setting)} = ${literal(value)}`);
  }
}

interface RoleFacts {
  readonly attributes_right: boolean;
  readonly membership_right: boolean;
  readonly validity_right: boolean;
  readonly others: readonly string[];
  readonly settings: readonly string[];
  readonly databases: readonly string[];
}

const roleFacts = `
select
  r.rolcanlogin and r.rolinherit and not (r.rolsuper or r.rolcreatedb or r.rolcreaterole or r.rolreplication or r.rolbypassrls)
    and r.rolpassword is null as attributes_right,
  exists (
    select from pg_catalog.pg_auth_members m
    where m.member = r.oid and m.roleid = $2::regrole and m.inherit_option and not m.set_option and not m.admin_option
  ) as membership_right,
  coalesce(r.rolvaliduntil, 'infinity') = $3::timestamptz as validity_right,
  array(
    select g.rolname::text from pg_catalog.pg_auth_members m join pg_catalog.pg_roles g on g.oid = m.roleid
    where m.member = r.oid and m.roleid <> $2::regrole
  ) as others,
  coalesce((
    select s.setconfig from pg_catalog.pg_db_role_setting s where s.setrole = r.oid and s.setdatabase = 0
  ), '{}') as settings,
  array(
    select d.datname::text from pg_catalog.pg_db_role_setting s join pg_catalog.pg_database d on d.oid = s.setdatabase
    where s.setrole = r.oid
  ) as databases
from pg_catalog.pg_authid r where r.rolname = $1`;

async function applyLogin(
  client: ClientBase,
  name: string,
  anyTenant: boolean,
  tenants: readonly string[],
): Promise<void> {
  const fixed = !anyTenant && tenants.length === 1 ? tenants[0] : undefined;
  const serial = fixed === undefined ? null : await serialOf(client, fixed);
  const type = catalogType((await readSettings(client)).tenantKey);
  await client.query(
    `insert into meridian.login (name, any_tenant, tenants, allowed, fixed_tenant, fixed_serial) values
       ($1, $2, $3::text[], case when not $2 then $3::text[]::${type}[] end, case when $4::integer is not null then ($3::text[])[1]::${type} end, $4)
     on conflict (name) do nothing`,
    [name, anyTenant, tenants, serial],
  );
}
