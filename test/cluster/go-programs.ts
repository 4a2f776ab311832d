// Builds the Go programs of the test cluster from the modules in `go/`, once per content of a module: Kubernetes (with
// etcd and kubectl) and Helm at pinned versions, CoreDNS, our own small node programs; and a judge of histories
// (test/history), which is built the same way. What is built is kept in the cache folder under the key of its sources and
// never changed afterwards, so a running cluster can go on using it.

import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { cachePath, withLock } from './cache.ts';
import { keyOf, keyOfFolder } from './content-key.ts';
import { isInstalled } from './docker/daemon.ts';
import { run } from './process.ts';
import { step } from './progress.ts';

export const KUBERNETES_VERSION = '1.34.4';
export const HELM_VERSION = '3.19.4';

export type GoModule = 'kube' | 'helm' | 'coredns' | 'node' | 'linearizability';

interface Recipe {
  readonly about: string;
  readonly binary: string;
  /** Other names for the same binary, which looks at the name it was called by. */
  readonly links: readonly string[];
  /** What to build, as seen from the module's folder. */
  readonly target: string;
  readonly ldflags: string;
  /** Where the module lies, if not in `go/` under its name. */
  readonly folder?: string;
}

const version = 'k8s.io/component-base/version';
const [major, minor] = KUBERNETES_VERSION.split('.');

export const RECIPES: Readonly<Record<GoModule, Recipe>> = {
  kube: {
    about: `Kubernetes ${KUBERNETES_VERSION}, etcd and kubectl; some 5 minutes the first time`,
    binary: 'meridian-kube',
    links: [
      'etcd',
      'kube-apiserver',
      'kube-controller-manager',
      'kube-scheduler',
      'kube-proxy',
      'kubelet',
      'kubectl',
      'volumes',
    ],
    target: '.',
    ldflags: `-s -w -X ${version}.gitVersion=v${KUBERNETES_VERSION} -X ${version}.gitMajor=${major} -X ${version}.gitMinor=${minor} -X ${version}.gitTreeState=clean`,
  },
  helm: {
    about: `Helm ${HELM_VERSION}; some 2 minutes the first time`,
    binary: 'helm',
    links: [],
    target: 'helm.sh/helm/v3/cmd/helm',
    ldflags: `-s -w -X helm.sh/helm/v3/internal/version.version=v${HELM_VERSION}`,
  },
  coredns: { about: 'CoreDNS', binary: 'coredns', links: [], target: '.', ldflags: '-s -w' },
  node: { about: 'programs of a node', binary: 'meridian-node', links: [], target: '.', ldflags: '-s -w' },
  linearizability: {
    about: 'the judge of linearizability, by Porcupine',
    binary: 'meridian-linearizability',
    links: [],
    target: '.',
    ldflags: '-s -w',
    folder: join(import.meta.dirname, '..', 'history', 'judges', 'linearizability'),
  },
};

/** The folder that holds the module's binary and its other names; built when it isn't there. */
export async function ensureGoProgram(module: GoModule): Promise<string> {
  const recipe = RECIPES[module];
  const source = recipe.folder ?? join(import.meta.dirname, 'go', module);
  const key = keyOf([await keyOfFolder(source), recipe.ldflags, recipe.target, recipe.links.join(' ')]);
  const folder = cachePath('programs', `${module}-${key}`);
  if (existsSync(folder)) return folder;
  return withLock(`go-${module}`, async () => {
    if (existsSync(folder)) return folder;
    if (!isInstalled('go')) {
      throw new Error(
        'not installed here: go. Install Go 1.24 or later (https://go.dev/doc/install) and run this again.',
      );
    }
    await mkdir(cachePath('programs'), { recursive: true });
    const unfinished = await mkdtemp(cachePath('programs', '.building-'));
    try {
      const logFile = cachePath('logs', `go-${module}.log`);
      await step(`build ${recipe.binary} (${recipe.about})`, () =>
        run(buildCommand(recipe, join(unfinished, recipe.binary)), { cwd: source, env: { CGO_ENABLED: '0' }, logFile }),
      );
      for (const link of recipe.links) await symlink(recipe.binary, join(unfinished, link));
      await rename(unfinished, folder);
    } finally {
      await rm(unfinished, { recursive: true, force: true });
    }
    return folder;
  });
}

export function buildCommand(recipe: Recipe, output: string): string[] {
  return ['go', 'build', '-trimpath', '-buildvcs=false', '-ldflags', recipe.ldflags, '-o', output, recipe.target];
}

/** The pinned kubectl and helm, also linked as `bin/kubectl` and `bin/helm` in the cache folder for people. */
export async function ensureClients(): Promise<{ kubectl: string; helm: string }> {
  // One after the other: each build uses every core by itself.
  const kubectl = join(await ensureGoProgram('kube'), 'kubectl');
  const helm = join(await ensureGoProgram('helm'), 'helm');
  await mkdir(cachePath('bin'), { recursive: true });
  await pointLink(cachePath('bin', 'kubectl'), kubectl);
  await pointLink(cachePath('bin', 'helm'), helm);
  return { kubectl, helm };
}

async function pointLink(path: string, target: string): Promise<void> {
  const fresh = `${path}.${process.pid}`;
  await rm(fresh, { force: true });
  await symlink(target, fresh);
  await rename(fresh, path);
}
