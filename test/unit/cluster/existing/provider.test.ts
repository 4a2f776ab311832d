import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createExistingProvider, loadCommands, toClusterNode } from '#cluster/existing/provider.ts';
import { createRecorder } from '../recorder.ts';

test('without KUBECONFIG there is no existing cluster', () => {
  assert.throws(() => createExistingProvider(createRecorder().run, {}), /KUBECONFIG is not set/);
});

test('a cluster that is not ours is never removed', async () => {
  const { run, lines } = createRecorder();
  await assert.rejects(createExistingProvider(run, { KUBECONFIG: '/k' }).down(), /not ours/);
  assert.deepEqual(lines, []);
});

test("images are loaded with the user's own command, once per image", async () => {
  const { run, lines } = createRecorder();
  const env = { KUBECONFIG: '/k', MERIDIAN_LOAD_IMAGE: 'kind load docker-image' };
  await createExistingProvider(run, env).loadImages(['a:1', 'b:2']);
  assert.deepEqual(lines, ['kind load docker-image a:1', 'kind load docker-image b:2']);
  assert.throws(() => loadCommands(' ', ['a']), /set MERIDIAN_LOAD_IMAGE/);
});

test('a node is read from what the API server says of it', () => {
  const node = {
    metadata: { name: 'n1', labels: { 'topology.kubernetes.io/region': 'eu' } },
    spec: { podCIDR: '10.42.1.0/24' },
    status: { addresses: [{ type: 'InternalIP', address: '10.0.0.5' }] },
  };
  assert.deepEqual(toClusterNode(node, null), {
    name: 'n1',
    region: 'eu',
    container: null,
    address: '10.0.0.5',
    podCidr: '10.42.1.0/24',
  });
  assert.equal(toClusterNode({ metadata: { name: 'n2' } }, 'c').region, null);
});
