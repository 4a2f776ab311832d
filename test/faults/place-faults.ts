/** Faults of whole nodes and regions, and of lines between them. */
import type { Fault, Field } from './fault.ts';
import { regions } from './manifests.ts';

const others = (field: Field): string[] => regions.filter((region) => region !== field.primary.region);

export const placeFaults: readonly Fault[] = [
  {
    name: 'node-paused',
    about: "the primary's node is frozen and thawed after the failover",
    expected: 'new epoch',
    lastsMs: 40_000,
    silentAtMostMs: 16_000,
    answersMayBeLate: true,
    inject: async ({ cluster, primary }) => {
      await cluster.faults.pause(primary.region);
      return () => cluster.faults.resume(primary.region);
    },
  },
  {
    name: 'node-killed',
    about: "power cut of the primary's node, which comes back after the failover",
    expected: 'new epoch',
    lastsMs: 40_000,
    silentAtMostMs: 16_000,
    inject: async ({ cluster, primary }) => {
      await cluster.faults.kill(primary.region);
      return () => cluster.faults.resume(primary.region);
    },
  },
  {
    name: 'region-cut-off',
    about: "the primary's region is cut from the other regions and from the API server",
    expected: 'new epoch',
    lastsMs: 40_000,
    silentAtMostMs: 16_000,
    inject: async (field) => {
      const { cluster, primary } = field;
      for (const other of [...others(field), 'api']) await cluster.faults.cut(primary.region, other);
      return () => cluster.faults.healNetwork();
    },
  },
  {
    name: 'region-cut-from-regions',
    about: "the primary's region is cut from the other regions, not from the API server",
    expected: 'new epoch',
    lastsMs: 40_000,
    silentAtMostMs: 20_000,
    inject: async (field) => {
      for (const other of others(field)) await field.cluster.faults.cut(field.primary.region, other);
      return () => field.cluster.faults.healNetwork();
    },
  },
  {
    name: 'region-cut-from-api',
    about: "the primary's region is cut from the API server only: everything goes on",
    expected: 'same epoch',
    lastsMs: 20_000,
    silentAtMostMs: 4_000,
    inject: async ({ cluster, primary }) => {
      await cluster.faults.cut(primary.region, 'api');
      return () => cluster.faults.healNetwork();
    },
  },
  {
    name: 'follower-region-cut-off',
    about: "a follower's region is cut from everything",
    expected: 'same epoch',
    lastsMs: 15_000,
    silentAtMostMs: 6_000,
    forms: 2,
    inject: async (field) => {
      const { cluster, round } = field;
      const region = others(field)[round % 2] ?? '';
      for (const other of [...regions.filter((each) => each !== region), 'api'])
        await cluster.faults.cut(region, other);
      return () => cluster.faults.healNetwork();
    },
  },
  {
    name: 'follower-paused',
    about: "a follower's node is frozen",
    expected: 'same epoch',
    lastsMs: 12_000,
    silentAtMostMs: 6_000,
    forms: 2,
    answersMayBeLate: true,
    inject: async (field) => {
      const region = others(field)[field.round % 2] ?? '';
      await field.cluster.faults.pause(region);
      return () => field.cluster.faults.resume(region);
    },
  },
  {
    name: 'slow-region',
    about: "80 ms between the regions, and 10 Mbit/s out of the primary's",
    expected: 'same epoch',
    lastsMs: 12_000,
    silentAtMostMs: 4_000,
    inject: async (field) => {
      const { cluster, primary } = field;
      for (const other of others(field)) await cluster.faults.addLatency(primary.region, other, 80);
      await cluster.faults.limitBandwidth(primary.region, '10mbit');
      return () => cluster.faults.unshapeAll();
    },
  },
];
