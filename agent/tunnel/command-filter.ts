/**
 * Watches what a replication client sends after its first packet, and lets only the commands of its purpose pass, on
 * that member's own slot. The stream comes in any pieces; a command is passed on only when all of it was seen.
 * What comes back from Postgres, the bulk, is never looked at.
 * Source: PostgreSQL documentation, "Streaming Replication Protocol".
 */
import type { TunnelPurpose } from '#core/protocol/tunnel.ts';

const HEADER_BYTES = 5;
const MAX_COMMAND_BYTES = 16_384;
/** Copy data, copy done, copy fail, terminate; a query is looked at. Authentication is by peer: no password passes. */
const QUERY = 'Q'.charCodeAt(0);
const passing: ReadonlySet<number> = new Set(['d', 'c', 'f', 'X'].map((type) => type.charCodeAt(0)));

export type FilterResult =
  | { readonly kind: 'pass'; readonly chunk: Buffer }
  | { readonly kind: 'refuse'; readonly reason: string };

const nothing = Buffer.alloc(0);

export class CommandFilter {
  readonly #allowed: readonly RegExp[];
  readonly #what: string;
  #held: Buffer = nothing;
  /** Bytes of the present message that pass unseen. */
  #passBytes = 0;

  constructor(purpose: Exclude<TunnelPurpose, 'slotsync' | 'rewind'>, slot: string) {
    this.#what = purpose;
    this.#allowed = allowedCommands(purpose, slot);
  }

  push(chunk: Buffer): FilterResult {
    // The common case: the middle of something that passes, or whole small copy messages with nothing held back.
    let at = 0;
    let input = chunk;
    const out: Buffer[] = [];
    if (this.#held.length > 0) {
      input = Buffer.concat([this.#held, chunk]);
      this.#held = nothing;
    }
    while (at < input.length) {
      if (this.#passBytes > 0) {
        const end = Math.min(input.length, at + this.#passBytes);
        out.push(input.subarray(at, end));
        this.#passBytes -= end - at;
        at = end;
        continue;
      }
      if (input.length - at < HEADER_BYTES) break;
      const type = input[at];
      const length = input.readInt32BE(at + 1);
      if (type === undefined || length < 4) return this.#refuse('a malformed message');
      if (passing.has(type)) {
        this.#passBytes = 1 + length;
        continue;
      }
      if (type !== QUERY) return this.#refuse(`message ${JSON.stringify(String.fromCharCode(type))}`);
      if (length > MAX_COMMAND_BYTES) return this.#refuse(`a command of ${length} bytes`);
      if (input.length - at < 1 + length) break;
      const command = input.toString('utf8', at + HEADER_BYTES, at + length);
      if (input[at + length] !== 0 || !this.#allowed.some((form) => form.test(command))) {
        return this.#refuse(command.slice(0, 200));
      }
      this.#passBytes = 1 + length;
    }
    this.#held = at === input.length ? nothing : input.subarray(at);
    return { kind: 'pass', chunk: out.length === 1 && out[0] !== undefined ? out[0] : Buffer.concat(out) };
  }

  #refuse(what: string): FilterResult {
    return { kind: 'refuse', reason: `not allowed in a tunnel for ${this.#what}: ${what}` };
  }
}

function allowedCommands(purpose: 'stream' | 'basebackup', slot: string): readonly RegExp[] {
  const start = new RegExp(
    `^START_REPLICATION SLOT "?${slot}"?(?: PHYSICAL)? [0-9A-F]{1,8}/[0-9A-F]{1,8}(?: TIMELINE \\d{1,10})?;?$`,
  );
  const harmless = [/^IDENTIFY_SYSTEM;?$/, /^TIMELINE_HISTORY \d{1,10};?$/, /^SHOW [a-z_]{1,63};?$/];
  if (purpose === 'stream') return [...harmless, start];
  return [...harmless, start, new RegExp(`^READ_REPLICATION_SLOT "?${slot}"?;?$`), /^BASE_BACKUP \([^;]*\);?$/];
}
