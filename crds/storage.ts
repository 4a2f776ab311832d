/**
 * The volume of a member, as Shard (for all its members) and RegionalReplica (for those of one region) describe it.
 * Invariant: a volume grows, and never shrinks.
 */
import { z } from 'zod';
import { storageSize } from './quantity.ts';
import { ruled } from './rule.ts';

export const storage = ruled(
  z.strictObject({
    size: ruled(storageSize, {
      cel: 'quantity(self).compareTo(quantity(oldSelf)) >= 0',
      message: 'a volume can grow, never shrink: give at least the size that it had',
    })
      .default('10Gi')
      .describe('Size in bytes, 256Mi to 64Ti. It can grow, never shrink. Default: 10Gi.'),
    storageClassName: z
      .string()
      .min(1)
      .max(253)
      .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/)
      .optional()
      .describe("The StorageClass of the volume. Can not be changed. Left out: the cluster's default class."),
  }),
  {
    cel: 'has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)',
    message: "storageClassName can't be changed: make a new RegionalReplica with the other class, then remove this one",
  },
);
