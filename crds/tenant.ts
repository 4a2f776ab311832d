/**
 * Tenant: the unit of ownership, with where it may live and how much it may use.
 * Invariant: `status.authority` is changed by compare-and-swap only (docs/design.md, section 5).
 */
import { z } from 'zod';
import { ageColumn, defineKind, messageColumn, phaseColumn } from './kind.ts';
import { limits } from './limits.ts';
import { setOf } from './list.ts';
import {
  deletionPolicies,
  type MeridianManifest,
  type MeridianObject,
  nameLimits,
  reference,
  statusBase,
  timestamp,
} from './object.ts';
import { immutable, ruled } from './rule.ts';

/** No control characters, no blank at either end: a key is typed by people, into connection strings too. */
const isTenantKey = (key: string): boolean => /^[^\p{Cc}\s]([^\p{Cc}]*[^\p{Cc}\s])?$/u.test(key);

/** The tenant key, as text whatever its type in the tables. */
export const tenantKey = () =>
  ruled(z.string().min(1).max(128), {
    cel: "self.matches('^[^[:cntrl:]\\\\s]([^[:cntrl:]]*[^[:cntrl:]\\\\s])?$')",
    message: 'a tenant key has no control characters, and no blank at its beginning or end',
    holds: isTenantKey,
  });

export const tenantSpec = z
  .strictObject({
    keyspace: ruled(
      reference('keyspace'),
      immutable('spec.keyspace', 'make a new Tenant in the other keyspace'),
    ).describe('The Keyspace that the tenant belongs to. Can not be changed.'),
    key: ruled(tenantKey(), immutable('spec.key', 'make a new Tenant with the other key')).describe(
      'The value of the tenant key column in all rows of this tenant, as text; it must be a value of the type that the ' +
        "keyspace's tenantKey has. One Tenant at most for each key of a keyspace. Can not be changed.",
    ),
    shard: reference('shard')
      .optional()
      .describe(
        'The Shard on which the tenant should live. Left out: the operator places it on the least loaded one that ' +
          'allowedRegions permits, and it may be moved later.',
      ),
    allowedRegions: setOf(reference('region'), 64)
      .min(1)
      .optional()
      .describe(
        "Residency: the tenant's rows may lie in these regions only. A shard fits if every region in which it has a " +
          'RegionalReplica is listed. Left out: every region is allowed.',
      ),
    limits: limits.prefault({}).describe('How much the tenant may use, enforced by the routers.'),
    deletionPolicy: z
      .enum(deletionPolicies)
      .default('Retain')
      .describe(
        'What happens to the rows of the tenant when this object is deleted: Retain keeps them (nobody can reach them ' +
          'through the routers any more), Delete removes them for good. Default: Retain.',
      ),
  })
  .describe('Who the tenant is, where it may live and how much it may use.');

export const tenantAuthorityStates = ['active', 'switching'] as const;

export const tenantAuthority = z.strictObject({
  shard: z.string().min(1).max(nameLimits.shard).describe('The shard that owns the tenant.'),
  epoch: z
    .int()
    .min(1)
    .max(Number.MAX_SAFE_INTEGER)
    .describe('Grows by one exactly when the owning shard changes; 1 at first.'),
  state: z
    .enum(tenantAuthorityStates)
    .describe('active: the shard accepts writes for the tenant. switching: a move is about to decide.'),
  attempt: z.int().min(0).max(Number.MAX_SAFE_INTEGER).describe('Number of the last attempt to move; 0 before any.'),
});

export const tenantStatus = z
  .strictObject({
    ...statusBase,
    authority: tenantAuthority.optional().describe('Which shard owns the tenant. Changed by compare-and-swap only.'),
    placedAt: timestamp('When the tenant was placed on its first shard.').optional(),
    sizeBytes: z
      .int()
      .min(0)
      .max(Number.MAX_SAFE_INTEGER)
      .optional()
      .describe("Bytes that the tenant's rows take on its shard, about."),
  })
  .describe('Where the tenant is. Written by the operator only.');

export type TenantSpec = z.output<typeof tenantSpec>;
export type TenantStatus = z.output<typeof tenantStatus>;
export type TenantAuthority = z.output<typeof tenantAuthority>;
export type Tenant = MeridianObject<'Tenant', TenantSpec, TenantStatus>;
export type TenantManifest = MeridianManifest<'Tenant', z.input<typeof tenantSpec>>;

export const tenantKind = defineKind({
  kind: 'Tenant',
  plural: 'tenants',
  shortNames: ['mten'],
  description:
    'A Tenant is the unit of ownership in a keyspace: all rows with its key belong to it and lie on one shard at a time.',
  nameLimit: nameLimits.tenant,
  spec: tenantSpec,
  status: tenantStatus,
  printerColumns: [
    { name: 'Key', type: 'string', jsonPath: '.spec.key', description: 'The value of the tenant key column.' },
    phaseColumn,
    { name: 'Shard', type: 'string', jsonPath: '.status.authority.shard', description: 'The shard that owns it.' },
    {
      name: 'Epoch',
      type: 'integer',
      jsonPath: '.status.authority.epoch',
      description: 'How often it has moved, plus 1.',
    },
    { name: 'Keyspace', type: 'string', jsonPath: '.spec.keyspace', description: 'The keyspace.', priority: 1 },
    {
      name: 'Wanted',
      type: 'string',
      jsonPath: '.spec.shard',
      description: 'The shard wanted by the spec.',
      priority: 1,
    },
    messageColumn,
    ageColumn,
  ],
});
