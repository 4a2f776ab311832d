// The k3d provider: for machines where Docker can pull images and k3d is installed. One server and three agents, each
// agent labelled as a region. k3d's own server takes no pods, as the local provider's control plane takes none.
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { cachePath, withLock } from '../cache.ts';
import type { ClusterNode, Provider } from '../cluster.ts';
import { toClusterNode } from '../existing/provider.ts';
import { ensureClients, KUBERNETES_VERSION } from '../go-programs.ts';
import { REGIONS } from '../local/layout.ts';
import { type NodeObject, nodeProblems } from '../node-health.ts';
import { type Run, run, succeeds } from '../process.ts';
import { step } from '../progress.ts';

export const K3D_CLUSTER = 'meridian';
export const K3S_IMAGE = `rancher/k3s:v${KUBERNETES_VERSION}-k3s1`;
const PULL_TIMEOUT_MS = 120_000;

export async function k3dIsUsable(runner: Run): Promise<boolean> {
  if (!(await succeeds(runner, ['k3d', 'version']))) return false;
  if (await succeeds(runner, ['docker', 'image', 'inspect', K3S_IMAGE])) return true;
  return succeeds(runner, ['docker', 'pull', '-q', K3S_IMAGE], { timeoutMs: PULL_TIMEOUT_MS });
}

export function createCommand(): string[] {
  const labels = REGIONS.flatMap((region, agent) => [
    '--k3s-node-label',
    `topology.kubernetes.io/region=${region}@agent:${agent}`,
    '--k3s-node-label',
    `topology.kubernetes.io/zone=${region}-1@agent:${agent}`,
  ]);
  return [
    ['k3d', 'cluster', 'create', K3D_CLUSTER, '--image', K3S_IMAGE],
    ['--servers', '1', '--agents', String(REGIONS.length)],
    labels,
    ['--k3s-arg', '--node-taint=node-role.kubernetes.io/control-plane:NoSchedule@server:0'],
    ['--k3s-arg', '--disable=traefik@server:0', '--k3s-arg', '--disable=metrics-server@server:0'],
    ['--k3s-arg', '--kube-controller-manager-arg=node-monitor-grace-period=16s@server:0'],
    ['--no-lb', '--kubeconfig-update-default=false', '--kubeconfig-switch-context=false', '--wait'],
  ].flat();
}

export function createK3dProvider(runner: Run = run): Provider {
  const kubeconfigPath = cachePath('k3d', 'kubeconfig');
  const kubectl = async (args: readonly string[]): Promise<string> => {
    const clients = await ensureClients();
    return runner([clients.kubectl, ...args], { env: { KUBECONFIG: kubeconfigPath } });
  };
  const exists = (): Promise<boolean> => succeeds(runner, ['k3d', 'cluster', 'get', K3D_CLUSTER]);
  const nodes = async (): Promise<ClusterNode[]> => {
    const { items } = JSON.parse(await kubectl(['get', 'nodes', '-o', 'json'])) as { items: NodeObject[] };
    // k3d names a node after its container.
    return items.map((node) => toClusterNode(node, node.metadata.name));
  };
  return {
    name: 'k3d',
    kubeconfigPath,
    nodes,
    up: () =>
      withLock('cluster', async () => {
        if (await exists()) await runner(['k3d', 'cluster', 'start', K3D_CLUSTER, '--wait']);
        else await step('create the k3d cluster', () => runner(createCommand()));
        await mkdir(dirname(kubeconfigPath), { recursive: true });
        await runner(['k3d', 'kubeconfig', 'write', K3D_CLUSTER, '--output', kubeconfigPath, '--overwrite']);
        await step('wait for the nodes', async () => {
          await kubectl(['wait', '--for=condition=Ready', 'nodes', '--all', '--timeout=120s']);
        });
      }),
    down: () =>
      withLock('cluster', async () => {
        if (await exists()) await runner(['k3d', 'cluster', 'delete', K3D_CLUSTER]);
      }),
    status: async () => {
      if (!(await exists())) return { running: false, lines: ['no cluster'] };
      const problems = await nodeProblems(kubectl, 1 + REGIONS.length);
      return { running: problems.length === 0, lines: problems };
    },
    loadImages: async (tags) => {
      if (tags.length > 0) await runner(['k3d', 'image', 'import', '--cluster', K3D_CLUSTER, ...tags]);
    },
  };
}
