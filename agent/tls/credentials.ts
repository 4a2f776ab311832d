/**
 * This member's certificate, its key and the keyspace's authority, read from the mounted Secret and read again when they
 * change: a renewal needs no restart. A set that doesn't belong together (a half-finished change) is not taken.
 * Postgres reads copies of ours, since it asks for a key file of its own user and exact modes.
 */
import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SecureContextOptions } from 'node:tls';
import { writeDurably } from '#agent/durable-file.ts';
import { identityOfSubjectAltName, type PeerIdentity } from '#core/identity.ts';

export interface Credentials {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
  readonly notAfter: Date;
  readonly identity: PeerIdentity;
  readonly fingerprint: string;
}

export class CredentialsError extends Error {
  override readonly name = 'CredentialsError';
}

const POLL_MS = 2_000;

export async function readCredentials(folder: string, podName: string): Promise<Credentials> {
  const [ca, certificate, key] = await Promise.all(
    ['ca.crt', `${podName}.crt`, `${podName}.key`].map((name) => readFile(join(folder, name), 'utf8')),
  );
  if (ca === undefined || certificate === undefined || key === undefined) throw new CredentialsError('missing files');
  return checkCredentials(ca, certificate, key, podName);
}

/** @throws CredentialsError when key and certificate are no pair, or the certificate is another's. */
export function checkCredentials(ca: string, certificate: string, key: string, podName: string): Credentials {
  const parsed = new X509Certificate(certificate);
  if (!parsed.checkPrivateKey(createPrivateKey(key))) throw new CredentialsError("the key is not the certificate's");
  const identity = identityOfSubjectAltName(parsed.subjectAltName);
  if (identity?.kind !== 'member' || identity.member !== podName) {
    throw new CredentialsError(`the certificate is not member ${podName}'s (${parsed.subjectAltName ?? 'no names'})`);
  }
  return {
    ca,
    certificate,
    key,
    notAfter: new Date(parsed.validTo),
    identity,
    fingerprint: createHash('sha256').update(ca).update(certificate).update(key).digest('hex'),
  };
}

/** For both ends of every connection between agents, and for the API. AES-128 first: it is the fastest and enough. */
export const secureContextOf = ({ ca, certificate, key }: Credentials): SecureContextOptions => ({
  ca,
  cert: certificate,
  key,
  minVersion: 'TLSv1.3',
  ciphers: 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384',
});

export class CredentialsWatch {
  readonly #folder: string;
  readonly #podName: string;
  readonly #listeners: ((credentials: Credentials) => void | Promise<void>)[] = [];
  readonly #onProblem: (problem: string) => void;
  #current: Credentials;
  /** Fingerprint of the ones that every listener has taken. */
  #taken: string;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;
  #lastProblem = '';

  private constructor(folder: string, podName: string, first: Credentials, onProblem: (problem: string) => void) {
    this.#folder = folder;
    this.#podName = podName;
    this.#current = first;
    this.#taken = first.fingerprint;
    this.#onProblem = onProblem;
  }

  static async open(folder: string, podName: string, onProblem: (problem: string) => void): Promise<CredentialsWatch> {
    return new CredentialsWatch(folder, podName, await readCredentials(folder, podName), onProblem);
  }

  get current(): Credentials {
    return this.#current;
  }

  onChange(listener: (credentials: Credentials) => void | Promise<void>): void {
    this.#listeners.push(listener);
  }

  start(pollMs = POLL_MS): void {
    const poll = async (): Promise<void> => {
      await this.#poll();
      if (this.#isStopped) return;
      this.#timer = setTimeout(() => void poll(), pollMs);
    };
    this.#timer = setTimeout(() => void poll(), pollMs);
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  async #poll(): Promise<void> {
    try {
      const read = await readCredentials(this.#folder, this.#podName);
      this.#current = read;
      if (read.fingerprint !== this.#taken) {
        // One that fails is asked again at the next look, and so are the others: taking the same twice does no harm.
        for (const listener of this.#listeners) await listener(read);
        this.#taken = read.fingerprint;
      }
      this.#lastProblem = '';
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      if (problem !== this.#lastProblem) this.#onProblem(problem);
      this.#lastProblem = problem;
    }
  }
}

export interface PostgresTlsFiles {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

export const postgresTlsFiles = (folder: string): PostgresTlsFiles => ({
  ca: join(folder, 'ca.crt'),
  certificate: join(folder, 'server.crt'),
  key: join(folder, 'server.key'),
});

export async function writePostgresTls(folder: string, credentials: Credentials): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const files = postgresTlsFiles(folder);
  await writeDurably(files.ca, credentials.ca);
  await writeDurably(files.certificate, credentials.certificate);
  await writeDurably(files.key, credentials.key);
}
