// Waiting for a local cluster that was just started: the API server takes its first objects, every node reports Ready.
// What takes too long fails with the last lines of the log that should say why.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { nodeProblems } from '../node-health.ts';
import { CommandError, lastLines, run } from '../process.ts';
import { kubeconfigPath, logFolder } from './containers.ts';
import type { Layout } from './layout.ts';
import { clusterManifests } from './manifests.ts';

const READY_TIMEOUT_MS = 120_000;
const POLL_MS = 300;

export function kubectlAt(path: string) {
  return (args: readonly string[], stdin?: string): Promise<string> =>
    run([path, ...args], { stdin, env: { KUBECONFIG: kubeconfigPath() }, timeoutMs: 20_000 });
}

/** The objects that the nodes' programs need are the first thing written; that works as soon as the API server is ready. */
export async function untilApplied(layout: Layout, kubectlPath: string): Promise<void> {
  const kubectl = kubectlAt(kubectlPath);
  const giveUpAt = Date.now() + READY_TIMEOUT_MS;
  for (;;) {
    try {
      await kubectl(['get', '--raw', '/readyz']);
      await kubectl(['apply', '--server-side', '--force-conflicts', '-f', '-'], clusterManifests());
      return;
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      if (Date.now() > giveUpAt) {
        const log = await logTail(layout, layout.controlPlane.name, 'kube-apiserver');
        throw new Error(`${error.message}\n${log}`, { cause: error });
      }
      await sleep(POLL_MS);
    }
  }
}

export async function untilReady(layout: Layout, kubectlPath: string, since: Date): Promise<void> {
  const kubectl = kubectlAt(kubectlPath);
  const giveUpAt = Date.now() + READY_TIMEOUT_MS;
  for (;;) {
    const problems = await nodeProblems(kubectl, layout.nodes.length, since);
    if (problems.length === 0) break;
    if (Date.now() > giveUpAt) {
      const node = layout.nodes.find(({ name }) => problems.some((problem) => problem.startsWith(name)));
      const log = await logTail(layout, node?.name ?? layout.controlPlane.name, 'kubelet');
      throw new Error(`nodes not ready after ${READY_TIMEOUT_MS / 1000} s: ${problems.join('; ')}\n${log}`);
    }
    await sleep(POLL_MS);
  }
  // A kubelet may not set this label on itself (NodeRestriction).
  const label = 'node-role.kubernetes.io/control-plane=';
  await kubectl(['label', '--overwrite', 'node', layout.controlPlane.name, label]);
}

async function logTail(layout: Layout, nodeName: string, component: string): Promise<string> {
  const node = layout.nodes.find(({ name }) => name === nodeName) ?? layout.controlPlane;
  const path = join(logFolder(node), `${component}.log`);
  const container = await run(['docker', 'logs', '--tail', '20', nodeName]).catch(() => '');
  const log = await readFile(path, 'utf8').catch(() => '');
  return `${nodeName}: ${lastLines(container, 20)}\n${path}:\n${lastLines(log, 20)}`;
}
