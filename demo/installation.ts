/**
 * Puts Meridian on a cluster as a newcomer would: images built and loaded, the chart installed, an example applied, and
 * then waited for, with what is still missing told in the words of the objects' own conditions.
 * Shared by `npm run demo` and the end-to-end tests.
 */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Cluster } from '#cluster/cluster.ts';
import { run } from '#cluster/process.ts';
import { buildImages } from '../images/build.ts';
import project from '../package.json' with { type: 'json' };

export const projectFolder = dirname(dirname(fileURLToPath(import.meta.url)));
export const exampleFolder = join(projectFolder, 'examples', 'commerce');
export const systemNamespace = 'meridian-system';

export interface Images {
  readonly postgres: string;
  readonly programs: string;
}

/**
 * Builds what has changed and puts both images on every node, also under the version that the chart takes by default, so
 * that a plain `helm install meridian charts/meridian` finds them there.
 */
export async function provideImages(cluster: Cluster): Promise<Images> {
  const images = await buildImages();
  const released = {
    postgres: `meridian/postgres:${project.version}`,
    programs: `meridian/programs:${project.version}`,
  };
  await run(['docker', 'tag', images.postgres, released.postgres]);
  await run(['docker', 'tag', images.programs, released.programs]);
  await cluster.loadImages([images.postgres, images.programs, released.postgres, released.programs]);
  return images;
}

/** Installs or upgrades the operator by its chart and waits until it runs. */
export async function installOperator(cluster: Cluster, images: Images): Promise<void> {
  await cluster.helm([
    'upgrade',
    '--install',
    'meridian',
    join(projectFolder, 'charts', 'meridian'),
    '--namespace',
    systemNamespace,
    '--create-namespace',
    // The CRDs may have come by `kubectl apply -f crds/` before.
    '--take-ownership',
    '--set',
    `images.programs=${images.programs}`,
    '--set',
    `images.postgres=${images.postgres}`,
    '--wait',
    '--timeout',
    '300s',
  ]);
}

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
}

interface WithStatus {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly generation?: number };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly phase?: string;
    readonly conditions?: readonly Condition[];
  };
}

/** What an object that isn't ready says stands in the way; undefined when it is ready. */
export function notReady(object: WithStatus): string | undefined {
  const ready = object.status?.conditions?.find((condition) => condition.type === 'Ready');
  const name = `${object.kind.toLowerCase()}/${object.metadata.name}`;
  if (ready === undefined) return `${name} not seen yet`;
  if (
    object.status?.observedGeneration !== undefined &&
    object.status.observedGeneration < (object.metadata.generation ?? 0)
  ) {
    return `${name} not observed yet`;
  }
  return ready.status === 'True' ? undefined : `${name} ${ready.reason ?? ''}`;
}

/** Everything of ours in a namespace, as `kubectl get meridian` lists it. */
export async function meridianObjects(cluster: Cluster, namespace: string): Promise<readonly WithStatus[]> {
  const list = await cluster.kubectl([
    'get',
    'regions,keyspaces,shards,regionalreplicas,tenants',
    '-n',
    namespace,
    '-o',
    'json',
  ]);
  return (JSON.parse(list) as { items: WithStatus[] }).items;
}

/** Waits until every Meridian object of the namespace says Ready, or says which don't and why. */
export async function waitUntilReady(
  cluster: Cluster,
  namespace: string,
  timeoutMs: number,
  tell: (what: string) => void = () => {},
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const objects = await meridianObjects(cluster, namespace).catch((error: unknown) => {
      // An API server that doesn't answer for a moment is nothing to give up for.
      if (performance.now() > deadline) throw error;
      return [];
    });
    const waiting = objects.map(notReady).filter((reason) => reason !== undefined);
    if (objects.length > 0 && waiting.length === 0) return;
    tell(`${objects.length - waiting.length}/${objects.length} ready; ${waiting.slice(0, 2).join('; ')}`);
    if (performance.now() > deadline) {
      throw new Error(`not ready after ${Math.round(timeoutMs / 1000)} s: ${waiting.join('; ')}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
