/**
 * Certificates of members, routers and operators: what each must say, issuing it, and whether one that exists still says so.
 * The identity stands in the common name (Postgres maps it to roles) and in a URI (agents check it); host names are only for
 * SQL clients with `sslmode=verify-full`. Every certificate serves both ends of a connection.
 * Leaves storage to `secrets.ts`.
 */
import 'reflect-metadata'; // first: @peculiar/x509 needs it while it loads
import { createPrivateKey, type X509Certificate as NodeCertificate } from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { identityUri, type PeerIdentity } from '#core/identity.ts';
import { certificateNames } from '#core/roles.ts';
import type { KeyspaceCa } from './authority.ts';
import {
  backdateMs,
  ecdsaSha256,
  exportPrivateKey,
  generateKeys,
  importPrivateKey,
  type KeyPairPem,
  needsRenewal,
  parseCertificate,
} from './key-pair.ts';

export const leafLifeMs = 90 * 24 * 3600_000;

/** What a certificate must say. */
export interface CertificateWish {
  readonly identity: PeerIdentity;
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
}

/** Issues a certificate for 90 days with a new key of its own. */
export async function issueCertificate(ca: KeyspaceCa, wish: CertificateWish, now: Date): Promise<KeyPairPem> {
  const issuer = new X509Certificate(ca.signer.certificate);
  const keys = await generateKeys();
  const notAfter = Math.min(now.getTime() + leafLifeMs, issuer.notAfter.getTime());
  const certificate = await X509CertificateGenerator.create({
    subject: [{ CN: [certificateNames[wish.identity.kind]] }],
    issuer: issuer.subjectName,
    publicKey: keys.publicKey,
    signingKey: await importPrivateKey(ca.signer.privateKey),
    signingAlgorithm: ecdsaSha256,
    notBefore: new Date(now.getTime() - backdateMs),
    notAfter: new Date(notAfter),
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
      new SubjectAlternativeNameExtension([
        { type: 'url', value: identityUri(wish.identity) },
        ...wish.dnsNames.map((value) => ({ type: 'dns' as const, value })),
        ...wish.ipAddresses.map((value) => ({ type: 'ip' as const, value })),
      ]),
      await AuthorityKeyIdentifierExtension.create(issuer.publicKey),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: `${certificate.toString('pem')}\n`, privateKey: await exportPrivateKey(keys.privateKey) };
}

/** Why an existing certificate must be issued again; undefined when it is good. Word for word in the operator's log. */
export type ReissueReason =
  | 'there is none'
  | 'its key does not belong to it'
  | 'it is not signed by the present authority'
  | 'it says another identity or other names'
  | 'two thirds of its life are over';

export function reissueReason(
  existing: KeyPairPem | undefined,
  ca: KeyspaceCa,
  wish: CertificateWish,
  now: Date,
): ReissueReason | undefined {
  const certificate = existing && parseCertificate(existing.certificate);
  if (existing === undefined || certificate === undefined) return 'there is none';
  if (!keyBelongs(certificate, existing.privateKey)) return 'its key does not belong to it';
  const issuer = parseCertificate(ca.signer.certificate);
  if (issuer === undefined || !certificate.checkIssued(issuer) || !certificate.verify(issuer.publicKey))
    return 'it is not signed by the present authority';
  if (namesIn(certificate) !== namesWished(wish)) return 'it says another identity or other names';
  return needsRenewal(existing.certificate, now) ? 'two thirds of its life are over' : undefined;
}

function keyBelongs(certificate: NodeCertificate, privateKey: string): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(privateKey));
  } catch {
    return false;
  }
}

function namesIn(certificate: NodeCertificate): string {
  const names = (certificate.subjectAltName ?? '').split(', ').map((name) => {
    const address = /^IP Address:(.*)$/.exec(name)?.[1];
    return address === undefined ? name : `IP Address:${canonicalAddress(address)}`;
  });
  return [certificate.subject, ...names.toSorted()].join('\n');
}

/** One spelling for each address: Node prints IPv6 addresses in full and in capitals. */
const canonicalAddress = (address: string): string =>
  address.includes(':') ? new URL(`http://[${address}]`).hostname.slice(1, -1) : address;

/** In the form in which Node prints a certificate's names (`URI:`, `DNS:`, `IP Address:`). */
function namesWished(wish: CertificateWish): string {
  const names = [
    `URI:${identityUri(wish.identity)}`,
    ...wish.dnsNames.map((name) => `DNS:${name}`),
    ...wish.ipAddresses.map((address) => `IP Address:${canonicalAddress(address)}`),
  ];
  return [`CN=${certificateNames[wish.identity.kind]}`, ...names.toSorted()].join('\n');
}
