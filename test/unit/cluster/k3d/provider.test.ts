import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCommand, createK3dProvider, k3dIsUsable } from '#cluster/k3d/provider.ts';
import { CommandError, type Run } from '#cluster/process.ts';
import { createRecorder } from '../recorder.ts';

/** Runs everything but command lines that contain one of these. */
function failing(...parts: string[]): { run: Run; lines: string[] } {
  const recorder = createRecorder();
  const run: Run = async (argv) => {
    await recorder.run(argv);
    if (parts.some((part) => argv.join(' ').includes(part))) throw new CommandError(argv, 1, 'exit status 1', '');
    return '';
  };
  return { run, lines: recorder.lines };
}

test('one server that takes no pods, and three agents labelled as three regions', () => {
  const command = createCommand().join(' ');
  assert.match(command, /^k3d cluster create meridian --image rancher\/k3s:v1\.34\.4-k3s1 --servers 1 --agents 3 /);
  for (const [agent, region] of ['eu', 'us', 'ap'].entries()) {
    assert.ok(command.includes(`--k3s-node-label topology.kubernetes.io/region=${region}@agent:${agent} `));
  }
  assert.ok(command.includes('--node-taint=node-role.kubernetes.io/control-plane:NoSchedule@server:0'));
  // The kubeconfig of whoever runs this is theirs.
  assert.ok(command.includes('--kubeconfig-update-default=false'));
});

test('images are imported, the cluster is deleted, by name', async () => {
  const { run, lines } = createRecorder();
  const provider = createK3dProvider(run);
  await provider.loadImages(['meridian/a:1', 'meridian/b:2']);
  await provider.loadImages([]);
  await provider.down();
  assert.deepEqual(lines, [
    'k3d image import --cluster meridian meridian/a:1 meridian/b:2',
    'k3d cluster get meridian',
    'k3d cluster delete meridian',
  ]);
});

test('a cluster that is not there is not deleted, and its status says so', async () => {
  const { run, lines } = failing('cluster get');
  const provider = createK3dProvider(run);
  await provider.down();
  assert.deepEqual(await provider.status(), { running: false, lines: ['no cluster'] });
  assert.ok(lines.every((line) => line === 'k3d cluster get meridian'));
});

test('k3d is of use where it is installed and its image is there or can be pulled', async () => {
  assert.equal(await k3dIsUsable(failing('k3d version').run), false);
  assert.equal(await k3dIsUsable(failing('image inspect', 'docker pull').run), false);
  assert.equal(await k3dIsUsable(failing('image inspect').run), true);
  assert.equal(await k3dIsUsable(failing('docker pull').run), true);
});
