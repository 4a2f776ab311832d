import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { clusterManifests, PROVISIONER } from '#cluster/local/manifests.ts';

interface Manifest {
  kind: string;
  metadata: { name: string; annotations?: Record<string, string> };
  rules?: { verbs: string[]; resources: string[] }[];
  [field: string]: unknown;
}
const objects = parseAllDocuments(clusterManifests()).map((document) => document.toJS() as Manifest);

test('claims that name no class get a volume on the node that their pod goes to, removed with the claim', () => {
  const [storage, ...others] = objects.filter((object) => object.kind === 'StorageClass');
  assert.deepEqual(others, []);
  assert.equal(storage?.metadata.annotations?.['storageclass.kubernetes.io/is-default-class'], 'true');
  assert.equal(storage?.['volumeBindingMode'], 'WaitForFirstConsumer');
  assert.equal(storage?.['reclaimPolicy'], 'Delete');
});

test('the class and the program that serves it use one name', async () => {
  const source = await readFile(join(import.meta.dirname, '../../../cluster/go/kube/volumes.go'), 'utf8');
  assert.match(source, new RegExp(`provisionerName = "${PROVISIONER}"`));
});

test('nothing that runs for the cluster may do everything', () => {
  const roles = objects.filter((object) => object.kind === 'ClusterRole');
  assert.equal(roles.length, 2);
  for (const role of roles) {
    for (const rule of role.rules ?? []) assert.ok(![...rule.verbs, ...rule.resources].includes('*'));
  }
});
