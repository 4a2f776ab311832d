// The local provider: Kubernetes nodes as containers, built from Go modules and Debian packages only, so it needs no
// image registry. This file is the order of steps; what the steps render is in the pure files beside it. Everything it
// makes carries the label meridian.test/cluster, or lies under `cluster/` in the cache folder.
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { cacheFolder, cachePath, withLock } from '../cache.ts';
import type { ClusterNode, Provider, ProviderStatus } from '../cluster.ts';
import { keyOf, keyOfFolder } from '../content-key.ts';
import { BASE_IMAGE, ensureBaseImage } from '../docker/base-image.ts';
import { ensureDocker, ensurePrograms } from '../docker/daemon.ts';
import { buildImage } from '../docker/image.ts';
import { createFaults } from '../faults/faults.ts';
import { ensureClients, ensureGoProgram } from '../go-programs.ts';
import { nodeProblems } from '../node-health.ts';
import { CommandError, run, succeeds } from '../process.ts';
import { note, step } from '../progress.ts';
import {
  CACHE_LABEL,
  capabilities,
  createCommand,
  dockerVolumes,
  hostRoutes,
  imagesFolder,
  kubeconfigPath,
  LABEL,
  logFolder,
  networkCommand,
  nodeFolder,
  type Programs,
  readBoundingSet,
  SOURCE_LABEL,
  volumesFolder,
} from './containers.ts';
import { nodeFiles } from './files.ts';
import { loadImages } from './image-load.ts';
import { kubeconfig } from './kubeconfig.ts';
import { chooseNodePrefix, type Layout, layoutFor, NETWORK, routedNetworks, SERVICE_CIDR } from './layout.ts';
import { createPki } from './pki.ts';
import { kubectlAt, untilApplied, untilReady } from './readiness.ts';

const LOCK = 'cluster';

const prefixPath = (): string => cachePath('cluster', 'node-prefix');

export function createLocalProvider(): Provider {
  return {
    name: 'local',
    kubeconfigPath: kubeconfigPath(),
    up: () => withLock(LOCK, up),
    down: () => withLock(LOCK, down),
    status,
    nodes: async () => clusterNodes(await currentLayout()),
    loadImages: async (tags) => loadImages(clusterNodes(await currentLayout()), tags),
  };
}

export function localClusterExists(): boolean {
  return existsSync(prefixPath());
}

async function up(): Promise<void> {
  await ensureDocker();
  await refuseForeignCluster();
  await noteOtherSources();
  const states = await containerStates();
  if (existsSync(prefixPath())) {
    const layout = await currentLayout();
    if (layout.nodes.every((node) => states.has(node.name))) {
      if (await revive(layout, states)) return;
      note('the cluster that was here does not come back: it is made anew');
    }
  }
  await remove();
  await create();
}

/** Starts again whatever stands still. False when the nodes don't get Ready. */
async function revive(layout: Layout, states: ReadonlyMap<string, string>): Promise<boolean> {
  const startedAt = new Date();
  const paused = layout.nodes.filter((node) => states.get(node.name) === 'paused').map((node) => node.name);
  const stopped = layout.nodes
    .filter((node) => !['running', 'paused'].includes(states.get(node.name) ?? ''))
    .map((node) => node.name);
  try {
    if (paused.length > 0) await run(['docker', 'unpause', ...paused]);
    if (stopped.length > 0) await step(`start ${stopped.join(', ')}`, () => run(['docker', 'start', ...stopped]));
    await layHostRoutes(layout);
    const { kubectl } = await ensureClients();
    if ((await nodeProblems(kubectlAt(kubectl), layout.nodes.length)).length === 0 && stopped.length === 0) return true;
    // A cut that a test left behind would keep a node from getting ready for ever.
    await createFaults(clusterNodes(layout), kubectlAt(kubectl), run).healAll();
    await step('wait for the nodes', () => untilReady(layout, kubectl, startedAt));
    return true;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    note(error.message);
    return false;
  }
}

