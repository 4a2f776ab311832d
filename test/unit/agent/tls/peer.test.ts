import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { peerOf } from '#agent/tls/peer.ts';
import { identityUri, type PeerIdentity } from '#core/identity.ts';

const place = { namespace: 'prod', keyspace: 'shop' };
const peer = (identity: PeerIdentity, authorized = true): PeerIdentity | undefined =>
  peerOf(
    {
      authorized,
      getPeerCertificate: () => ({ subjectaltname: `URI:${identityUri(identity)}` }),
    } as unknown as TLSSocket,
    place,
  );

test('members, routers and operators of the keyspace are somebody to an agent', () => {
  for (const identity of [
    { kind: 'member', ...place, member: 'shop-a-0' },
    { kind: 'router', ...place },
    { kind: 'operator', ...place },
  ] as const)
    assert.deepEqual(peer(identity), identity);
});

test('an application with a certificate is nobody to an agent, and so is who is of another keyspace or not verified', () => {
  assert.equal(peer({ kind: 'role', ...place, role: 'shop_app' }), undefined);
  assert.equal(peer({ kind: 'router', ...place, keyspace: 'pay' }), undefined);
  assert.equal(peer({ kind: 'router', ...place }, false), undefined);
});
