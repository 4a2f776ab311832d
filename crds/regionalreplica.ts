/**
 * RegionalReplica: a shard's instances in one region. Only these make instances, in the primary's region too.
 * How far each member is behind is not here: it changes all the time, and is served by the agents (status API, metrics).
 */
import { z } from 'zod';
import { ageColumn, defineKind, messageColumn, phaseColumn } from './kind.ts';
import { mapOf } from './list.ts';
import {
  incarnation,
  type MeridianManifest,
  type MeridianObject,
  nameLimits,
  reference,
  statusBase,
} from './object.ts';
import { resources } from './quantity.ts';
import { immutable, ruled } from './rule.ts';
import { storage } from './storage.ts';

export const regionalReplicaSpec = ruled(
  z.strictObject({
    shard: ruled(
      reference('shard'),
      immutable('spec.shard', 'make a new RegionalReplica for the other shard'),
    ).describe('The Shard whose instances these are. Can not be changed.'),
    region: ruled(
      reference('region'),
      immutable('spec.region', 'make a new RegionalReplica in the other region'),
    ).describe('The Region whose nodes they run on. Can not be changed.'),
    instances: z
      .int()
      .min(0)
      .max(9)
      .default(1)
      .describe(
        'How many Postgres instances (members) to run, 0 to 9. `kubectl scale` changes it too. 0 keeps the volumes, and ' +
          'is refused by a condition while one of them is the primary. Default: 1.',
      ),
    storage: storage
      .optional()
      .describe("The volume of each instance. Left out: as the Shard's spec.storage says. It can grow, never shrink."),
    resources: resources
      .optional()
      .describe("CPU and memory of each pod. Left out: as the Shard's spec.resources says."),
    promotable: z
      .boolean()
      .default(true)
      .describe(
        'Whether an instance here may become primary. False makes them readers only: they still acknowledge commits. ' +
          'Default: true.',
      ),
  }),
  {
    cel: 'has(self.storage) || !has(oldSelf.storage)',
    message: "spec.storage can't be taken away once it is set: volumes never shrink",
  },
).describe('How many instances of the shard run in the region, and with what.');

export const memberRoles = ['primary', 'follower', 'none'] as const;

export const memberStatus = z.strictObject({
  name: z.string().min(1).max(63).describe('Name of the member, which is that of its pod.'),
  incarnation: incarnation().optional(),
  address: z.string().max(64).optional().describe("The pod's IP address, where agent and routers reach it."),
  phase: z.string().max(40).describe('State of the member in one word.'),
  role: z.enum(memberRoles).describe('What its Postgres does: primary, follower, or none while it does not run.'),
});

export const regionalReplicaStatus = z
  .strictObject({
    ...statusBase,
    instances: z.int().min(0).max(64).optional().describe('Pods that exist.'),
    readyInstances: z
      .int()
      .min(0)
      .max(64)
      .optional()
      .describe('Pods that are ready: Postgres runs and follows, or leads.'),
    selector: z.string().max(1024).optional().describe('Label selector of the pods, for the scale subresource.'),
    members: mapOf(memberStatus, 'name', 64)
      .optional()
      .describe('The members, by name. Changes only when a pod does; lag is not here.'),
  })
  .describe('What runs. Written by the operator only.');

export type RegionalReplicaSpec = z.output<typeof regionalReplicaSpec>;
export type RegionalReplicaStatus = z.output<typeof regionalReplicaStatus>;
export type RegionalReplicaMember = z.output<typeof memberStatus>;
export type RegionalReplica = MeridianObject<'RegionalReplica', RegionalReplicaSpec, RegionalReplicaStatus>;
export type RegionalReplicaManifest = MeridianManifest<'RegionalReplica', z.input<typeof regionalReplicaSpec>>;

export const regionalReplicaKind = defineKind({
  kind: 'RegionalReplica',
  plural: 'regionalreplicas',
  shortNames: ['mrr'],
  description: "A RegionalReplica is a shard's Postgres instances in one region.",
  nameLimit: nameLimits.regionalReplica,
  spec: regionalReplicaSpec,
  status: regionalReplicaStatus,
  scale: {
    specReplicasPath: '.spec.instances',
    statusReplicasPath: '.status.instances',
    labelSelectorPath: '.status.selector',
  },
  printerColumns: [
    phaseColumn,
    { name: 'Shard', type: 'string', jsonPath: '.spec.shard', description: 'The shard.' },
    { name: 'Region', type: 'string', jsonPath: '.spec.region', description: 'The region.' },
    { name: 'Wanted', type: 'integer', jsonPath: '.spec.instances', description: 'Instances wanted.' },
    { name: 'Ready', type: 'integer', jsonPath: '.status.readyInstances', description: 'Instances ready.' },
    {
      name: 'Promotable',
      type: 'boolean',
      jsonPath: '.spec.promotable',
      description: 'Whether an instance may become primary.',
      priority: 1,
    },
    messageColumn,
    ageColumn,
  ],
});
