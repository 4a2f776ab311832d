// Whatever cluster KUBECONFIG points at: nothing is made or removed. Its nodes must carry
// `topology.kubernetes.io/region` labels. How images get there differs from cluster to cluster, so the command is the
// user's: MERIDIAN_LOAD_IMAGE="kind load docker-image" is run once per image with the tag added.
import type { ClusterNode, Provider } from '../cluster.ts';
import { ensureClients } from '../go-programs.ts';
import type { NodeObject } from '../node-health.ts';
import { nodeProblems } from '../node-health.ts';
import { type Run, run } from '../process.ts';

export const REGION_LABEL = 'topology.kubernetes.io/region';

export function createExistingProvider(runner: Run = run, env: NodeJS.ProcessEnv = process.env): Provider {
  const kubeconfigPath = env['KUBECONFIG'];
  if (kubeconfigPath === undefined || kubeconfigPath === '') {
    throw new Error('the provider `existing` takes the cluster that KUBECONFIG points at, and KUBECONFIG is not set');
  }
  const kubectl = async (args: readonly string[]): Promise<string> => {
    const clients = await ensureClients();
    return runner([clients.kubectl, ...args], { env: { KUBECONFIG: kubeconfigPath } });
  };
  const nodes = async (): Promise<ClusterNode[]> => {
    const { items } = JSON.parse(await kubectl(['get', 'nodes', '-o', 'json'])) as { items: NodeObject[] };
    return items.map((node) => toClusterNode(node, null));
  };
  return {
    name: 'existing',
    kubeconfigPath,
    nodes,
    up: async () => {
      const problems = await nodeProblems(kubectl, 1);
      if (problems.length > 0) throw new Error(`the cluster of ${kubeconfigPath}: ${problems.join('; ')}`);
      const regions = new Set((await nodes()).map((node) => node.region).filter((region) => region !== null));
      if (regions.size === 0)
        throw new Error(`no node of the cluster of ${kubeconfigPath} has a label ${REGION_LABEL}`);
    },
    down: async () => {
      throw new Error('the provider `existing` removes nothing: the cluster is not ours');
    },
    status: async () => {
      const problems = await nodeProblems(kubectl, 1);
      return { running: problems.length === 0, lines: problems };
    },
    loadImages: async (tags) => {
      for (const argv of loadCommands(env['MERIDIAN_LOAD_IMAGE'], tags)) await runner(argv);
    },
  };
}

export function loadCommands(loader: string | undefined, tags: readonly string[]): string[][] {
  if (loader === undefined || loader.trim() === '') {
    throw new Error(
      'set MERIDIAN_LOAD_IMAGE to the command that makes a local image known to the cluster, "kind load docker-image" for one; the tag is added to it',
    );
  }
  return tags.map((tag) => [...loader.trim().split(/\s+/), tag]);
}

export function toClusterNode(node: NodeObject, container: string | null): ClusterNode {
  return {
    name: node.metadata.name,
    region: node.metadata.labels?.[REGION_LABEL] ?? null,
    container,
    address: node.status?.addresses?.find(({ type }) => type === 'InternalIP')?.address ?? '',
    podCidr: node.spec?.podCIDR ?? '',
  };
}
