/**
 * Authorities and certificates as Secrets: made where absent, issued again where due, written only on a change.
 * What a certificate says is in `leaf.ts`. Members' Secrets, which hold several certificates, are in `member-secret.ts`.
 * Invariants: an authority's Secret is created once and never overwritten, so two operators at once end with one authority;
 * certificates are written whole (one apply), so certificate, key and bundle always belong together.
 */

import { caSecretName, labels, managedByValue } from '#core/names.ts';
import type { KubeApi } from '#kube/client.ts';
import { ApiError } from '#kube/errors.ts';
import { type Secret, secrets } from '#kube/kinds.ts';
import type { KubeObject, ObjectMeta } from '#kube/objects.ts';
import { type CaProblem, type KeyspaceCa, makeCa, readCa } from './authority.ts';
import { validityOf } from './key-pair.ts';
import { type CertificateWish, issueCertificate, type ReissueReason, reissueReason } from './leaf.ts';

/** A Secret that people must repair or delete: replacing an authority cuts off every member, so we never do it by ourselves. */
export class BrokenAuthorityError extends Error {
  override readonly name = 'BrokenAuthorityError';
  readonly problem: CaProblem;

  constructor(secret: string, problem: CaProblem) {
    super(`Secret ${secret}: ${problem}. Restore it, or delete it to have a new authority made.`);
    this.problem = problem;
  }
}

export const textOf = (secret: Secret | undefined, key: string): string | undefined => {
  const value = secret?.data?.[key];
  return value === undefined ? undefined : Buffer.from(value, 'base64').toString('utf8');
};

export const encoded = (texts: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(texts).map(([key, text]) => [key, Buffer.from(text, 'utf8').toString('base64')]));

/** The keyspace's authority, made on first use. @throws BrokenAuthorityError, ApiError */
export async function ensureKeyspaceCa(
  kube: KubeApi,
  keyspace: Pick<KubeObject, 'metadata'>,
  now: Date,
): Promise<KeyspaceCa> {
  const { namespace = '', name } = keyspace.metadata;
  const client = kube.of(secrets);
  const reference = { namespace, name: caSecretName(name) };
  const existing = await client.find(reference);
  if (existing !== undefined) return caOfSecret(existing);
  const ca = await makeCa({ namespace, keyspace: name }, now);
  try {
    await client.create({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: {
        ...reference,
        labels: { [labels.managedBy]: managedByValue, [labels.component]: 'authority', [labels.keyspace]: name },
        // No owner: with deletionPolicy Retain it outlives the Keyspace, which deletes it otherwise.
      },
      type: 'Opaque',
      data: encoded({ 'ca.crt': ca.bundle, 'ca.key': ca.signer.privateKey }),
    });
    return ca;
  } catch (error) {
    // Somebody else was first: theirs is the authority.
    if (error instanceof ApiError && error.isAlreadyExists) return caOfSecret(await client.get(reference));
    throw error;
  }
}

/** @throws BrokenAuthorityError */
export function caOfSecret(secret: Secret): KeyspaceCa {
  const ca = readCa(textOf(secret, 'ca.crt'), textOf(secret, 'ca.key'));
  if (typeof ca === 'string') throw new BrokenAuthorityError(secret.metadata.name, ca);
  return ca;
}

export interface CertificateSecretWish {
  readonly metadata: ObjectMeta;
  readonly certificate: CertificateWish;
}

/** One certificate as a Secret: `tls.crt`, `tls.key`, `ca.crt`. */
export interface CertificateSecret {
  readonly certificate: string;
  readonly privateKey: string;
  readonly bundle: string;
  readonly notAfter: Date;
  /** Why it was issued just now; undefined when it was good. */
  readonly issued: ReissueReason | undefined;
}

/** Makes the Secret say what is wished, issuing a certificate where that is needed. For routers and operators. */
export async function ensureCertificateSecret(
  kube: KubeApi,
  ca: KeyspaceCa,
  wish: CertificateSecretWish,
  now: Date,
): Promise<CertificateSecret> {
  const client = kube.of(secrets);
  const existing = await client.find(wish.metadata);
  const present = {
    certificate: textOf(existing, 'tls.crt') ?? '',
    privateKey: textOf(existing, 'tls.key') ?? '',
  };
  const issued = reissueReason(existing && present, ca, wish.certificate, now);
  const pair = issued === undefined ? present : await issueCertificate(ca, wish.certificate, now);
  if (issued !== undefined || textOf(existing, 'ca.crt') !== ca.bundle)
    await client.apply({
      metadata: wish.metadata,
      type: 'kubernetes.io/tls',
      data: encoded({ 'tls.crt': pair.certificate, 'tls.key': pair.privateKey, 'ca.crt': ca.bundle }),
    });
  return { ...pair, bundle: ca.bundle, notAfter: validityOf(pair.certificate)?.notAfter ?? now, issued };
}
