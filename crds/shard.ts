/**
 * Shard: one Postgres replication group: one primary, followers in other regions. What is wished is here, and how `kubectl get`
 * shows it; the record of authority is in `shard-status.ts`.
 */
import { z } from 'zod';
import { ageColumn, defineKind, messageColumn, phaseColumn } from './kind.ts';
import { deletionPolicies, type MeridianManifest, type MeridianObject, nameLimits, reference } from './object.ts';
import { postgres } from './postgres.ts';
import { resources } from './quantity.ts';
import { immutable, ruled } from './rule.ts';
import { type ShardStatus, shardStatus } from './shard-status.ts';
import { storage } from './storage.ts';

export const durabilityScopes = ['AnyMember', 'OtherRegion'] as const;
export const onLossPolicies = ['Block', 'ShrinkMembership'] as const;
export const failoverModes = ['Automatic', 'Manual'] as const;

export const durability = ruled(
  z.strictObject({
    acknowledgements: z
      .int()
      .min(0)
      .max(8)
      .default(1)
      .describe(
        'k: how many followers must have a commit on disk before the client hears of it, 0 to 8. No acknowledged commit ' +
          'is lost while at most k members fail at once. 0: the primary alone decides, and a failover may lose the last ' +
          'commits (reported exactly). Default: 1.',
      ),
    scope: z
      .enum(durabilityScopes)
      .default('AnyMember')
      .describe(
        'Which followers count: AnyMember, or OtherRegion for those outside the region of the primary only, so that a ' +
          'commit outlives the loss of its region (each commit then waits for the distance). Default: AnyMember.',
      ),
    onLoss: z
      .enum(onLossPolicies)
      .default('Block')
      .describe(
        'When so many followers are away that k can not acknowledge: Block holds commits until they are back; ' +
          'ShrinkMembership takes unreachable members off the list of those who count, never below k + 1 members. ' +
          'Default: Block.',
      ),
  }),
  {
    cel: "self.scope != 'OtherRegion' || self.acknowledgements >= 1",
    message: 'scope OtherRegion needs acknowledgements of at least 1: with 0 no commit waits for any region',
    holds: ({ scope, acknowledgements }) => scope !== 'OtherRegion' || acknowledgements >= 1,
  },
);

export const failover = z.strictObject({
  mode: z
    .enum(failoverModes)
    .default('Automatic')
    .describe(
      'Automatic: when the primary is gone, a follower that has every acknowledged commit takes over within seconds. ' +
        'Manual: a condition says so and somebody decides (annotation meridian.db/switchover). Default: Automatic.',
    ),
  priority: z
    .int()
    .min(0)
    .max(1000)
    .default(0)
    .describe(
      'Where many shards fail at once, those with the higher number are failed over first, 0 to 1000. Default: 0.',
    ),
});

export const shardSpec = z
  .strictObject({
    keyspace: ruled(
      reference('keyspace'),
      immutable('spec.keyspace', 'make a new Shard in the other keyspace'),
    ).describe('The Keyspace that the shard belongs to. Can not be changed.'),
    primaryRegion: reference('region').describe(
      'The Region preferred for the primary: the first primary starts there. After a failover nothing goes back by ' +
        'itself; a condition says that it could. Changing it asks for a switchover, once: a failover meanwhile settles it.',
    ),
    postgres: postgres.prefault({}).describe('Which Postgres, with which settings.'),
    resources: resources
      .optional()
      .describe("CPU and memory of each member's pod. Left out: no requests and no limits."),
    storage: storage.prefault({}).describe('The volume of each member. It can grow, never shrink.'),
    durability: durability
      .prefault({})
      .describe('How many followers, and which, must have a commit on disk before its client hears of it.'),
    failover: failover.prefault({}).describe('What happens when the primary is gone.'),
    deletionPolicy: z
      .enum(deletionPolicies)
      .default('Retain')
      .describe(
        'What happens to the volumes when this object is deleted: Retain keeps them, Delete removes them for good. ' +
          'A shard that still owns tenants is not deleted at all until they are gone. Default: Retain.',
      ),
  })
  .describe('What the shard should be.');

export type ShardSpec = z.output<typeof shardSpec>;
export type Shard = MeridianObject<'Shard', ShardSpec, ShardStatus>;
export type ShardManifest = MeridianManifest<'Shard', z.input<typeof shardSpec>>;

export const shardKind = defineKind({
  kind: 'Shard',
  plural: 'shards',
  shortNames: ['msh'],
  description: 'A Shard is one Postgres replication group: one primary, and followers in other regions.',
  nameLimit: nameLimits.shard,
  spec: shardSpec,
  status: shardStatus,
  printerColumns: [
    phaseColumn,
    {
      name: 'Primary',
      type: 'string',
      jsonPath: '.status.authority.member',
      description: 'The member with authority.',
    },
    { name: 'Region', type: 'string', jsonPath: '.status.authority.region', description: 'The region of the primary.' },
    {
      name: 'Epoch',
      type: 'integer',
      jsonPath: '.status.authority.epoch',
      description: 'Grows when authority changes.',
    },
    {
      name: 'Quorum',
      type: 'string',
      jsonPath: '.status.summary.quorum',
      description: 'Followers that acknowledge now, of those who count.',
    },
    {
      name: 'Lag',
      type: 'string',
      jsonPath: '.status.summary.lag',
      description: 'What the slowest follower that counts is below, coarsely.',
    },
    { name: 'Keyspace', type: 'string', jsonPath: '.spec.keyspace', description: 'The keyspace.' },
    {
      name: 'Followers',
      type: 'string',
      jsonPath: '.status.summary.followers',
      description: 'Every follower, with what it does unless that is following.',
      priority: 1,
    },
    {
      name: 'Preferred',
      type: 'string',
      jsonPath: '.spec.primaryRegion',
      description: 'The region preferred for the primary.',
      priority: 1,
    },
    {
      name: 'Acks',
      type: 'integer',
      jsonPath: '.spec.durability.acknowledgements',
      description: 'Followers that must have a commit on disk.',
      priority: 1,
    },
    messageColumn,
    ageColumn,
  ],
});
