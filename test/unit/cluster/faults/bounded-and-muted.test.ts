import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import type { ClusterNode } from '#cluster/cluster.ts';
import { createFaults } from '#cluster/faults/faults.ts';
import { layoutFor } from '#cluster/local/layout.ts';
import { createRecorder } from '../recorder.ts';

const nodes: ClusterNode[] = layoutFor('172.30.77').nodes.map((node) => ({ ...node, container: node.name }));

function faultsWith(answer: (args: readonly string[]) => string = () => '') {
  const { run, lines } = createRecorder({});
  const asked: { args: readonly string[]; stdin: string | undefined }[] = [];
  const kubectl = async (args: readonly string[], stdin?: string): Promise<string> => {
    asked.push({ args, stdin });
    return answer(args);
  };
  return { faults: createFaults(nodes, kubectl, run), lines, asked };
}

const eu = { address: '10.244.1.7', node: 'meridian-eu' };
const us = { address: '10.244.2.9', node: 'meridian-us' };
const machine = { address: '172.30.77.1', node: null };

test('one address is muted towards another where the receiver gets its packets', async () => {
  const { faults, lines } = faultsWith();
  await faults.mute(eu, us);
  await faults.mute(machine, eu);
  await faults.mute(eu, machine);
  const rule = 'iptables -w -t mangle -A MERIDIAN-FAULTS';
  assert.deepEqual(lines, [
    `docker exec meridian-us ${rule} -s 10.244.1.7/32 -d 10.244.2.9/32 -j DROP`,
    `docker exec meridian-eu ${rule} -s 172.30.77.1/32 -d 10.244.1.7/32 -j DROP`,
    `docker exec meridian-eu ${rule} -s 10.244.1.7/32 -d 172.30.77.1/32 -j DROP`,
  ]);
  await assert.rejects(faults.mute(machine, machine), /must be a pod/);
});

test('bounded volumes are mounted on their nodes before the API server hears of them', async () => {
  const { faults, lines, asked } = faultsWith();
  await faults.makeBoundedVolumes(['eu', 'us'], 512);
  assert.equal(lines.length, 2);
  for (const [n, node] of ['meridian-eu', 'meridian-us'].entries()) {
    assert.match(lines[n] ?? '', new RegExp(`^docker exec ${node} .*mount -t tmpfs .* 512$`));
  }
  const objects = parseAllDocuments(asked[0]?.stdin ?? '').map((each) => each.toJS() as Record<string, unknown>);
  assert.deepEqual(
    objects.map(({ kind }) => kind),
    ['StorageClass', 'PersistentVolume', 'PersistentVolume'],
  );
  const [, volume] = objects as { spec?: { capacity: object; local: { path: string }; storageClassName: string } }[];
  assert.deepEqual(volume?.spec?.capacity, { storage: '512Mi' });
  assert.equal(volume.spec.storageClassName, 'meridian-bounded');
  assert.ok(lines[0]?.includes(volume.spec.local.path));
});

test('a full volume is filled beside the data, and freed', async () => {
  const { faults, lines } = faultsWith((args) =>
    args.includes('pvc') ? 'meridian-bounded-meridian-us-x' : 'meridian-us data-shop-0',
  );
  await faults.fillVolume('shop', 'shop-0');
  await faults.freeVolume('shop', 'shop-0');
  assert.match(lines[0] ?? '', /^docker exec meridian-us .*dd .*\/meridian-bounded-meridian-us-x\/\.filler$/s);
  assert.match(lines[1] ?? '', /^docker exec meridian-us .*rm -f .*\/meridian-bounded-meridian-us-x\/\.filler$/);
});

test('a volume of another class is not filled: it is a folder of the machine’s own disk', async () => {
  const { faults, lines } = faultsWith((args) => (args.includes('pvc') ? 'pvc-1234' : 'meridian-us data-shop-0'));
  await assert.rejects(faults.fillVolume('shop', 'shop-0'), /no volume of class meridian-bounded/);
  assert.deepEqual(lines, []);
});
