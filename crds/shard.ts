/**
 * Shard: one Postgres replication group: one primary, followers in other regions.
 * Invariant: `status.authority`, `membership` and `history` have one writer, and change by compare-and-swap only
 * (docs/design.md, section 4). What changes all the time (lag, load) is not in this object.
 */
import { z } from 'zod';
import { ageColumn, defineKind, messageColumn, phaseColumn } from './kind.ts';
import { atomicListOf, mapOf } from './list.ts';
import {
  deletionPolicies,
  incarnation,
  type MeridianManifest,
  type MeridianObject,
  nameLimits,
  reference,
  statusBase,
  timestamp,
} from './object.ts';
import { postgres } from './postgres.ts';
import { resources } from './quantity.ts';
import { immutable, ruled } from './rule.ts';
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
        'Manual: a condition says so and somebody decides. Default: Automatic.',
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
        'itself; a condition says that it could. Changing it asks for a switchover.',
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

const count = () => z.int().min(0).max(Number.MAX_SAFE_INTEGER);
const memberNameField = () => z.string().min(1).max(63);

export const shardAuthorityStates = ['Initialising', 'Active', 'Stopping'] as const;

export const shardAuthority = z.strictObject({
  epoch: count().min(1).describe('Grows exactly when the authority changes; 1 at first.'),
  timeline: z.int().min(1).max(4_294_967_295).describe('The Postgres timeline on which this authority writes.'),
  member: memberNameField().describe('The one member that may accept writes.'),
  incarnation: incarnation(),
  region: z.string().min(1).max(nameLimits.region).describe('The region of that member.'),
  since: timestamp('When the authority was decided.'),
  state: z
    .enum(shardAuthorityStates)
    .describe('Initialising: decided, not yet open. Active: open for clients. Stopping: about to be handed over.'),
});

export const memberIdentity = z.strictObject({
  name: memberNameField().describe('Name of the member.'),
  incarnation: incarnation(),
});

export const shardMembership = z.strictObject({
  generation: count().min(1).describe('Grows with every change of the membership; 1 at first.'),
  members: mapOf(memberIdentity, 'name', 64).describe(
    'Those who count: the primary, and the followers whose acknowledgements do.',
  ),
  acknowledgements: z.int().min(0).max(8).describe('k as it holds now; the wish is in spec.durability.'),
});

export const historyEntry = z.strictObject({
  epoch: count().min(1).describe('The epoch that began.'),
  timeline: z.int().min(1).max(4_294_967_295).describe('Its Postgres timeline.'),
  member: memberNameField().describe('Its primary.'),
  forkLsn: z
    .string()
    .max(17)
    .regex(/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/)
    .describe('The position in the write-ahead log at which it left the epoch before; 0/0 for the first.'),
});

export const shardStatus = z
  .strictObject({
    ...statusBase,
    authority: shardAuthority.optional().describe('The right to accept writes, and who has it.'),
    membership: shardMembership.optional().describe('Whose acknowledgements, promises and grants count.'),
    history: atomicListOf(historyEntry, 1000)
      .optional()
      .describe('Every epoch so far, oldest first: decides what a position of an older epoch means.'),
    systemIdentifier: z
      .string()
      .max(20)
      .regex(/^[0-9]{1,20}$/)
      .optional()
      .describe('The system identifier of the Postgres cluster, as initdb made it.'),
  })
  .describe('The record of authority. Written by the operator only.');

export type ShardSpec = z.output<typeof shardSpec>;
export type ShardStatus = z.output<typeof shardStatus>;
export type ShardAuthority = z.output<typeof shardAuthority>;
export type ShardMembership = z.output<typeof shardMembership>;
export type ShardHistoryEntry = z.output<typeof historyEntry>;
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
    { name: 'Keyspace', type: 'string', jsonPath: '.spec.keyspace', description: 'The keyspace.' },
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
