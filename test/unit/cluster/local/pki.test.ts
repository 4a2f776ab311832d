import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, sign, verify, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { before, test } from 'node:test';
import { connect, createServer, type TLSSocket } from 'node:tls';
import type { PemPair } from '#cluster/local/certificates.ts';
import { layoutFor } from '#cluster/local/layout.ts';
import { clusterIdentities, createPki, nodeIdentities, type Pki } from '#cluster/local/pki.ts';

const NOW = new Date('2026-03-01T00:00:00Z');
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
const layout = layoutFor('172.30.77');
let pki: Pki;
before(async () => {
  pki = await createPki(layout, new Date());
});

const parsed = (pair: PemPair | undefined): X509Certificate => {
  assert.ok(pair);
  return new X509Certificate(pair.certificate);
};

test('every certificate is signed by its own authority and by no other', () => {
  const all: [string, PemPair | undefined, string][] = [
    ...Object.entries(clusterIdentities(layout)).map(([name, { authority }]): [string, PemPair | undefined, string] => [
      name,
      pki.cluster[name],
      authority,
    ]),
    ...layout.nodes.flatMap((node) =>
      Object.entries(nodeIdentities(node)).map(([name, { authority }]): [string, PemPair | undefined, string] => [
        `${node.name}/${name}`,
        pki.nodes.get(node.name)?.[name],
        authority,
      ]),
    ),
  ];
  assert.equal(all.length, 9 + 4 * 4);
  for (const [name, pair, authority] of all) {
    const certificate = parsed(pair);
    for (const [other, { certificate: pem }] of Object.entries(pki.authorities)) {
      const key = new X509Certificate(pem).publicKey;
      assert.equal(certificate.verify(key), other === authority, `${name} by ${other}`);
    }
    assert.equal(certificate.ca, false, name);
    assert.ok(certificate.checkPrivateKey(createPrivateKey(pair?.key ?? '')), name);
  }
});

test('the API server is known by every name and address that clients use', () => {
  const certificate = parsed(pki.cluster['apiserver']);
  for (const name of ['kubernetes', 'kubernetes.default.svc.cluster.local', 'localhost', 'meridian-cp']) {
    assert.ok(certificate.checkHost(name), name);
  }
  for (const address of ['172.30.77.10', '10.96.0.1', '127.0.0.1']) assert.ok(certificate.checkIP(address), address);
  assert.deepEqual(certificate.keyUsage, [SERVER_AUTH]);
});

test('a kubelet is a member of system:nodes under its own name, and serves at its own address only', () => {
  for (const node of layout.nodes) {
    const client = parsed(pki.nodes.get(node.name)?.['kubelet']);
    assert.equal(client.subject, `O=system:nodes\nCN=system:node:${node.name}`);
    assert.deepEqual(client.keyUsage, [CLIENT_AUTH]);
    const server = parsed(pki.nodes.get(node.name)?.['kubelet-server']);
    for (const other of layout.nodes) {
      assert.equal(server.checkIP(other.address) !== undefined, other.name === node.name);
    }
  }
});

test('only the people who made the cluster are system:masters', () => {
  const masters = Object.entries(pki.cluster).filter(([, pair]) => parsed(pair).subject.includes('system:masters'));
  assert.deepEqual(
    masters.map(([name]) => name),
    ['admin'],
  );
});

test('certificates hold for ten years from a little before they were made', async () => {
  const made = await createPki(layout, NOW);
  for (const pair of [...Object.values(made.cluster), ...Object.values(made.authorities)]) {
    const certificate = parsed(pair);
    assert.equal(new Date(certificate.validFrom).toISOString(), '2026-02-28T23:00:00.000Z');
    assert.equal(new Date(certificate.validTo).toISOString(), '2036-03-01T00:00:00.000Z');
  }
});

test('tokens signed with the service-account key verify with its public half', () => {
  const { privateKey, publicKey } = pki.serviceAccounts;
  const signature = sign('sha256', Buffer.from('token'), createPrivateKey(privateKey));
  assert.ok(verify('sha256', Buffer.from('token'), createPublicKey(publicKey), signature));
});

test('a mutual TLS handshake works with these certificates, and fails for a client of another authority', async () => {
  const { apiserver } = pki.cluster;
  assert.ok(apiserver);
  const server = createServer({
    cert: apiserver.certificate,
    key: apiserver.key,
    ca: pki.authorities.cluster.certificate,
    requestCert: true,
    rejectUnauthorized: true,
  });
  server.on('secureConnection', (socket) => socket.end(String(socket.getPeerCertificate().subject.CN)));
  server.on('tlsClientError', () => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const call = async (client: PemPair | undefined): Promise<string> => {
    const ca = pki.authorities.cluster.certificate;
    assert.ok(client);
    const socket: TLSSocket = connect({ host: '127.0.0.1', port, ca, cert: client.certificate, key: client.key });
    let heard = '';
    for await (const chunk of socket) heard += String(chunk);
    return heard;
  };
  try {
    assert.equal(await call(pki.cluster['admin']), 'meridian-admin');
    // In TLS 1.3 a client learns of its refusal only after its own side of the handshake: by an alert or a closed line.
    assert.equal(await call(pki.cluster['front-proxy-client']).catch(() => ''), '');
  } finally {
    server.close();
  }
});
