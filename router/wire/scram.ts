/**
 * The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677) from stored verifiers: the password is never known here.
 * A user may have several verifiers (two during a rotation); they share salt and iterations, and all are tried each time.
 * An unknown user gets the same conversation with a verifier that no password fits, so that it can't be told from a wrong
 * password. -PLUS binds the conversation to the TLS connection by the server's certificate (tls-server-end-point, RFC 5929, section 4).
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

export interface ScramVerifier {
  readonly iterations: number;
  /** Base64, as it is sent. */
  readonly salt: string;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

export const scramPlain = 'SCRAM-SHA-256';
export const scramPlus = 'SCRAM-SHA-256-PLUS';

const verifierForm = /^SCRAM-SHA-256\$([0-9]{1,9}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$/;
const keyBytes = 32;

/** Reads the form of `pg_authid.rolpassword`; undefined for anything else (MD5, plain text). */
export function parseVerifier(text: string): ScramVerifier | undefined {
  const match = verifierForm.exec(text);
  if (match === null) return undefined;
  const storedKey = Buffer.from(match[3] as string, 'base64');
  const serverKey = Buffer.from(match[4] as string, 'base64');
  const iterations = Number(match[1]);
  if (storedKey.length !== keyBytes || serverKey.length !== keyBytes || iterations < 1) return undefined;
  return { iterations, salt: match[2] as string, storedKey, serverKey };
}

const hmac = (key: Buffer, text: string | Buffer): Buffer => createHmac('sha256', key).update(text).digest();
const sha256 = (value: Buffer): Buffer => createHash('sha256').update(value).digest();

/**
 * A verifier for a user who doesn't exist. The salt is the same at each try (another one each time would give it away)
 * and the stored key is no hash of anything known.
 */
export function mockVerifier(user: string, secret: Buffer): ScramVerifier {
  return {
    iterations: 4096,
    salt: hmac(secret, `salt:${user}`).subarray(0, 16).toString('base64'),
    storedKey: hmac(secret, `stored:${user}`),
    serverKey: hmac(secret, `server:${user}`),
  };
}

export type ScramStep =
  | { readonly kind: 'continue'; readonly message: string }
  | { readonly kind: 'final'; readonly message: string }
  /** The proof fits no verifier. */
  | { readonly kind: 'refused' }
  /** The client and this server don't hold the two ends of one TLS connection, or somebody between them hid what is offered: 28000. */
  | { readonly kind: 'unbound'; readonly message: string }
  /** Not SCRAM: SQLSTATE 08P01. */
  | { readonly kind: 'malformed'; readonly message: string };

const malformed = (message: string): ScramStep => ({ kind: 'malformed', message });
const unbound = (message: string): ScramStep => ({ kind: 'unbound', message });

export class ScramConversation {
  readonly #verifiers: readonly ScramVerifier[];
  /** False for a mock verifier: the conversation ends in `refused` whatever the proof. */
  readonly #acceptable: boolean;
  readonly #serverNonce: string;
  #clientFirstBare = '';
  readonly #serverEndPoint: Buffer | undefined;
  /** What `c` in the client-final-message must say: the header of the first one, and what it is bound to. */
  #binding: Buffer = Buffer.alloc(0);
  #isBound = false;
  #nonce = '';
  #serverFirst = '';

  /**
   * @param verifiers at least one; those with another salt or iteration count than the first are left out.
   * @param serverEndPoint digest of the server's certificate; undefined where there is no TLS, and -PLUS wasn't offered.
   */
  constructor(
    verifiers: readonly ScramVerifier[],
    acceptable: boolean,
    serverNonce = randomBytes(18).toString('base64'),
    serverEndPoint?: Buffer,
  ) {
    const first = verifiers[0];
    if (first === undefined) throw new RangeError('SCRAM needs a verifier');
    this.#verifiers = verifiers.filter((one) => one.salt === first.salt && one.iterations === first.iterations);
    this.#acceptable = acceptable;
    this.#serverNonce = serverNonce;
    this.#serverEndPoint = serverEndPoint;
  }

  /** Takes the client-first-message. The user name in it is ignored, as in Postgres: the start-up packet's counts. */
  first(text: string, mechanism: string = scramPlain): ScramStep {
    const match = /^(n|y|p=[^,]*),([^,]*),(.*)$/s.exec(text);
    if (match === null) return malformed('malformed SCRAM message');
    const flag = match[1] as string;
    const refusal = this.#refuseBinding(flag, mechanism);
    if (refusal !== undefined) return refusal;
    if (match[2] !== '') return malformed('client uses authorization identity, but it is not supported');
    const bare = match[3] as string;
    const nonce = /^n=[^,]*,r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?$/s.exec(bare)?.[1];
    if (nonce === undefined) return malformed('malformed SCRAM message');
    const verifier = this.#verifiers[0] as ScramVerifier;
    const header = Buffer.from(`${flag},,`);
    this.#isBound = mechanism === scramPlus;
    this.#binding = this.#isBound ? Buffer.concat([header, this.#serverEndPoint as Buffer]) : header;
    this.#clientFirstBare = bare;
    this.#nonce = nonce + this.#serverNonce;
    this.#serverFirst = `r=${this.#nonce},s=${verifier.salt},i=${verifier.iterations}`;
    return { kind: 'continue', message: this.#serverFirst };
  }

  /** RFC 5802, section 6: a client that could bind and was told that this server can't has been told so by somebody else. */
  #refuseBinding(flag: string, mechanism: string): ScramStep | undefined {
    const isOffered = this.#serverEndPoint !== undefined;
    if (mechanism === scramPlus) {
      if (!isOffered) return malformed('channel binding was not offered');
      return flag === 'p=tls-server-end-point' ? undefined : malformed('unsupported SCRAM channel-binding type');
    }
    if (flag.startsWith('p')) return malformed('SCRAM-SHA-256 with channel binding data');
    if (flag === 'y' && isOffered)
      return unbound('the client supports SCRAM channel binding, but thinks that the server does not');
    return undefined;
  }

  /** Takes the client-final-message. */
  final(text: string): ScramStep {
    const match = /^(c=([^,]*),r=([^,]*)(?:,.*?)?),p=([^,]*)$/s.exec(text);
    if (match === null) return malformed('malformed SCRAM message');
    const binding = Buffer.from(match[2] as string, 'base64');
    if (!binding.equals(this.#binding))
      return this.#isBound
        ? unbound('SCRAM channel binding check failed')
        : malformed('unexpected SCRAM channel-binding attribute');
    if (match[3] !== this.#nonce) return malformed('SCRAM nonce does not match');
    const proof = Buffer.from(match[4] as string, 'base64');
    if (proof.length !== keyBytes) return malformed('malformed SCRAM proof');
    const authMessage = `${this.#clientFirstBare},${this.#serverFirst},${match[1]}`;
    let fitting: ScramVerifier | undefined;
    for (const verifier of this.#verifiers) {
      const signature = hmac(verifier.storedKey, authMessage);
      const clientKey = Buffer.alloc(keyBytes);
      for (let index = 0; index < keyBytes; index++)
        clientKey[index] = (proof[index] as number) ^ (signature[index] as number);
      if (timingSafeEqual(sha256(clientKey), verifier.storedKey)) fitting ??= verifier;
    }
    if (fitting === undefined || !this.#acceptable) return { kind: 'refused' };
    return { kind: 'final', message: `v=${hmac(fitting.serverKey, authMessage).toString('base64')}` };
  }
}
