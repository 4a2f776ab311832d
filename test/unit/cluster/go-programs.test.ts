import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { buildCommand, HELM_VERSION, KUBERNETES_VERSION, RECIPES } from '#cluster/go-programs.ts';

const goMod = (module: string): Promise<string> =>
  readFile(join(import.meta.dirname, '../../cluster/go', module, 'go.mod'), 'utf8');

test('the version that Kubernetes reports is the version its module pins', async () => {
  assert.match(await goMod('kube'), new RegExp(`k8s.io/kubernetes v${KUBERNETES_VERSION.replaceAll('.', '\\.')}\n`));
  assert.match(RECIPES.kube.ldflags, new RegExp(`gitVersion=v${KUBERNETES_VERSION} .*gitMajor=1 .*gitMinor=34 `));
});

test('every staging module of Kubernetes is pinned to the same release', async () => {
  const pins = [...(await goMod('kube')).matchAll(/^\tk8s\.io\/\S+ => k8s\.io\/\S+ (\S+)$/gm)].map((match) => match[1]);
  assert.equal(pins.length, 31);
  assert.deepEqual(new Set(pins), new Set([`v0${KUBERNETES_VERSION.slice(1)}`]));
});

test('the version that Helm reports is the version its module pins', async () => {
  assert.match(await goMod('helm'), new RegExp(`helm.sh/helm/v3 v${HELM_VERSION.replaceAll('.', '\\.')} `));
  assert.match(RECIPES.helm.ldflags, new RegExp(`version.version=v${HELM_VERSION}$`));
});

test('modules that are downloaded have their sums committed', async () => {
  for (const module of ['kube', 'helm', 'coredns']) {
    const sums = await readFile(join(import.meta.dirname, '../../cluster/go', module, 'go.sum'), 'utf8');
    assert.match(sums, /h1:/);
  }
});

test('a program is built the same wherever the checkout lies', () => {
  const argv = buildCommand(RECIPES.coredns, '/out');
  assert.equal(argv.join(' '), 'go build -trimpath -buildvcs=false -ldflags -s -w -o /out .');
});
