/**
 * The router's certificate, for both sides: what clients verify, and what members take for a log-in.
 * Read again when the files change (the kubelet swaps a symlink), so that a renewed certificate needs no restart;
 * connections that exist keep the one they began with.
 */
import { createHmac } from 'node:crypto';
import { unwatchFile, watchFile } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createSecureContext, type PeerCertificate, type SecureContext } from 'node:tls';
import { identityOfSubjectAltName } from '#core/identity.ts';

export interface TlsContexts {
  readonly server: SecureContext;
  readonly client: SecureContext;
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
      server: createSecureContext({ cert, key, minVersion: 'TLSv1.2' }),
      client: createSecureContext({ cert, key, ca, minVersion: 'TLSv1.2' }),
      mockSecret: this.#mockSecret,
    };
  }
}

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
