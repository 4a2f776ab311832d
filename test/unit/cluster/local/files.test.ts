import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { parse } from 'yaml';
import type { InitConfiguration } from '#cluster/local/components.ts';
import { nodeFiles } from '#cluster/local/files.ts';
import { layoutFor, type NodeLayout } from '#cluster/local/layout.ts';
import { createPki, type Pki } from '#cluster/local/pki.ts';

const layout = layoutFor('172.30.77');
const eu = layout.nodes.find((node) => node.region === 'eu') as NodeLayout;
let pki: Pki;
let control: Record<string, string>;
let region: Record<string, string>;
before(async () => {
  pki = await createPki(layout, new Date());
  control = nodeFiles(layout, layout.controlPlane, pki, 'meridian/pause:1');
  region = nodeFiles(layout, eu, pki, 'meridian/pause:1');
});

const init = (files: Record<string, string>): InitConfiguration => JSON.parse(files['node.json'] ?? '');
const commandOf = (files: Record<string, string>, name: string): string =>
  init(files)
    .components.find((component) => component.name === name)
    ?.argv.join(' ') ?? '';

test('every file that a component names is there', () => {
  for (const files of [control, region]) {
    const named = JSON.stringify(files).matchAll(/\/etc\/meridian\/([\w./-]+\w)/g);
    const missing = new Set([...named].map((match) => match[1] ?? ''));
    // Made after rendering, and a folder.
    for (const name of ['pause.tar', 'cni', ...Object.keys(files)]) missing.delete(name);
    assert.deepEqual([...missing], []);
  }
});

test('a region holds no key of an authority, of the control plane or of another node', () => {
  const text = Object.values(region).join('\n');
  const base64 = (pem: string): string => Buffer.from(pem).toString('base64');
  const foreign = [
    ...Object.values(pki.authorities).map(({ key }) => key),
    ...Object.values(pki.cluster).map(({ key }) => key),
    ...[...pki.nodes]
      .filter(([name]) => name !== eu.name)
      .flatMap(([, own]) => Object.values(own).map(({ key }) => key)),
    pki.serviceAccounts.privateKey,
  ];
  for (const key of foreign) assert.ok(!text.includes(key.trim()) && !text.includes(base64(key)));
  assert.ok(text.includes(base64(pki.nodes.get(eu.name)?.['kubelet']?.key ?? 'none')));
});

test('kubelets answer nobody without a certificate or token, and ask the API server what a caller may do', () => {
  for (const files of [control, region]) {
    const kubelet = parse(files['kubelet.yaml'] ?? '');
    assert.deepEqual(kubelet.authentication, {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: '/etc/meridian/pki/ca.crt' },
    });
    assert.deepEqual(kubelet.authorization, { mode: 'Webhook' });
  }
});

test('the API server knows no static tokens, and strangers may only ask whether it lives', () => {
  const command = commandOf(control, 'kube-apiserver');
  assert.doesNotMatch(command, /token-auth|anonymous-auth|AlwaysAllow|insecure/);
  assert.match(command, /--authorization-mode=Node,RBAC .*--enable-admission-plugins=NodeRestriction/);
  assert.deepEqual(parse(control['authentication.yaml'] ?? '').anonymous, {
    enabled: true,
    conditions: [{ path: '/livez' }, { path: '/readyz' }, { path: '/healthz' }],
  });
});

test('etcd takes only clients with a certificate of its own authority', () => {
  const command = commandOf(control, 'etcd');
  assert.match(command, /--listen-client-urls=https:\/\/127\.0\.0\.1:2379/);
  assert.match(command, /--trusted-ca-file=\/etc\/meridian\/pki\/etcd-ca\.crt --client-cert-auth/);
});

test('a region runs a kubelet, its proxy, its names and containerd, and nothing of the control plane', () => {
  const names = (files: Record<string, string>): string[] => init(files).components.map((component) => component.name);
  assert.deepEqual(names(region), ['containerd', 'kubelet', 'kube-proxy', 'coredns']);
  const controlPlane = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'volumes'];
  assert.deepEqual(names(control), controlPlane.concat(names(region)));
});

test('a region tells its region and zone; the control plane keeps pods away', () => {
  assert.match(
    commandOf(region, 'kubelet'),
    /--node-labels=topology\.kubernetes\.io\/region=eu,topology\.kubernetes\.io\/zone=eu-1,/,
  );
  assert.doesNotMatch(commandOf(control, 'kubelet'), /topology/);
  assert.deepEqual(parse(control['kubelet.yaml'] ?? '').registerWithTaints, [
    { key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' },
  ]);
  assert.equal(parse(region['kubelet.yaml'] ?? '').registerWithTaints, undefined);
});

test("pods live in the node's own cgroup, so that freezing the node freezes them", () => {
  assert.ok(commandOf(region, 'kubelet').includes('--cgroup-root=${NODE_CGROUP}'));
});

test("names are resolved by the node itself, so another region's loss costs no look-up", () => {
  assert.deepEqual(parse(region['kubelet.yaml'] ?? '').clusterDNS, [eu.address]);
});

test("a node has a route to every other node's pods, and none to its own", () => {
  const routes = init(region)
    .setup.map(({ argv }) => argv.join(' '))
    .filter((command) => command.startsWith('ip route'));
  assert.deepEqual(routes, [
    'ip route replace 10.244.0.0/24 via 172.30.77.10',
    'ip route replace 10.244.2.0/24 via 172.30.77.12',
    'ip route replace 10.244.3.0/24 via 172.30.77.13',
  ]);
});

test('a lost node shows after 16 s, in which its kubelet would have renewed its lease five times', () => {
  assert.match(commandOf(control, 'kube-controller-manager'), /--node-monitor-grace-period=16s/);
  assert.equal(parse(region['kubelet.yaml'] ?? '').nodeLeaseDurationSeconds / 4, 3);
});
