/**
 * Which API server to talk to: the pod's own, else `KUBECONFIG`, else `~/.kube/config`.
 */
import { homedir } from 'node:os';
import { delimiter } from 'node:path';
import { type Configuration, inClusterConfiguration, runsInCluster } from './configuration.ts';

export async function loadConfiguration(
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<Configuration> {
  const listed = (env['KUBECONFIG'] ?? '').split(delimiter).find((path) => path !== '');
  if (listed === undefined && runsInCluster(env)) return inClusterConfiguration({ env });
  // Read only here: a pod has no kubeconfig, and so no need of a YAML parser.
  const { kubeconfigConfiguration } = await import('./kubeconfig.ts');
  return kubeconfigConfiguration(listed ?? `${homedir()}/.kube/config`);
}
