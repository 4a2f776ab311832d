/**
 * The keys by which a keyspace's tokens are signed: a folder (a mounted Secret) with one file for each, named by its number. Looked at
 * from time to time, so that a key can be added, and an old one taken away once nobody holds its tokens, without a restart.
 * Without such a folder the key is made from what only routers of the keyspace have: tokens then last until that is renewed.
 */
import { createHmac } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeToken, encodeToken, type TokenKeys, type Positions as TokenPositions } from '#core/consistency/token.ts';
import { RouterError } from '../errors.ts';

export interface TokenKeyringOptions {
  readonly keyspace: string;
  readonly folder: string;
  /** Known to the keyspace's routers alone. */
  readonly secret: () => Buffer;
}

const pollMs = 10_000;
/** A key is some bytes longer than what could be guessed. */
const minKeyBytes = 16;

export class TokenKeyring {
  readonly #options: TokenKeyringOptions;
  #keys: TokenKeys | undefined;
  readonly #timer: NodeJS.Timeout;

  constructor(options: TokenKeyringOptions) {
    this.#options = options;
    this.#timer = setInterval(() => {
      this.#keys = undefined;
    }, pollMs);
    this.#timer.unref();
  }

  encode(positions: TokenPositions): string {
    return encodeToken(positions, this.#current());
  }

  /** @throws RouterError where it is no token of this keyspace. */
  decode(text: string): TokenPositions {
    const positions = decodeToken(text, this.#current());
    if (positions === undefined)
      throw new RouterError('InvalidSetting', 'not a token of this keyspace', {
        hint: 'Hand on what SHOW meridian.token says, as it is.',
      });
    return positions;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Read again when it is wanted the next time. */
  #current(): TokenKeys {
    this.#keys ??= { keyspace: this.#options.keyspace, keys: this.#read() };
    return this.#keys;
  }

  #read(): ReadonlyMap<number, Buffer> {
    const { folder, secret } = this.#options;
    const keys = new Map<number, Buffer>();
    for (const name of namesIn(folder)) {
      const number = /^[0-9]{1,3}$/.test(name) ? Number(name) : Number.NaN;
      if (!(number <= 255)) continue;
      const key = readFileSync(join(folder, name));
      if (key.length >= minKeyBytes) keys.set(number, key);
    }
    if (keys.size === 0) keys.set(0, createHmac('sha256', secret()).update('meridian token key').digest());
    return keys;
  }
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
