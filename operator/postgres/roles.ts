/**
 * Application roles on one shard: the Postgres role, the tenants it may act for, and the verifiers that routers check passwords with.
 * Passwords and verifiers are made elsewhere (`operator/passwords`).
 */
import type { ClientBase } from 'pg';

export type RoleTenants =
  /** One tenant: the role is fixed to it. More: it is trusted with these, pinned by the setting `meridian.tenant`. None: it may act for nobody. */
  { readonly tenants: readonly string[] } | { readonly anyTenant: true };

export type ApplicationRole = {
  readonly name: string;
  /** SCRAM-SHA-256 verifier as Postgres writes it. */
  readonly verifier: string;
  /** Accepted as well, until `previousUntil` (for ever while that is absent). Same salt and iterations. */
  readonly previousVerifier?: string;
  readonly previousUntil?: Date;
} & RoleTenants;

/** Connected to the keyspace's database as `meridian_operator`. Idempotent; one transaction. Sessions of a role whose tenants changed are ended. */
export async function applyRole(_client: ClientBase, _role: ApplicationRole): Promise<void> {
  throw new Error('not written yet');
}

/** Takes the role away with its privileges and sessions; safe to run twice. */
export async function dropRole(_client: ClientBase, _name: string): Promise<void> {
  throw new Error('not written yet');
}

/** Names of the application roles that this shard knows. */
export async function readRoles(_client: ClientBase): Promise<readonly string[]> {
  throw new Error('not written yet');
}