async function create(): Promise<void> {
  await ensurePrograms(['ip']);
  // Compiling and installing packages wait for different things.
  const [image, [programs, clients]] = await Promise.all([nodeImage(), goPrograms()]);
  const pauseTag = await buildImage({
    repository: 'meridian/pause',
    dockerfile: join(import.meta.dirname, 'pause.Dockerfile'),
    context: programs.node,
  });
  const startedAt = new Date();
  const layout = layoutFor(chooseNodePrefix(routedNetworks(await run(['ip', '-4', 'route', 'show', 'table', 'all']))));
  await step('start the nodes', async () => {
    await writeFiles(layout, pauseTag);
    await run(networkCommand(layout));
    const source = await sourceKey();
    const granted = capabilities(readBoundingSet(await readFile('/proc/self/status', 'utf8')));
    await Promise.all(
      layout.nodes.map(async (node) => {
        await run(createCommand(layout, node, image, programs, granted, source));
        await run(['docker', 'start', node.name]);
      }),
    );
    await layHostRoutes(layout);
  });
  await step('wait for the API server', () => untilApplied(layout, clients.kubectl));
  await step('wait for the nodes', () => untilReady(layout, clients.kubectl, startedAt));
}

async function nodeImage(): Promise<string> {
  await ensureBaseImage();
  const context = cachePath('empty');
  await mkdir(context, { recursive: true });
  return buildImage({ repository: 'meridian/node', dockerfile: join(import.meta.dirname, 'node.Dockerfile'), context });
}

async function goPrograms(): Promise<[Programs, { kubectl: string; helm: string }]> {
  const clients = await ensureClients();
  const programs = {
    kube: await ensureGoProgram('kube'),
    coredns: await ensureGoProgram('coredns'),
    node: await ensureGoProgram('node'),
  };
  return [programs, clients];
}

async function writeFiles(layout: Layout, pauseTag: string): Promise<void> {
  const pki = await createPki(layout, new Date());
  await mkdir(imagesFolder(), { recursive: true });
  for (const node of layout.nodes) {
    await mkdir(logFolder(node), { recursive: true });
    await mkdir(join(volumesFolder(), node.name), { recursive: true });
    for (const [name, content] of Object.entries(nodeFiles(layout, node, pki, pauseTag))) {
      await writePrivate(join(nodeFolder(node), name), content);
    }
    await run(['docker', 'save', '-o', join(nodeFolder(node), 'pause.tar'), pauseTag]);
  }
  const admin = pki.cluster['admin'];
  if (admin === undefined) throw new Error('the PKI has no admin');
  await writePrivate(kubeconfigPath(), kubeconfig(layout.apiServer, pki.authorities.cluster.certificate, admin));
  await writePrivate(prefixPath(), layout.nodeCidr.split('.').slice(0, 3).join('.'));
}

async function writePrivate(path: string, content: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content, { mode: 0o600 });
}

async function layHostRoutes(layout: Layout): Promise<void> {
  try {
    for (const argv of hostRoutes(layout, SERVICE_CIDR)) await run(argv);
  } catch (error) {
    if (!(error instanceof CommandError) || process.getuid?.() === 0) throw error;
    const commands = hostRoutes(layout, SERVICE_CIDR).map((argv) => `sudo ${argv.join(' ')}`);
    note(`pods and services can't be reached from this machine itself until root says:\n  ${commands.join('\n  ')}`);
  }
}

async function down(): Promise<void> {
  if (!(await succeeds(run, ['docker', 'version']))) {
    throw new Error('no Docker daemon answers: what is left of the cluster can be removed once one runs');
  }
  await refuseForeignCluster();
  await remove();
}

/** The names of containers are fixed, so one machine holds one cluster: one made from another cache is left alone. */
async function refuseForeignCluster(): Promise<void> {
  const foreign = (await labelsOfNodes(CACHE_LABEL)).find((folder) => folder !== cacheFolder());
  if (foreign !== undefined) {
    throw new Error(
      `a cluster of another cache runs here; to remove it: MERIDIAN_CACHE=${foreign} npm run cluster -- down`,
    );
  }
}

