/**
 * The Secret `<regional replica>-tls`: the trust bundle, and certificate and key of every pod of one RegionalReplica.
 * One Secret for all its pods, since a StatefulSet's pods share one template; kubelets swap its files in place, and agents read
 * them again, so renewal needs no restart.
 * Pure but for the keys that are made; reading and writing the Secret is the controller's.
 */
import { memberName } from '#core/names.ts';
import type { Secret } from '#kube/kinds.ts';
import type { KeyspaceCa } from './authority.ts';
import { validityOf } from './key-pair.ts';
import { type CertificateWish, issueCertificate, type ReissueReason, reissueReason } from './leaf.ts';
import { encoded, textOf } from './secrets.ts';

export interface MemberCertificatesWish {
  readonly namespace: string;
  readonly keyspace: string;
  readonly regionalReplica: string;
  /** Certificates are made for ordinals 0 to this less one. */
  readonly ordinals: number;
}

export const memberCertificateWish = (wish: MemberCertificatesWish, member: string): CertificateWish => ({
  identity: { kind: 'member', namespace: wish.namespace, keyspace: wish.keyspace, member },
  dnsNames: [`${member}.${wish.regionalReplica}.${wish.namespace}.svc`, member],
  ipAddresses: [],
});

export interface DueCertificate {
  readonly member: string;
  readonly reason: ReissueReason;
}

const membersOf = (wish: MemberCertificatesWish): string[] =>
  Array.from({ length: wish.ordinals }, (_, ordinal) => memberName(wish.regionalReplica, ordinal));

const pairOf = (secret: Secret | undefined, member: string) => {
  const certificate = textOf(secret, `${member}.crt`);
  const privateKey = textOf(secret, `${member}.key`);
  return certificate === undefined || privateKey === undefined ? undefined : { certificate, privateKey };
};

/** Which certificates must be issued now; empty when all are good. */
export function dueMemberCertificates(
  secret: Secret | undefined,
  ca: KeyspaceCa,
  wish: MemberCertificatesWish,
  now: Date,
): DueCertificate[] {
  return membersOf(wish).flatMap((member) => {
    const reason = reissueReason(pairOf(secret, member), ca, memberCertificateWish(wish, member), now);
    return reason === undefined ? [] : [{ member, reason }];
  });
}

/** Whether the Secret has to be written: a certificate is due, the bundle is another, or a pod is no longer wished. */
export function memberSecretIsStale(
  secret: Secret | undefined,
  ca: KeyspaceCa,
  wish: MemberCertificatesWish,
  now: Date,
): boolean {
  const wished = new Set(['ca.crt', ...membersOf(wish).flatMap((member) => [`${member}.crt`, `${member}.key`])]);
  const superfluous = Object.keys(secret?.data ?? {}).some((key) => !wished.has(key));
  return (
    superfluous || textOf(secret, 'ca.crt') !== ca.bundle || dueMemberCertificates(secret, ca, wish, now).length > 0
  );
}

/** The data of the Secret, with good certificates kept as they are. */
export async function memberSecretData(
  secret: Secret | undefined,
  ca: KeyspaceCa,
  wish: MemberCertificatesWish,
  now: Date,
): Promise<Record<string, string>> {
  const texts: Record<string, string> = { 'ca.crt': ca.bundle };
  for (const member of membersOf(wish)) {
    const certificateWish = memberCertificateWish(wish, member);
    const present = pairOf(secret, member);
    const pair =
      present !== undefined && reissueReason(present, ca, certificateWish, now) === undefined
        ? present
        : await issueCertificate(ca, certificateWish, now);
    texts[`${member}.crt`] = pair.certificate;
    texts[`${member}.key`] = pair.privateKey;
  }
  return encoded(texts);
}

/** When the first of the certificates ends; undefined when there is none. */
export function earliestExpiry(secret: Secret | undefined): Date | undefined {
  return Object.keys(secret?.data ?? {})
    .filter((key) => key.endsWith('.crt') && key !== 'ca.crt')
    .map((key) => validityOf(textOf(secret, key) ?? '')?.notAfter)
    .filter((time) => time !== undefined)
    .toSorted((a, b) => a.getTime() - b.getTime())[0];
}
