/**
 * The main job on a real cluster: the commerce example, applied in three random orders, reaches the same state each time,
 * once with the operator killed in the middle; the last one stays and is used as applications and people would use it.
 * Every order's seed is in its test's name: put it into `MERIDIAN_E2E_SEED` to run the same orders again.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Cluster, ensureCluster } from '#cluster/cluster.ts';
import {
  type Images,
  installOperator,
  projectFolder,
  provideImages,
  systemNamespace,
  waitUntilReady,
} from '../../demo/installation.ts';
import { changing } from './changing.ts';
import {
  applyOneByOne,
  deleteNamespace,
  emptyNamespace,
  exampleManifests,
  installing,
  settledOutcome,
  shuffled,
} from './example.ts';
import { routers } from './routers.ts';
import { serving } from './serving.ts';

const readyTimeoutMs = 300_000;
const firstSeed = Number(process.env['MERIDIAN_E2E_SEED'] ?? Date.now() % 1_000_000);
const orders = [
  { namespace: 'e2e-a', seed: firstSeed, killOperator: false },
  { namespace: 'e2e-b', seed: firstSeed + 1, killOperator: true },
  { namespace: 'e2e-c', seed: firstSeed + 2, killOperator: false },
] as const;
const kept = orders[2].namespace;

async function killOperators(cluster: Cluster): Promise<void> {
  await cluster.kubectl([
    'delete',
    'pods',
    '-n',
    systemNamespace,
    '-l',
    'app.kubernetes.io/component=operator',
    '--grace-period=0',
    '--force',
  ]);
}

describe('the commerce example', () => {
  let cluster: Cluster;
  let images: Images;

  before(async () => {
    cluster = await ensureCluster();
    await cluster.helm(['uninstall', 'meridian', '-n', systemNamespace, '--ignore-not-found', '--wait']);
    images = await provideImages(cluster);
    for (const { namespace } of orders) await deleteNamespace(cluster, namespace);
  });

  after(async () => {
    await emptyNamespace(cluster, kept).catch(() => undefined);
    for (const { namespace } of orders) await deleteNamespace(cluster, namespace);
  });

  test('helm install meridian charts/meridian, and nothing else, starts the operator; helm test agrees', async () => {
    const chart = join(projectFolder, 'charts', 'meridian');
    await installing(() =>
      cluster.helm([
        'install',
        'meridian',
        chart,
        '-n',
        systemNamespace,
        '--create-namespace',
        '--take-ownership',
        '--wait',
        '--timeout',
        '300s',
      ]),
    );
    const tested = await cluster.helm(['test', 'meridian', '-n', systemNamespace, '--timeout', '300s']);
    assert.match(tested, /Phase:\s+Succeeded/);
    // From here on the very images that were built, so that a change of code rolls out.
    await installOperator(cluster, images);
  });

  let expected: unknown;
  for (const { namespace, seed, killOperator } of orders) {
    test(`converges when its objects arrive in the order of seed ${seed}${killOperator ? ', with every operator killed in the middle' : ''}`, async () => {
      await cluster.kubectl(['create', 'namespace', namespace]);
      const manifests = shuffled(exampleManifests(), seed);
      const middle = Math.floor(manifests.length / 2);
      await applyOneByOne(cluster, namespace, manifests.slice(0, middle));
      if (killOperator) await killOperators(cluster);
      await applyOneByOne(cluster, namespace, manifests.slice(middle));
      if (killOperator) {
        // Once more while members initialise and clone, the time at which most is under way.
        await sleep(12_000);
        await killOperators(cluster);
      }
      await waitUntilReady(cluster, namespace, readyTimeoutMs);
      const reached = await settledOutcome(cluster, namespace, expected);
      expected ??= reached;
      assert.deepEqual(reached, expected);
    });

    if (namespace !== kept) {
      test(`deleting ${killOperator ? 'all objects and then ' : ''}namespace ${namespace} leaves nothing behind`, async () => {
        if (killOperator) await emptyNamespace(cluster, namespace);
        await deleteNamespace(cluster, namespace);
        const volumes = (): Promise<string> =>
          cluster.kubectl([
            'get',
            'persistentvolumes',
            '-o',
            'jsonpath={range .items[*]}{.spec.claimRef.namespace}{"\\n"}{end}',
          ]);
        // Whoever made them deletes them some time after their claims.
        for (const giveUpAt = performance.now() + 90_000; (await volumes()).split('\n').includes(namespace); ) {
          assert.ok(performance.now() < giveUpAt, 'volumes of a deleted namespace are still there');
          await sleep(1_000);
        }
      });
    }
  }

  describe('serves applications', () => serving(() => cluster, kept));
  describe('has routers that can be looked at, changed and replaced', () => routers(() => cluster, kept));
  describe('follows changes', () => changing(() => cluster, kept));
});
