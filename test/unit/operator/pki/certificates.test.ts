/** Certificates of a keyspace: what they say, when they are issued again, and that TLS itself takes them. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { identityOfSubjectAltName } from '#core/identity.ts';
import type { Secret } from '#kube/kinds.ts';
import { makeCa, readCa } from '#operator/pki/authority.ts';
import { certificatesOf, needsRenewal } from '#operator/pki/key-pair.ts';
import { type CertificateWish, issueCertificate, leafLifeMs, reissueReason } from '#operator/pki/leaf.ts';
import {
  dueMemberCertificates,
  earliestExpiry,
  memberSecretData,
  memberSecretIsStale,
} from '#operator/pki/member-secret.ts';

const now = new Date('2026-06-01T00:00:00Z');
const later = (ms: number): Date => new Date(now.getTime() + ms);
const owner = { namespace: 'prod', keyspace: 'shop' };
const ca = await makeCa(owner, now);

const member: CertificateWish = {
  identity: { kind: 'member', ...owner, member: 'a-eu-0' },
  dnsNames: ['a-eu-0.a-eu.prod.svc', 'a-eu-0'],
  ipAddresses: [],
};
const router: CertificateWish = {
  identity: { kind: 'router', ...owner },
  dnsNames: ['shop-router-eu.prod.svc', 'localhost'],
  ipAddresses: ['127.0.0.1', '::1'],
};

test('a member certificate says who it is, by common name and by URI, and serves both ends', async () => {
  const certificate = new X509Certificate((await issueCertificate(ca, member, now)).certificate);
  assert.equal(certificate.subject, 'CN=meridian-member');
  assert.deepEqual(identityOfSubjectAltName(certificate.subjectAltName), member.identity);
  assert.deepEqual(certificate.keyUsage?.toSorted(), ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
  assert.equal(certificate.ca, false);
  assert.ok(certificate.verify(new X509Certificate(ca.bundle).publicKey));
  assert.equal(certificate.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1');
  assert.ok(certificate.checkHost('a-eu-0.a-eu.prod.svc') !== undefined);
});

test('the authority may sign, lives ten years, and can not make further authorities', () => {
  const certificate = new X509Certificate(ca.bundle);
  assert.equal(certificate.ca, true);
  assert.ok(certificate.checkIssued(certificate));
  assert.ok(certificate.validToDate > later(9 * 365 * 24 * 3600_000));
});

test('a certificate is renewed at two thirds of its life, and when the clock was put back before its start', async () => {
  const { certificate } = await issueCertificate(ca, member, now);
  assert.equal(needsRenewal(certificate, now), false);
  assert.equal(needsRenewal(certificate, later(leafLifeMs * 0.66)), false);
  assert.equal(needsRenewal(certificate, later(leafLifeMs * 0.67)), true);
  assert.equal(needsRenewal(certificate, later(-3600_000)), true);
  assert.equal(needsRenewal('no certificate', now), true);
});

test('a certificate is issued again exactly when something about it is not as wished', async () => {
  const pair = await issueCertificate(ca, router, now);
  const other = await issueCertificate(ca, router, now);
  const stranger = await makeCa(owner, now);
  assert.equal(reissueReason(pair, ca, router, now), undefined);
  assert.equal(reissueReason(undefined, ca, router, now), 'there is none');
  assert.equal(reissueReason({ ...pair, certificate: 'x' }, ca, router, now), 'there is none');
  assert.equal(
    reissueReason({ ...pair, privateKey: other.privateKey }, ca, router, now),
    'its key does not belong to it',
  );
  assert.equal(reissueReason(pair, stranger, router, now), 'it is not signed by the present authority');
  assert.equal(
    reissueReason(pair, ca, { ...router, dnsNames: ['localhost'] }, now),
    'it says another identity or other names',
  );
  assert.equal(reissueReason(pair, ca, member, now), 'it says another identity or other names');
  assert.equal(reissueReason(pair, ca, router, later(leafLifeMs * 0.7)), 'two thirds of its life are over');
});

test('IPv6 addresses in a certificate are recognised when it is read back', async () => {
  const pair = await issueCertificate(ca, { ...router, ipAddresses: ['2001:db8::1', '10.0.0.1'] }, now);
  assert.equal(reissueReason(pair, ca, { ...router, ipAddresses: ['2001:db8::1', '10.0.0.1'] }, now), undefined);
});

test('a bundle of two authorities: the first signs, both are trusted', async () => {
  const next = await makeCa(owner, now);
  const both = readCa(next.bundle + ca.bundle, next.signer.privateKey);
  assert.ok(typeof both !== 'string');
  assert.equal(certificatesOf(both.bundle).length, 2);
  assert.equal(both.signer.certificate, next.bundle);
  const pair = await issueCertificate(both, member, now);
  assert.equal(reissueReason(pair, both, member, now), undefined);
});

test('a broken authority is named for what it is, and never replaced', async () => {
  const { certificate } = await issueCertificate(ca, member, now);
  assert.equal(readCa(undefined, ca.signer.privateKey), 'no certificate in ca.crt');
  assert.equal(readCa(certificate, ca.signer.privateKey), 'no certificate in ca.crt', 'a leaf is no authority');
  assert.equal(readCa(ca.bundle, 'x'), 'no private key in ca.key');
  assert.equal(readCa(ca.bundle, (await makeCa(owner, now)).signer.privateKey), 'ca.key is not the key of ca.crt');
});

test('the Secret of a regional replica keeps good certificates and issues those that are due', async () => {
  const wish = { ...owner, regionalReplica: 'a-eu', ordinals: 2 };
  const secretOf = (data: Record<string, string>): Secret => ({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'a-eu-tls' },
    data,
  });
  assert.deepEqual(
    dueMemberCertificates(undefined, ca, wish, now).map(({ member: name }) => name),
    ['a-eu-0', 'a-eu-1'],
  );
  const first = secretOf(await memberSecretData(undefined, ca, wish, now));
  assert.equal(memberSecretIsStale(first, ca, wish, now), false);
  assert.equal(memberSecretIsStale(first, ca, { ...wish, ordinals: 1 }, now), true, 'a key too many');
  assert.equal(earliestExpiry(first)?.getTime(), later(leafLifeMs).getTime());

  const grown = await memberSecretData(first, ca, { ...wish, ordinals: 3 }, now);
  assert.equal(grown['a-eu-0.crt'], first.data?.['a-eu-0.crt'], 'good ones are kept');
  assert.ok(grown['a-eu-2.crt'] !== undefined);

  const old = await memberSecretData(first, ca, wish, later(leafLifeMs * 0.7));
  assert.notEqual(old['a-eu-0.crt'], first.data?.['a-eu-0.crt'], 'due ones are new');
});
