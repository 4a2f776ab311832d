/**
 * The router's certificate, for both sides: what clients verify, and what members take for a log-in.
 * Read again when the files change (the kubelet swaps a symlink), so that a renewed certificate needs no restart;
 * connections that exist keep the one they began with.
 */
import { createHash, createHmac, X509Certificate } from 'node:crypto';
import { unwatchFile, watchFile } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createSecureContext, type PeerCertificate, type SecureContext } from 'node:tls';
import { identityOfSubjectAltName, type PeerIdentity } from '#core/identity.ts';

export interface TlsContexts {
  readonly server: SecureContext;
  readonly client: SecureContext;
  /** What -PLUS binds a log-in to: a digest of this certificate; undefined where the certificate's signature has no digest of its own. */
  readonly serverEndPoint: Buffer | undefined;
  /** Who signs the certificates that are taken from clients and from other routers. */
  readonly authorities: readonly X509Certificate[];
  /** Secret that only routers of this keyspace have; what mock verifiers are made from. The same for as long as the program runs. */
  readonly mockSecret: Buffer;
}

export class TlsFiles {
  readonly #folder: string;
  readonly #pollMs: number;
  #contexts: TlsContexts | undefined;
  #mockSecret: Buffer | undefined;

  constructor(folder: string, pollMs = 5_000) {
    this.#folder = folder;
    this.#pollMs = pollMs;
  }

  /** Loads the files; from then on they are looked at until the signal fires. */
  async start(onReload: (error: Error | undefined) => void, signal: AbortSignal): Promise<void> {
    this.#contexts = await this.#load();
    const path = join(this.#folder, 'tls.crt');
    const changed = (): void => {
      this.#load().then(
        (contexts) => {
          this.#contexts = contexts;
          onReload(undefined);
        },
        // Key and certificate may not fit for a moment; the next change of the file tries again.
        (error: unknown) => onReload(error instanceof Error ? error : new Error(String(error))),
      );
    };
    watchFile(path, { interval: this.#pollMs, persistent: false }, changed);
    signal.addEventListener('abort', () => unwatchFile(path, changed), { once: true });
  }

  get contexts(): TlsContexts {
    if (this.#contexts === undefined) throw new Error('certificates have not been loaded');
    return this.#contexts;
  }

  async #load(): Promise<TlsContexts> {
    const read = (name: string): Promise<Buffer> => readFile(join(this.#folder, name));
    const [cert, key, ca] = await Promise.all([read('tls.crt'), read('tls.key'), read('ca.crt')]);
    // Of the first key, whatever comes after: a salt that changes with a renewal would tell who isn't there.
    this.#mockSecret ??= createHmac('sha256', key).update('meridian mock verifier').digest();
    return {
      // Clients are asked for a certificate and may have none. OpenSSL resumes such sessions only where they have a context.
      server: createSecureContext({ cert, key, ca, minVersion: 'TLSv1.2', sessionIdContext: 'meridian-router' }),
      client: createSecureContext({ cert, key, ca, minVersion: 'TLSv1.2' }),
      serverEndPoint: serverEndPointOf(new X509Certificate(cert)),
      authorities: certificatesOf(ca.toString('latin1')),
      mockSecret: this.#mockSecret,
    };
  }
}

const pemForm = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

const certificatesOf = (pem: string): X509Certificate[] =>
  (pem.match(pemForm) ?? []).map((one) => new X509Certificate(one));

/** RFC 5929, section 4.1: the digest that the certificate is signed with, but SHA-256 where that is MD5 or SHA-1. */
function serverEndPointOf(certificate: X509Certificate): Buffer | undefined {
  const bits = /(?:^|[^0-9a-z])sha-?(1|224|256|384|512)|md5/i.exec(certificate.signatureAlgorithm ?? '');
  if (bits === null) return undefined;
  const digest = bits[1] === undefined || bits[1] === '1' ? 'sha256' : `sha${bits[1]}`;
  return createHash(digest).update(certificate.raw).digest();
}

const clientAuthentication = '1.3.6.1.5.5.7.3.2';

/** For connections between routers, which are dialled by address as well. */
export const routerIdentityCheck = (_host: string, certificate: PeerCertificate): Error | undefined =>
  identityOfSubjectAltName(certificate.subjectaltname)?.kind === 'router'
    ? undefined
    : new Error(`expected a router, but the certificate says ${certificate.subjectaltname ?? 'nothing'}`);

/**
 * Who a client is by its certificate; undefined where it has shown none that one of the authorities signed directly, for clients, and
 * that counts now. TLS itself has proven that it holds the key. Checked here, not by OpenSSL: a client with a certificate for somebody
 * else (libpq sends whatever lies in ~/.postgresql) is a client without one.
 */
export function clientIdentity(
  certificate: X509Certificate | undefined,
  authorities: readonly X509Certificate[],
  nowMs: number,
): PeerIdentity | undefined {
  if (certificate === undefined || certificate.ca || !isValidAt(certificate, nowMs)) return undefined;
  // Whatever its type says, Node has none where the certificate names no use.
  if (!(certificate.keyUsage ?? []).includes(clientAuthentication)) return undefined;
  const issuer = authorities.find(
    (one) => one.ca && isValidAt(one, nowMs) && certificate.checkIssued(one) && certificate.verify(one.publicKey),
  );
  return issuer === undefined ? undefined : identityOfSubjectAltName(certificate.subjectAltName);
}

const isValidAt = (certificate: X509Certificate, nowMs: number): boolean =>
  certificate.validFromDate.getTime() <= nowMs && nowMs < certificate.validToDate.getTime();

/**
 * Checks that the peer is the member that was meant: members are dialled by address, so the URI in the certificate counts,
 * not a host name. For `checkServerIdentity` of node:tls, which runs after the chain has been verified.
 */
export function memberIdentityCheck(member: string): (host: string, certificate: PeerCertificate) => Error | undefined {
  return (_host, certificate) => {
    const identity = identityOfSubjectAltName(certificate.subjectaltname);
    if (identity?.kind === 'member' && identity.member === member) return undefined;
    return new Error(`expected member ${member}, but the certificate says ${certificate.subjectaltname ?? 'nothing'}`);
  };
}
