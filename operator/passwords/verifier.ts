/**
 * SCRAM-SHA-256 verifiers in the form that Postgres keeps in `pg_authid.rolpassword`, made here so that every shard gets the very
 * same one and no password ever travels in SQL (where a log could catch it).
 * Source: RFC 5802 section 3, RFC 7677; PostgreSQL `src/common/scram-common.c` (`scram_build_secret`).
 *
 * Invariant: two verifiers of one role that overlap share salt and iteration count. In SCRAM the server sends both before it knows
 * which password the client has, so only then can either be accepted.
 */
import { createHash, createHmac, pbkdf2 as pbkdf2Callback, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';

const pbkdf2 = promisify(pbkdf2Callback);

/** Postgres' own default (`scram_iterations`). Generated passwords have 190 random bits, so more rounds would add nothing. */
export const defaultIterations = 4096;
/** Postgres' `SCRAM_DEFAULT_SALT_LEN`. */
export const saltBytes = 16;
/** More rounds than this from outside would let an edited Secret stop the operator. */
const maxIterations = 1_000_000;

export interface ScramParameters {
  readonly salt: Buffer;
  readonly iterations: number;
}

export interface ScramVerifier extends ScramParameters {
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

const form = /^SCRAM-SHA-256\$([0-9]{1,7}):([A-Za-z0-9+/]+={0,2})\$([A-Za-z0-9+/]{43}=):([A-Za-z0-9+/]{43}=)$/;

/** Reads a verifier; undefined when the text isn't one that we would accept. */
export function parseVerifier(text: string): ScramVerifier | undefined {
  const match = form.exec(text);
  const [, iterationsText, salt, storedKey, serverKey] = match ?? [];
  if (iterationsText === undefined || salt === undefined || storedKey === undefined || serverKey === undefined)
    return undefined;
  const iterations = Number(iterationsText);
  if (iterations < 1 || iterations > maxIterations) return undefined;
  return {
    iterations,
    salt: Buffer.from(salt, 'base64'),
    storedKey: Buffer.from(storedKey, 'base64'),
    serverKey: Buffer.from(serverKey, 'base64'),
  };
}

/** The verifier of a password, as text. Passwords are normalised by NFKC, the part of SASLprep that changes what people type. */
export async function makeVerifier(password: string, { salt, iterations }: ScramParameters): Promise<string> {
  const saltedPassword = await pbkdf2(password.normalize('NFKC'), salt, iterations, 32, 'sha256');
  const storedKey = createHash('sha256').update(hmac(saltedPassword, 'Client Key')).digest('base64');
  const serverKey = hmac(saltedPassword, 'Server Key').toString('base64');
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${storedKey}:${serverKey}`;
}

/** Whether a password is the one that a verifier was made from. */
export async function verifies(password: string, verifier: ScramVerifier): Promise<boolean> {
  const made = parseVerifier(await makeVerifier(password, verifier));
  return made !== undefined && timingSafeEqual(made.storedKey, verifier.storedKey);
}

const hmac = (key: Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();
