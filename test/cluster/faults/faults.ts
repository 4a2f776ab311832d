// The faults that tests put upon a cluster, each of which can be taken back: alone, or all at once by `healAll`. They
// act from outside the software under test: on a node's container, on its network, on processes seen from the node.
// Only clusters whose nodes are containers of this machine can be harmed so.
import type { ClusterNode } from '../cluster.ts';
import type { Run } from '../process.ts';
import { type AddressFaults, createAddressFaults } from './addresses.ts';
import { createDiskFaults, type DiskFaults } from './disk.ts';
import { createNetworkFaults, type NetworkFaults } from './network.ts';
import { createNodeFaults, type NodeFaults } from './nodes.ts';
import { createProcessFaults, type ProcessFaults } from './processes.ts';
import { createShapingFaults, type ShapingFaults } from './shaping.ts';
import { createTargets } from './targets.ts';

export interface Faults extends NodeFaults, NetworkFaults, AddressFaults, ProcessFaults, ShapingFaults, DiskFaults {
  /** Starts and resumes every node, and removes every cut, delay and limit. Stopped processes are continued, full volumes freed by pod. */
  healAll(): Promise<void>;
}

export type Kubectl = (args: readonly string[], stdin?: string) => Promise<string>;

export function createFaults(nodes: readonly ClusterNode[], kubectl: Kubectl, run: Run): Faults {
  const targets = createTargets(nodes);
  const node = createNodeFaults(targets, run);
  const network = createNetworkFaults(targets, run);
  const shaping = createShapingFaults(targets, run);
  return {
    ...node,
    ...network,
    ...shaping,
    ...createAddressFaults(targets, run),
    ...createDiskFaults(targets, kubectl, run),
    ...createProcessFaults(nodes, kubectl, run),
    healAll: async () => {
      // A frozen node can't be told anything: first they run again.
      await node.startAll();
      await network.healNetwork();
      await shaping.unshapeAll();
    },
  };
}
