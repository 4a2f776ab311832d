/**
 * What is done on one shard's primary in one round, over connections that live as long as the round.
 * The SQL is in `operator/postgres`; the order over shards is in `set-up-shards.ts`.
 */
import type { Client } from 'pg';
import type { AcceptedVerifiers } from '#operator/passwords/role-password.ts';
import { type ClientCredentials, connectMember, endQuietly, withMember } from '#operator/postgres/connect.ts';
import { ensureDatabase } from '#operator/postgres/database.ts';
import { runMigrations } from '#operator/postgres/migrations.ts';
import { installOwnership } from '#operator/postgres/ownership/install.ts';
import { protectTables } from '#operator/postgres/ownership/protect.ts';
import { type ApplicationRole, applyRole, dropRole, readRoles } from '#operator/postgres/roles.ts';
import type { RoleWish, SchemaWish, ShardTarget } from './actions.ts';
import { ShardProblemError, type ShardSession } from './set-up-shards.ts';

/** A migration may build an index over much data; everything else is quick. */
const migrationBounds = { statementTimeoutMs: 15 * 60_000, answerTimeoutMs: 16 * 60_000 };

export async function openShardSession(
  target: ShardTarget,
  wish: SchemaWish,
  credentials: ClientCredentials,
  accepted: ReadonlyMap<string, AcceptedVerifiers>,
): Promise<ShardSession> {
  const { member, ordinal } = target;
  await withMember(member, 'postgres', credentials, (client) => ensureDatabase(client, wish.database));
  const client = await connectMember(member, wish.database, credentials);
  let migrating: Client | undefined;
  const protection = { referenceTables: wish.referenceTables };
  return {
    async install() {
      await installOwnership(client, { tenantKey: wish.tenantKey, shardOrdinal: ordinal });
      const { rows } = await client.query<{ applied: number }>(
        'select count(*)::int as applied from meridian.migration_text',
      );
      return rows[0]?.applied ?? 0;
    },
    async migrate(upTo) {
      migrating ??= await connectMember(member, wish.database, credentials, migrationBounds);
      const run = await runMigrations(migrating, wish.migrations, { ...protection, upTo });
      return { applied: run.total, failure: run.failure };
    },
    async protect() {
      const [problem, ...others] = await protectTables(client, protection);
      if (problem === undefined) return;
      const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
      throw new ShardProblemError(problem.reason, `${problem.table}: ${problem.message}; ${problem.hint}${more}`);
    },
    async applyRoles() {
      const declared = new Set(wish.roles.map(({ name }) => name));
      for (const name of await readRoles(client)) if (!declared.has(name)) await dropRole(client, name);
      for (const role of wish.roles) {
        const verifiers = accepted.get(role.name);
        if (verifiers !== undefined) await applyRole(client, applicationRole(role, verifiers));
      }
    },
    async end() {
      await Promise.all([endQuietly(client), migrating === undefined ? undefined : endQuietly(migrating)]);
    },
  };
}

function applicationRole(role: RoleWish, { verifier, previous }: AcceptedVerifiers): ApplicationRole {
  return {
    name: role.name,
    verifier,
    ...(previous === undefined ? {} : { previousVerifier: previous.verifier }),
    ...(previous?.untilMs === undefined ? {} : { previousUntil: new Date(previous.untilMs) }),
    ...(role.validUntil === undefined ? {} : { validUntil: new Date(role.validUntil) }),
    ...('anyTenant' in role ? { anyTenant: true } : { tenants: role.tenants }),
  };
}
