import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseProvider, providerFromEnvironment } from '#cluster/cluster.ts';

test('MERIDIAN_CLUSTER names the provider, and a name that is none is refused', () => {
  assert.equal(providerFromEnvironment({}), undefined);
  assert.equal(providerFromEnvironment({ MERIDIAN_CLUSTER: '' }), undefined);
  assert.equal(providerFromEnvironment({ MERIDIAN_CLUSTER: 'k3d' }), 'k3d');
  assert.throws(() => providerFromEnvironment({ MERIDIAN_CLUSTER: 'minikube' }), /use local, k3d, existing/);
});

test('every provider that is asked for by name is the one that comes', async () => {
  assert.equal((await chooseProvider('local')).name, 'local');
  assert.equal((await chooseProvider('k3d')).name, 'k3d');
});
