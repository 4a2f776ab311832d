/**
 * Every object that is wrong in itself is refused by a real API server, with a message that says what to change.
 * Creations are dry runs; for changes the object as it was is made first, in a namespace of this test's own.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Cluster, ensureCluster } from '#cluster/cluster.ts';
import { customResourceDefinitionYaml } from '#crds/generate.ts';
import { kinds } from '#crds/index.ts';
import { keyspace, region, regionalReplica, shard, tenant, type WrongObject, wrongObjects } from './wrong-objects.ts';

const namespace = 'e2e-wrong-objects';

describe('the API server', { concurrency: 4 }, () => {
  let cluster: Cluster;

  const kubectl = (args: readonly string[], object?: unknown): Promise<string> =>
    cluster.kubectl(['-n', namespace, ...args], object === undefined ? undefined : JSON.stringify(object));

  /** What kubectl says when it fails; empty when it doesn't. */
  const refusal = (args: readonly string[], object: unknown): Promise<string> =>
    kubectl(args, object).then(
      () => '',
      (error: unknown) => String(error),
    );

  before(async () => {
    cluster = await ensureCluster();
    const installed = await cluster.kubectl(['get', 'crds', '-o', 'name']);
    const missing = kinds.filter(({ crdName }) => !installed.includes(crdName));
    for (const kind of missing)
      await cluster.kubectl(['apply', '--server-side', '-f', '-'], customResourceDefinitionYaml(kind));
    for (const { crdName } of missing)
      await cluster.kubectl(['wait', '--for=condition=Established', `crd/${crdName}`, '--timeout=30s']);
    await cluster.kubectl(['delete', 'namespace', namespace, '--ignore-not-found', '--timeout=120s']);
    await cluster.kubectl(['create', 'namespace', namespace]);
  });

  after(async () => {
    await cluster.kubectl(['delete', 'namespace', namespace, '--ignore-not-found', '--timeout=120s']);
  });

  test('accepts the least that each kind needs', async () => {
    for (const object of [region(), keyspace(), shard(), regionalReplica(), tenant()])
      await kubectl(['create', '--dry-run=server', '-f', '-'], object);
  });

  for (const kind of kinds) {
    test(`takes the CRD of ${kind.kind} as it is in the checkout`, async () => {
      await cluster.kubectl(
        ['apply', '--server-side', '--force-conflicts', '--dry-run=server', '-f', '-'],
        customResourceDefinitionYaml(kind),
      );
    });
  }

  test('explains a field with its meaning, unit and default', async () => {
    const explained = await cluster.kubectl(['explain', 'shard.spec.durability']);
    for (const word of ['acknowledgements', 'scope', 'onLoss', 'Default: 1.', 'Default: Block.'])
      assert.ok(explained.includes(word), explained);
  });

  const creations = wrongObjects.filter((wrong) => wrong.before === undefined);
  for (const { name, object, message } of creations) {
    test(`refuses ${name}`, async () => {
      const said = await refusal(['create', '--dry-run=server', '-f', '-'], object);
      assert.ok(said.includes(message), said || 'it was accepted');
    });
  }

  describe('for what may not change', { concurrency: 1 }, () => {
    const changes = wrongObjects.flatMap((wrong): Required<WrongObject>[] =>
      wrong.before === undefined ? [] : [{ ...wrong, before: wrong.before }],
    );
    for (const { name, before: was, object, message } of changes) {
      test(`refuses ${name}`, async () => {
        await kubectl(['create', '-f', '-'], was);
        try {
          const said = await refusal(['replace', '--dry-run=server', '-f', '-'], object);
          assert.ok(said.includes(message), said || 'it was accepted');
        } finally {
          await kubectl(['delete', was.kind.toLowerCase(), was.metadata.name, '--timeout=60s']);
        }
      });
    }
  });
});
