/**
 * Keyspace: the logical database that applications connect to: its tenant key, schema, roles, consistency and routers.
 * Which shards hold its rows is theirs to say (Shard.spec.keyspace). Roles are in `keyspace-roles.ts`, consistency rules
 * in `keyspace-consistency.ts`, migrations in `keyspace-schema.ts`, routers in `keyspace-routers.ts`.
 */
import { z } from 'zod';
import { consistency } from './keyspace-consistency.ts';
import { roles } from './keyspace-roles.ts';
import { routers } from './keyspace-routers.ts';
import { databaseNameMessage, identifier, isIdentifier, migrations, referenceTables } from './keyspace-schema.ts';
import { ageColumn, defineKind, messageColumn, phaseColumn } from './kind.ts';
import { mapOf } from './list.ts';
import { deletionPolicies, type MeridianManifest, type MeridianObject, nameLimits, statusBase } from './object.ts';
import { immutable, ruled } from './rule.ts';

export const tenantKeyTypes = ['text', 'uuid', 'bigint', 'integer'] as const;

const tenantKeyColumn = ruled(
  z.strictObject({
    column: identifier('a column name')
      .default('tenant_id')
      .describe('Name of the column that holds the tenant key in every tenant-owned table. Default: tenant_id.'),
    type: z
      .enum(tenantKeyTypes)
      .default('text')
      .describe('Type of that column: text, uuid, bigint or integer. Default: text.'),
  }),
  immutable('spec.tenantKey', 'every row of the keyspace carries it; make a new Keyspace'),
);

/** Postgres' own, and the routers' admin database. */
const databases = ['postgres', 'template0', 'template1', 'meridian'];

export const keyspaceSpec = ruled(
  z.strictObject({
    database: ruled(identifier('a database name'), {
      cel: `!(self in [${databases.map((name) => `'${name}'`).join(', ')}])`,
      message:
        "postgres, template0 and template1 are Postgres' own databases, meridian is the routers' admin database: choose another name",
      holds: (name) => !databases.includes(name),
    })
      .optional()
      .describe(
        "Name of the database that applications connect to. Can not be changed. Default: the keyspace's name with - as _.",
      ),
    tenantKey: tenantKeyColumn
      .prefault({})
      .describe('The column that says which tenant a row belongs to. Can not be changed.'),
    migrations: migrations
      .default([])
      .describe(
        'The schema: SQL that runs once on every shard, in this order, each in a transaction, as the owner of the tables. ' +
          'Names must sort in the order of the list (0001-..., 0002-...). Append only: what has run is never run again. ' +
          'One that fails stops there, and status says so. 500 at most. Default: none.',
      ),
    referenceTables: referenceTables
      .default([])
      .describe(
        'Tables that have the same rows on every shard and no tenant key, as name or schema.name (schema public where ' +
          'left out). Every other table must have the tenant key in its primary key and unique indexes. Default: none.',
      ),
    consistency: consistency.prefault({}).describe('Which consistency a read has that asks for none itself.'),
    routers: routers.prefault({}).describe('The routers through which applications connect.'),
    roles: roles
      .default([])
      .describe(
        'Logins for applications, and which tenants each may act for. For each a Secret KEYSPACE-role-ROLE (with _ as -) ' +
          'holds all that an application needs. 200 at most. Default: none.',
      ),
    passwordOverlapSeconds: z
      .int()
      .min(0)
      .max(2_592_000)
      .default(86_400)
      .describe(
        'Seconds for which the old password of a role is accepted too after it was rotated, 0 to 2592000 (30 days). ' +
          'Default: 86400 (one day).',
      ),
    deletionPolicy: z
      .enum(deletionPolicies)
      .default('Retain')
      .describe(
        'What happens to the Secrets of roles, and the authority that signed the certificates, when this object is ' +
          'deleted: Retain keeps them, so that a Keyspace made again has the same passwords, Delete deletes them. Rows are ' +
          'on the volumes of the shards, which go by their own policy and before the keyspace. Default: Retain.',
      ),
  }),
  {
    cel: '!has(self.consistency) || !has(self.consistency.rules) || self.consistency.rules.all(r, !has(r.role) || (has(self.roles) && self.roles.exists(o, o.name == r.role)))',
    message: 'spec.consistency.rules names a role that spec.roles does not have: add the role, or correct the rule',
    holds: (spec) =>
      spec.consistency.rules.every(({ role }) => role === undefined || spec.roles.some(({ name }) => name === role)),
  },
).describe('What the keyspace should be.');

