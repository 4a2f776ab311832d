/**
 * The certificate authority of one Keyspace: makes it, and reads it back from its Secret.
 * A bundle may hold two authorities: the first signs, all are trusted. A rotation puts the new one second, waits until every
 * peer trusts it, then swaps them; so leaves of both are accepted all the while.
 * Leaves storage to `secrets.ts`.
 */
import 'reflect-metadata'; // first: @peculiar/x509 needs it while it loads
import { createPrivateKey } from 'node:crypto';
import {
  BasicConstraintsExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';
import {
  backdateMs,
  certificatesOf,
  ecdsaSha256,
  exportPrivateKey,
  generateKeys,
  type KeyPairPem,
  parseCertificate,
} from './key-pair.ts';

const caLifeMs = 3652 * 24 * 3600_000;

/** The authority as the rest of the operator uses it. */
export interface KeyspaceCa {
  /** Signs. */
  readonly signer: KeyPairPem;
  /** What peers trust: the signer's certificate first, then any other. Goes into `ca.crt` everywhere. */
  readonly bundle: string;
}

/** Makes a new authority, valid for ten years. */
export async function makeCa(owner: { namespace: string; keyspace: string }, now: Date): Promise<KeyspaceCa> {
  const keys = await generateKeys();
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: [{ CN: [`meridian-ca ${owner.namespace}/${owner.keyspace}`.slice(0, 64)] }],
    keys,
    notBefore: new Date(now.getTime() - backdateMs),
    notAfter: new Date(now.getTime() + caLifeMs),
    signingAlgorithm: ecdsaSha256,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const pem = `${certificate.toString('pem')}\n`;
  return { signer: { certificate: pem, privateKey: await exportPrivateKey(keys.privateKey) }, bundle: pem };
}

/** Why a stored authority can't be used. It is never replaced by itself: that would cut off every member at once. */
export type CaProblem = 'no certificate in ca.crt' | 'no private key in ca.key' | 'ca.key is not the key of ca.crt';

/** Reads an authority from the texts of its Secret. */
export function readCa(bundle: string | undefined, privateKey: string | undefined): KeyspaceCa | CaProblem {
  const certificates = certificatesOf(bundle ?? '');
  const signing = certificates[0];
  const certificate = signing === undefined ? undefined : parseCertificate(signing);
  if (signing === undefined || certificate === undefined || !certificate.ca) return 'no certificate in ca.crt';
  try {
    if (!certificate.checkPrivateKey(createPrivateKey(privateKey ?? ''))) return 'ca.key is not the key of ca.crt';
  } catch {
    return 'no private key in ca.key';
  }
  return { signer: { certificate: signing, privateKey: privateKey ?? '' }, bundle: certificates.join('') };
}
