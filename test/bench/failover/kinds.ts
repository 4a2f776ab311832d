/** The ways in which a primary is lost, or moved on purpose, side by side. */
import { annotations } from '#core/names.ts';
import { faultNamed } from '../../faults/catalogue.ts';
import type { Field, Heal } from '../../faults/fault.ts';
import { shardName } from '../../faults/manifests.ts';

export interface Kind {
  readonly name: string;
  /** 95 of 100 rounds shall be over in this time, with followers that acknowledge. */
  readonly toReachMs: number;
  /** Where the leading operator is in the region that is lost. */
  readonly toReachWithLeaderMs: number;
  readonly mayCostErrors: boolean;
  /** Whether another member leads afterwards, at all events. */
  readonly movesPrimary: boolean;
  inject(field: Field): Promise<Heal>;
}

const byFault = (name: string) => (field: Field) => faultNamed(name).inject(field);

export const kinds: readonly Kind[] = [
  {
    name: 'switchover',
    toReachMs: 2_000,
    toReachWithLeaderMs: 2_000,
    mayCostErrors: false,
    movesPrimary: true,
    inject: async (field) => {
      const [target] = field.followers.toSorted((a, b) => a.name.localeCompare(b.name));
      if (target === undefined) throw new Error('no follower to hand over to');
      field.note(`to ${target.name}`);
      const shard = shardName(field.installation.keyspace);
      await field.installation.kubectl([
        'annotate',
        'shard',
        shard,
        `${annotations.switchover}=${target.name}`,
        '--overwrite',
      ]);
      return async () => {};
    },
  },
  {
    name: 'crash',
    toReachMs: 4_000,
    toReachWithLeaderMs: 4_000,
    mayCostErrors: true,
    movesPrimary: false,
    inject: byFault('postgres-killed'),
  },
  {
    name: 'pod-lost',
    toReachMs: 8_000,
    toReachWithLeaderMs: 8_000,
    mayCostErrors: true,
    movesPrimary: false,
    inject: byFault('pod-deleted'),
  },
  {
    name: 'node-paused',
    toReachMs: 8_000,
    toReachWithLeaderMs: 10_000,
    mayCostErrors: true,
    movesPrimary: true,
    inject: byFault('node-paused'),
  },
  {
    name: 'region-cut',
    toReachMs: 8_000,
    toReachWithLeaderMs: 10_000,
    mayCostErrors: true,
    movesPrimary: true,
    inject: byFault('region-cut-off'),
  },
];
