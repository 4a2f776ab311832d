/** Identities: URIs both ways; a certificate that names nobody or two is nobody's. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  identityOfSubjectAltName,
  identityUri,
  type PeerIdentity,
  parseIdentityUri,
  replicationName,
  slotName,
} from '#core/identity.ts';

const identities: readonly PeerIdentity[] = [
  { kind: 'member', namespace: 'shop', keyspace: 'shop', member: 'shop-a-eu-0' },
  { kind: 'router', namespace: 'shop', keyspace: 'shop' },
  { kind: 'role', namespace: 'shop', keyspace: 'shop', role: 'acme_app' },
  { kind: 'operator', namespace: 'default', keyspace: 'pay' },
];

for (const identity of identities) {
  test(`a ${identity.kind}'s URI is read back as the same identity`, () => {
    assert.deepEqual(parseIdentityUri(identityUri(identity)), identity);
    assert.deepEqual(
      identityOfSubjectAltName(`DNS:localhost, URI:${identityUri(identity)}, IP Address:127.0.0.1`),
      identity,
    );
  });
}

for (const uri of [
  '',
  'meridian://shop/shop',
  'meridian://shop/shop/member/',
  'meridian://shop/shop/admin',
  'meridian://shop/shop/role/',
  'meridian://shop/shop/role/a/b',
  'https://shop/shop/router',
  'meridian://shop/shop/router/x',
  'meridian://Shop/shop/router',
]) {
  test(`${JSON.stringify(uri)} is nobody's`, () => assert.equal(parseIdentityUri(uri), undefined));
}

test('a certificate with two identities, or none, is nobody’s', () => {
  const two = identities.slice(0, 2).map((identity) => `URI:${identityUri(identity)}`);
  assert.equal(identityOfSubjectAltName(two.join(', ')), undefined);
  assert.equal(identityOfSubjectAltName('DNS:localhost'), undefined);
  assert.equal(identityOfSubjectAltName(undefined), undefined);
});

test('a member’s name in replication carries its incarnation and fits Postgres’ 63 bytes', () => {
  const longest = { name: `${'a'.repeat(40)}-0`, incarnation: '0123456789abcdef' };
  assert.equal(replicationName(longest), `${longest.name}/0123456789abcdef`);
  assert.ok(replicationName(longest).length <= 63);
  assert.match(slotName(longest.incarnation), /^[a-z0-9_]{1,63}$/);
});