const appliedShard = z.strictObject({
  name: z.string().min(1).max(nameLimits.shard).describe('Name of the Shard.'),
  ordinal: z
    .int()
    .min(0)
    .max(8191)
    .describe("The shard's number in the keyspace, given once: it decides the range its sequences draw from."),
  migrations: z.int().min(0).max(500).describe('How many migrations it has applied.'),
  ready: z.boolean().describe('Whether database, schema and roles are as the spec wants them.'),
});

export const keyspaceStatus = z
  .strictObject({
    ...statusBase,
    shards: mapOf(appliedShard, 'name', 1000)
      .optional()
      .describe('The shards of the keyspace, and how far each has got.'),
    nextOrdinal: z
      .int()
      .min(0)
      .max(8192)
      .optional()
      .describe(
        'The lowest ordinal that no shard was ever given. Only grows: rows keep the numbers of a shard that is gone.',
      ),
    schemaVersion: z.string().max(100).optional().describe('Name of the last migration that every shard has applied.'),
    migration: z
      .strictObject({
        failed: z.string().max(100).describe('Name of the migration that failed.'),
        shard: z.string().max(nameLimits.shard).describe('The shard on which it failed.'),
        message: z.string().max(4096).describe('What Postgres said.'),
      })
      .optional()
      .describe('The migration that failed, while one has: nothing after it runs until it is corrected.'),
    roles: mapOf(
      z.strictObject({
        name: z.string().max(41).describe('Name of the role.'),
        secret: z.string().max(253).describe('Name of the Secret with everything that an application needs.'),
      }),
      'name',
      200,
    )
      .optional()
      .describe('The roles that exist on every shard.'),
    routers: mapOf(
      z.strictObject({
        region: z.string().max(nameLimits.region).describe('The region.'),
        replicas: z.int().min(0).max(1000).describe('Router pods wanted.'),
        ready: z.int().min(0).max(1000).describe('Router pods that are ready.'),
        address: z.string().max(255).describe('Where clients connect: host and port.'),
      }),
      'region',
      64,
    )
      .optional()
      .describe('The routers, by region.'),
  })
  .describe('What there is. Written by the operator only.');

export type KeyspaceSpec = z.output<typeof keyspaceSpec>;
export type KeyspaceStatus = z.output<typeof keyspaceStatus>;
export type Keyspace = MeridianObject<'Keyspace', KeyspaceSpec, KeyspaceStatus>;
export type KeyspaceManifest = MeridianManifest<'Keyspace', z.input<typeof keyspaceSpec>>;

/** The database of a keyspace: `spec.database`, or the keyspace's name with - as _. */
export const databaseOf = (keyspace: { metadata: { name: string }; spec: { database?: string | undefined } }): string =>
  keyspace.spec.database ?? keyspace.metadata.name.replaceAll('-', '_');

export const keyspaceKind = defineKind({
  kind: 'Keyspace',
  plural: 'keyspaces',
  shortNames: ['mks'],
  description:
    'A Keyspace is the logical database that applications connect to: its tenant key, schema, roles, consistency and routers.',
  nameLimit: nameLimits.keyspace,
  spec: keyspaceSpec,
  status: keyspaceStatus,
  rules: [
    {
      cel: `has(self.spec.database) || !(self.metadata.name in [${databases.map((name) => `'${name}'`).join(', ')}])`,
      message: databaseNameMessage,
      holds: (keyspace) => isIdentifier(databaseOf(keyspace)) && !databases.includes(databaseOf(keyspace)),
    },
    {
      cel: "(has(self.spec.database) ? self.spec.database : self.metadata.name.replace('-', '_')) == (has(oldSelf.spec.database) ? oldSelf.spec.database : oldSelf.metadata.name.replace('-', '_'))",
      message: "spec.database can't be changed: make a new Keyspace with the other database",
    },
  ],
  printerColumns: [
    phaseColumn,
    {
      name: 'Schema',
      type: 'string',
      jsonPath: '.status.schemaVersion',
      description: 'The last migration everywhere.',
    },
    {
      name: 'Consistency',
      type: 'string',
      jsonPath: '.spec.consistency.default',
      description: 'The level of reads that ask for none.',
    },
    {
      name: 'Database',
      type: 'string',
      jsonPath: '.spec.database',
      description: 'The database, if named.',
      priority: 1,
    },
    {
      name: 'Tenant-Key',
      type: 'string',
      jsonPath: '.spec.tenantKey.column',
      description: 'The tenant key column.',
      priority: 1,
    },
    messageColumn,
    ageColumn,
  ],
});
