/**
 * Region: a failure domain with its own nodes, and how near the others are.
 * Which shards have replicas in it is theirs to say (RegionalReplica), not the region's.
 */
import { z } from 'zod';
import { ageColumn, defineKind, phaseColumn } from './kind.ts';
import { atomicListOf } from './list.ts';
import { type MeridianManifest, type MeridianObject, nameLimits, reference, statusBase } from './object.ts';
import { ruled } from './rule.ts';

const labelKeyForm = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;

export const regionSpec = z
  .strictObject({
    nodeSelector: ruled(z.record(z.string(), z.string().max(63)).meta({ maxProperties: 16 }), {
      cel: `self.all(key, key.size() <= 317 && key.matches('${labelKeyForm.source.replaceAll('\\/', '/')}'))`,
      message: 'spec.nodeSelector has a key that is no label key, such as topology.kubernetes.io/region',
      holds: (labels) => Object.keys(labels).every((key) => key.length <= 317 && labelKeyForm.test(key)),
    })
      .optional()
      .describe(
        'Labels of the nodes of this region. Every member and router of the region runs on nodes that have all of them. ' +
          'Default: topology.kubernetes.io/region with the name of this object.',
      ),
    proximity: atomicListOf(reference('region'), 63)
      .default([])
      .describe(
        'The other regions, nearest first, without this one. Routers here prefer followers in this order, after those in ' +
          'their own region; regions that are left out come last. Default: none.',
      ),
    drain: z
      .boolean()
      .default(false)
      .describe(
        'True moves all authority (primaries) out of the region, as before maintenance; followers stay. Nothing comes ' +
          'back by itself when it is set to false again. Default: false.',
      ),
  })
  .describe('What the region is.');

export const regionStatus = z
  .strictObject({
    ...statusBase,
    nodes: z.int().min(0).max(100_000).optional().describe('Nodes that match the selector.'),
    primaries: z.int().min(0).max(100_000).optional().describe('Shards whose primary is in this region now.'),
  })
  .describe('What the operator has found. Written by the operator only.');

export type RegionSpec = z.output<typeof regionSpec>;
export type RegionStatus = z.output<typeof regionStatus>;
export type Region = MeridianObject<'Region', RegionSpec, RegionStatus>;
export type RegionManifest = MeridianManifest<'Region', z.input<typeof regionSpec>>;

export const regionKind = defineKind({
  kind: 'Region',
  plural: 'regions',
  shortNames: ['mreg'],
  description:
    'A Region is a failure domain with its own nodes: where members and routers run, and which other regions are near.',
  nameLimit: nameLimits.region,
  spec: regionSpec,
  status: regionStatus,
  rules: [
    {
      cel: '!has(self.spec.proximity) || self.spec.proximity.all(r, r != self.metadata.name)',
      message: 'spec.proximity lists the other regions: take this region out of it',
      holds: ({ metadata, spec }) => !spec.proximity.includes(metadata.name),
    },
    {
      cel: '!has(self.spec.proximity) || self.spec.proximity.all(r, self.spec.proximity.exists_one(o, o == r))',
      message: 'spec.proximity names a region twice: keep the nearer place',
      holds: ({ spec }) => new Set(spec.proximity).size === spec.proximity.length,
    },
  ],
  printerColumns: [
    phaseColumn,
    { name: 'Nodes', type: 'integer', jsonPath: '.status.nodes', description: 'Nodes that match the selector.' },
    {
      name: 'Primaries',
      type: 'integer',
      jsonPath: '.status.primaries',
      description: 'Shards whose primary is here now.',
    },
    { name: 'Drain', type: 'boolean', jsonPath: '.spec.drain', description: 'Whether authority is moved out.' },
    { name: 'Nearest', type: 'string', jsonPath: '.spec.proximity', description: 'Nearest first.', priority: 1 },
    ageColumn,
  ],
});
