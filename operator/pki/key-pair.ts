/**
 * A certificate with its private key, in PEM, and the questions asked of a certificate that was read back.
 * Leaves issuing to `authority.ts` and `leaf.ts`, and Secrets to `secrets.ts`.
 * Invariant: private keys are ECDSA P-256 in PKCS #8; nothing here logs or formats a key.
 */
import 'reflect-metadata'; // first: @peculiar/x509 needs it while it loads
import { X509Certificate } from 'node:crypto';
import { cryptoProvider, PemConverter } from '@peculiar/x509';

export interface KeyPairPem {
  /** One certificate; for an authority the one that signs. */
  readonly certificate: string;
  readonly privateKey: string;
}

export const ecdsaP256 = { name: 'ECDSA', namedCurve: 'P-256' } as const;
export const ecdsaSha256 = { name: 'ECDSA', hash: 'SHA-256' } as const;

/** Certificates start this long before they are issued, so that a node with a slow clock takes them at once. */
export const backdateMs = 5 * 60_000;

/** A member's clock may be this far off at the end of a certificate's life, too: renewal at two thirds leaves weeks. */
const renewalFraction = 2 / 3;

export async function generateKeys(): ReturnType<typeof generateP256> {
  return generateP256();
}

function generateP256() {
  return cryptoProvider.get().subtle.generateKey(ecdsaP256, true, ['sign', 'verify']);
}

export type Keys = Awaited<ReturnType<typeof generateP256>>;

export async function exportPrivateKey(key: Keys['privateKey']): Promise<string> {
  return `${PemConverter.encode(await cryptoProvider.get().subtle.exportKey('pkcs8', key), 'PRIVATE KEY')}\n`;
}

export async function importPrivateKey(pem: string): Promise<Keys['privateKey']> {
  return cryptoProvider.get().subtle.importKey('pkcs8', PemConverter.decodeFirst(pem), ecdsaP256, false, ['sign']);
}

/** Splits a bundle into its certificates, in order. */
export function certificatesOf(bundle: string): string[] {
  return [...bundle.matchAll(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g)].map(
    (match) => `${match[0]}\n`,
  );
}

export interface Validity {
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** Undefined where the text is no certificate. */
export function validityOf(certificatePem: string): Validity | undefined {
  const certificate = parseCertificate(certificatePem);
  return certificate && { notBefore: certificate.validFromDate, notAfter: certificate.validToDate };
}

export function parseCertificate(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}

/** When two thirds of the life are over. */
export function renewalTime(validity: Validity): Date {
  const lifeMs = validity.notAfter.getTime() - validity.notBefore.getTime();
  return new Date(validity.notBefore.getTime() + lifeMs * renewalFraction);
}

/** True for anything that should be issued again now: due, unreadable, or not valid yet (a clock was put back). */
export function needsRenewal(certificatePem: string, now: Date): boolean {
  const validity = validityOf(certificatePem);
  return validity === undefined || now < validity.notBefore || now >= renewalTime(validity);
}
