// Are the cluster's nodes there and well? Used while a cluster comes up, whoever made it.
import { CommandError } from './process.ts';

export interface NodeObject {
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
  readonly spec?: { readonly podCIDR?: string };
  readonly status?: {
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message?: string }[];
    readonly addresses?: readonly { readonly type: string; readonly address: string }[];
  };
}

interface Lease {
  readonly metadata: { readonly name: string };
  readonly spec: { readonly renewTime?: string };
}

/**
 * What is wrong, one line per node; empty when all is well. With `since`, a node counts only once its kubelet has
 * renewed its lease after that: just after a restart the API server still holds what it heard before.
 */
export async function nodeProblems(
  kubectl: (args: readonly string[]) => Promise<string>,
  expected: number,
  since?: Date,
): Promise<string[]> {
  try {
    const nodes = list<NodeObject>(await kubectl(['get', 'nodes', '-o', 'json']));
    const leases =
      since === undefined ? [] : list<Lease>(await kubectl(['get', 'leases', '-n', 'kube-node-lease', '-o', 'json']));
    return problemsOf(nodes, leases, expected, since);
  } catch (error) {
    if (error instanceof CommandError) return [error.message];
    throw error;
  }
}

export function problemsOf(
  nodes: readonly NodeObject[],
  leases: readonly Lease[],
  expected: number,
  since?: Date,
): string[] {
  const problems = nodes.length < expected ? [`${nodes.length} of ${expected} nodes have registered`] : [];
  for (const { metadata, status } of nodes) {
    const ready = status?.conditions?.find(({ type }) => type === 'Ready');
    const renewedAt = leases.find((lease) => lease.metadata.name === metadata.name)?.spec.renewTime;
    if (ready?.status !== 'True') problems.push(`${metadata.name}: ${ready?.message ?? 'has not reported yet'}`);
    else if (since !== undefined && (renewedAt === undefined || new Date(renewedAt) < since)) {
      problems.push(`${metadata.name}: its kubelet has not been heard of`);
    }
  }
  return problems;
}

function list<T>(json: string): T[] {
  return (JSON.parse(json) as { items: T[] }).items;
}
