import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cacheFolder } from '#cluster/cache.ts';
import { capabilities, createCommand, hostRoutes, networkCommand, readBoundingSet } from '#cluster/local/containers.ts';
import { layoutFor, type NodeLayout } from '#cluster/local/layout.ts';

const layout = layoutFor('172.30.77');
const eu = layout.nodes.find((node) => node.region === 'eu') as NodeLayout;
const programs = { kube: '/p/kube', coredns: '/p/coredns', node: '/p/node' };

test('a node gets every right this machine has and Docker knows by name', () => {
  const all = capabilities('000001ffffffffff');
  assert.equal(all.length, 38);
  assert.equal(all[0], 'CHOWN');
  assert.equal(all.at(-1), 'AUDIT_READ');
  const lacking = capabilities(readBoundingSet('Name:\tx\nCapBnd:\t000001fffeffffff\n'));
  assert.deepEqual(
    all.filter((capability) => !lacking.includes(capability)),
    ['SYS_RESOURCE'],
  );
  assert.throws(() => readBoundingSet('Name:\tx\n'), /CapBnd/);
});

test('a node is created with its address, its rights one by one, and everything mounted from the cache', () => {
  const command = createCommand(layout, eu, 'meridian/node:1', programs, ['CHOWN', 'SYS_ADMIN'], 'key').join(' ');
  assert.match(command, /^docker create --name meridian-eu --hostname meridian-eu --label /);
  assert.match(command, / --network meridian --ip 172\.30\.77\.11 --cap-drop ALL --cap-add CHOWN --cap-add SYS_ADMIN /);
  assert.match(command, / --cgroupns host /);
  assert.doesNotMatch(command, /--privileged/);
  assert.match(command, / meridian\/node:1$/);
  const cluster = `${cacheFolder()}/cluster`;
  assert.ok(command.includes(` --volume ${cluster}/nodes/meridian-eu:/etc/meridian:ro `));
  assert.ok(command.includes(` --volume ${cluster}/volumes/meridian-eu:/var/lib/meridian/volumes `));
  assert.ok(command.includes(' --volume /p/kube:/opt/kube:ro '));
});

test("only the control plane sees etcd's folder and every node's volumes", () => {
  const mounts = (node: NodeLayout): string => createCommand(layout, node, 'i', programs, [], 'key').join(' ');
  assert.match(mounts(layout.controlPlane), /:\/var\/lib\/etcd .*\/volumes:\/var\/lib\/meridian\/all-volumes /);
  assert.doesNotMatch(mounts(eu), /etcd|all-volumes/);
});

test('the network has its own addresses and the MTU of the machine', () => {
  assert.equal(
    networkCommand(layout).join(' '),
    'docker network create --label meridian.test/cluster=meridian --subnet 172.30.77.0/24 --gateway 172.30.77.1 --opt com.docker.network.driver.mtu=1400 meridian',
  );
});

test('this machine reaches pods through their node and services through the control plane', () => {
  const commands = hostRoutes(layout, '10.96.0.0/16').map((argv) => argv.join(' '));
  assert.equal(commands.length, 5);
  assert.ok(commands.includes('ip route replace 10.244.1.0/24 via 172.30.77.11'));
  assert.ok(commands.includes('ip route replace 10.96.0.0/16 via 172.30.77.10'));
});
