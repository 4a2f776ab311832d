// Placeholder until the next file is written.
import type { ClusterNode } from '../cluster.ts';
import type { Run } from '../process.ts';
export type Faults = Record<string, never>;
export function createFaults(_n: readonly ClusterNode[], _k: (args: readonly string[]) => Promise<string>, _r: Run): Faults { return {}; }
