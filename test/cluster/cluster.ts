// The test cluster as tests, the demo and the command line see it: one small interface, three providers behind it.
//
//   import { ensureCluster } from '#cluster/cluster.ts';
//   const cluster = await ensureCluster();
//   await cluster.loadImages([tag]);
//   await cluster.kubectl(['apply', '-f', '-'], manifest);
//
// Which provider: MERIDIAN_CLUSTER=local|k3d|existing, else k3d where it is installed and its image can be pulled, else
// local. A provider brings the machines up; kubectl, helm and the faults are the same for all.
import { dirname } from 'node:path';
import { createExistingProvider } from './existing/provider.ts';
import { createFaults, type Faults } from './faults/faults.ts';
import { ensureClients } from './go-programs.ts';
import { createK3dProvider, k3dIsUsable } from './k3d/provider.ts';
import { createLocalProvider, localClusterExists } from './local/provider.ts';
import { type Run, run } from './process.ts';

export type ProviderName = 'local' | 'k3d' | 'existing';
export const PROVIDER_NAMES: readonly ProviderName[] = ['local', 'k3d', 'existing'];

export interface ClusterNode {
  readonly name: string;
  /** The node's `topology.kubernetes.io/region`; null for a control plane. */
  readonly region: string | null;
  /** The Docker container that is the node; null where nodes aren't containers of this machine (no faults then). */
  readonly container: string | null;
  readonly address: string;
  readonly podCidr: string;
}

export interface ProviderStatus {
  readonly running: boolean;
  /** Lines for people. */
  readonly lines: readonly string[];
}

export interface Provider {
  readonly name: ProviderName;
  readonly kubeconfigPath: string;
  /** Brings the cluster up and returns when every node is Ready. Safe to call again; quick when nothing is to be done. */
  up(): Promise<void>;
  /** Removes the cluster; what was built for it stays in the cache. */
  down(): Promise<void>;
  status(): Promise<ProviderStatus>;
  /** Of a cluster that is up. */
  nodes(): Promise<readonly ClusterNode[]>;
  /** Makes local Docker images known to every region's nodes; those a node already has cost nothing. */
  loadImages(tags: readonly string[]): Promise<void>;
}

export interface Cluster {
  readonly provider: ProviderName;
  readonly kubeconfigPath: string;
  readonly nodes: readonly ClusterNode[];
  /** Absolute path of the pinned kubectl, for people's command lines. */
  readonly kubectlPath: string;
  readonly helmPath: string;
  /** Standard output; rejects with what kubectl printed. */
  kubectl(args: readonly string[], stdin?: string): Promise<string>;
  helm(args: readonly string[], stdin?: string): Promise<string>;
  loadImages(tags: readonly string[]): Promise<void>;
  readonly faults: Faults;
}

/** A running cluster: the one that is there, or a new one. */
export async function ensureCluster(name?: ProviderName): Promise<Cluster> {
  const provider = await chooseProvider(name);
  await provider.up();
  return attach(provider);
}

/** The cluster behind a provider that is up. */
export async function attach(provider: Provider, runner: Run = run): Promise<Cluster> {
  const clients = await ensureClients();
  const nodes = await provider.nodes();
  const env = { KUBECONFIG: provider.kubeconfigPath, PATH: `${dirname(clients.kubectl)}:${process.env['PATH'] ?? ''}` };
  const kubectl = (args: readonly string[], stdin?: string): Promise<string> =>
    runner([clients.kubectl, ...args], { env, stdin });
  return {
    provider: provider.name,
    kubeconfigPath: provider.kubeconfigPath,
    nodes,
    kubectlPath: clients.kubectl,
    helmPath: clients.helm,
    kubectl,
    helm: (args, stdin) => runner([clients.helm, ...args], { env, stdin }),
    loadImages: (tags) => provider.loadImages(tags),
    faults: createFaults(nodes, kubectl, runner),
  };
}

export async function chooseProvider(name = providerFromEnvironment()): Promise<Provider> {
  switch (name) {
    case 'local':
      return createLocalProvider();
    case 'k3d':
      return createK3dProvider();
    case 'existing':
      return createExistingProvider();
    case undefined:
      break;
  }
  const useK3d = !localClusterExists() && (await k3dIsUsable(run));
  return useK3d ? createK3dProvider() : createLocalProvider();
}

export function providerFromEnvironment(env: NodeJS.ProcessEnv = process.env): ProviderName | undefined {
  const wanted = env['MERIDIAN_CLUSTER'];
  if (wanted === undefined || wanted === '') return undefined;
  const found = PROVIDER_NAMES.find((name) => name === wanted);
  if (found === undefined) throw new Error(`MERIDIAN_CLUSTER=${wanted}: use ${PROVIDER_NAMES.join(', ')}`);
  return found;
}