async function remove(): Promise<void> {
  const containers = [...(await containerStates()).keys()];
  if (containers.length > 0) {
    await step('remove the nodes', () => run(['docker', 'rm', '-f', '-v', ...containers]));
  }
  const volumes = layoutFor('0.0.0').nodes.flatMap((node) => [
    ...Object.keys(dockerVolumes(node)),
    `${node.name}-etcd`,
  ]);
  await run(['docker', 'volume', 'rm', '-f', ...volumes]);
  if (await succeeds(run, ['docker', 'network', 'inspect', NETWORK])) await run(['docker', 'network', 'rm', NETWORK]);
  await removeClusterFolder();
}

/** Its files belong to whatever user a pod ran as: a container may remove them where this process may not. */
async function removeClusterFolder(): Promise<void> {
  const folder = cachePath('cluster');
  if (!existsSync(folder)) return;
  if (process.getuid?.() !== 0) {
    await run([
      'docker',
      'run',
      '--rm',
      '-v',
      `${folder}:/cluster`,
      BASE_IMAGE,
      'find',
      '/cluster',
      '-mindepth',
      '1',
      '-delete',
    ]);
  }
  await rm(folder, { recursive: true, force: true });
}

/** A cluster that works is never replaced behind somebody's back: others may be using it. */
async function noteOtherSources(): Promise<void> {
  const key = await sourceKey();
  if ((await labelsOfNodes(SOURCE_LABEL)).some((other) => other !== key)) {
    note('the cluster that runs was made by another version of test/cluster; `down` and `up` make it anew');
  }
}

async function sourceKey(): Promise<string> {
  return keyOf([await keyOfFolder(import.meta.dirname), await keyOfFolder(join(import.meta.dirname, '../go'))]);
}

async function labelsOfNodes(label: string): Promise<string[]> {
  const format = `{{.Label "${label}"}}`;
  const output = await run(['docker', 'ps', '-a', '--filter', `label=${LABEL}`, '--format', format]);
  return output.split('\n').filter((value) => value !== '');
}

async function containerStates(): Promise<Map<string, string>> {
  const format = '{{.Names}} {{.State}}';
  const output = await run(['docker', 'ps', '-a', '--filter', `label=${LABEL}`, '--format', format]);
  const lines = output.split('\n').filter((line) => line !== '');
  return new Map(lines.map((line) => line.split(' ') as [string, string]));
}

async function currentLayout(): Promise<Layout> {
  const prefix = await readFile(prefixPath(), 'utf8').catch(() => undefined);
  if (prefix === undefined) throw new Error('there is no local cluster: npm run cluster -- up');
  return layoutFor(prefix.trim());
}

function clusterNodes(layout: Layout): ClusterNode[] {
  return layout.nodes.map(({ name, region, address, podCidr }) => ({
    name,
    region,
    container: name,
    address,
    podCidr,
  }));
}

async function status(): Promise<ProviderStatus> {
  if (!(await succeeds(run, ['docker', 'version']))) return { running: false, lines: ['no Docker daemon answers'] };
  const states = await containerStates();
  if (states.size === 0) return { running: false, lines: ['no cluster'] };
  const lines: string[] = [];
  for (const [name, state] of [...states].toSorted(([a], [b]) => a.localeCompare(b))) {
    const script = 'cd /run/meridian && for f in *.pid; do echo "${f%.pid}"; done';
    const components =
      state === 'running' ? await run(['docker', 'exec', name, 'sh', '-c', script]).catch(() => '') : '';
    lines.push(`${name}: ${state}; ${components.trim().split('\n').join(', ')}`);
  }
  lines.push(`logs: ${cachePath('cluster', 'logs')}`);
  return { running: [...states.values()].every((state) => state === 'running'), lines };
}
