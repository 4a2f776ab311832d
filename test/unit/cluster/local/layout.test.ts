import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { chooseNodePrefix, layoutFor, NODE_PREFIXES, overlaps, routedNetworks } from '#cluster/local/layout.ts';

const byte = fc.integer({ min: 0, max: 255 });
const cidr = fc
  .tuple(byte, byte, byte, byte, fc.integer({ min: 0, max: 32 }))
  .map(([a, b, c, d, bits]) => `${a}.${b}.${c}.${d}/${bits}`);

/** First and last address of a network, counted out. */
function range(network: string): [number, number] {
  const [address = '', bits = ''] = network.split('/');
  const value = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const size = 2 ** (32 - Number(bits));
  const first = Math.floor(value / size) * size;
  return [first, first + size - 1];
}

test('two networks overlap exactly when they share an address', () => {
  fc.assert(
    fc.property(cidr, cidr, (left, right) => {
      const [a, b] = [range(left), range(right)];
      assert.equal(overlaps(left, right), a[0] <= b[1] && b[0] <= a[1]);
    }),
  );
});

test('a network overlaps with itself, with an address in it and with everything', () => {
  assert.equal(overlaps('10.1.0.0/16', '10.1.0.0/16'), true);
  assert.equal(overlaps('10.1.0.0/16', '10.1.9.9'), true);
  assert.equal(overlaps('0.0.0.0/0', '10.1.9.9'), true);
  assert.throws(() => overlaps('10.1.0/16', '10.1.0.0'), /not an IPv4 network/);
});

test('the nodes get the first network that no route of the machine leads to', () => {
  assert.equal(chooseNodePrefix(['192.0.2.0/24']), NODE_PREFIXES[0]);
  assert.equal(chooseNodePrefix(['172.16.0.0/12']), '10.213.77');
  assert.throws(() => chooseNodePrefix(['172.16.0.0/12', '10.213.0.0/16', '192.168.0.0/16']), /no free network/);
});

test('a machine that already routes the pod or service networks elsewhere is told so', () => {
  assert.throws(() => chooseNodePrefix(['10.244.3.0/24']), /10\.244\.0\.0\/16 collides with .* 10\.244\.3\.0\/24/);
  assert.throws(() => chooseNodePrefix(['10.0.0.0/8']), /collides/);
});

test('networks are read from `ip route`, the default route and IPv6 left out', () => {
  const output = [
    'default via 192.0.2.1 dev eth0 ',
    '172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 linkdown ',
    'unreachable 10.9.0.0/16 ',
    'local 127.0.0.1 dev lo table local proto kernel scope host src 127.0.0.1 ',
    '10.1.2.3 via 192.0.2.7 dev eth0 ',
  ].join('\n');
  assert.deepEqual(routedNetworks(output), ['172.17.0.0/16', '10.9.0.0/16', '10.1.2.3']);
});

test('nodes have addresses and pod networks of their own', () => {
  const layout = layoutFor('172.30.77');
  assert.deepEqual(
    layout.nodes.map((node) => node.region),
    [null, 'eu', 'us', 'ap'],
  );
  assert.equal(new Set(layout.nodes.map((node) => node.address)).size, 4);
  assert.equal(new Set(layout.nodes.map((node) => node.podCidr)).size, 4);
  for (const node of layout.nodes) {
    assert.ok(overlaps(layout.nodeCidr, node.address));
    assert.ok(overlaps('10.244.0.0/16', node.podCidr));
  }
  assert.equal(layout.apiServer, `https://${layout.controlPlane.address}:6443`);
});
