/**
 * Tokens: what a causal read must have seen, as a text that clients hand on without reading it. Pure.
 *
 * Base64url of: version (1 byte), number of the signing key (1 byte), count of shards (varint), for each the first 6 bytes of the
 * SHA-256 of its identity, four times its epoch plus flags (varint; 1: `mayBeLost`, 2: `isAhead`), LSN (varint); then the first 12 bytes
 * of an HMAC-SHA-256 over the keyspace's name and all before. 38 characters for one shard. Varints are as in protocol buffers: 7 bits
 * a byte, low ones first.
 *
 * The signature keeps clients from inventing positions: one from the future would make reads wait, one of a wrong epoch be cut.
 * Keys are the keyspace's; the one with the highest number signs, every one that is there is accepted, so that keys can change.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { Lsn } from '../lsn.ts';
import { laterOf, type Position } from './position.ts';

/** What was seen of a shard. */
export interface Sighting extends Position {
  /** Nobody had to acknowledge it (k = 0): what of it lies behind the end of its epoch may be lost (docs/design-traps.md, T2). */
  readonly mayBeLost?: true;
  /**
   * Followers have shown some of it, and the primary may not show that yet: there a commit is seen once it is acknowledged, elsewhere
   * as soon as it is replayed.
   */
  readonly isAhead?: true;
}

/** By the identity of a shard as `shardIdentity` makes it. */
export type Positions = ReadonlyMap<string, Sighting>;

export interface TokenKeys {
  readonly keyspace: string;
  /** By number, 0 to 255. */
  readonly keys: ReadonlyMap<number, Buffer>;
}

const version = 1;
const lostFlag = 1n;
const aheadFlag = 2n;
const flagBits = 2n;
const shardBytes = 6;
const macBytes = 12;
/** A session that has been at more shards keeps the positions of them all; a text that is longer is none of ours. */
export const maxShards = 1_000;
const maxTextLength = 32 * 1024;

/** Hexadecimal. Of the object's UID where there is one: a shard made anew under an old name has another history. */
export const shardIdentity = (uidOrName: string): string =>
  createHash('sha256').update(uidOrName).digest().toString('hex', 0, shardBytes);

export function encodeToken(positions: Positions, { keyspace, keys }: TokenKeys): string {
  const number = Math.max(...keys.keys());
  const key = keys.get(number);
  if (key === undefined) throw new RangeError('there is no key to sign tokens with');
  const bytes: number[] = [version, number];
  putVarint(bytes, BigInt(positions.size));
  for (const [shard, { epoch, lsn, mayBeLost, isAhead }] of positions) {
    bytes.push(...Buffer.from(shard, 'hex'));
    const flags = (mayBeLost === true ? lostFlag : 0n) | (isAhead === true ? aheadFlag : 0n);
    putVarint(bytes, (BigInt(epoch) << flagBits) | flags);
    putVarint(bytes, lsn);
  }
  const body = Buffer.from(bytes);
  return Buffer.concat([body, macOf(body, key, keyspace)]).toString('base64url');
}

/** Undefined where the text is no token of this keyspace, or not as it was signed. */
export function decodeToken(text: string, { keyspace, keys }: TokenKeys): Positions | undefined {
  if (text.length > maxTextLength || !/^[A-Za-z0-9_-]+$/.test(text)) return undefined;
  const bytes = Buffer.from(text, 'base64url');
  // One spelling for each token: unused bits of the last character are zero.
  if (bytes.toString('base64url') !== text || bytes.length < 3 + macBytes || bytes[0] !== version) return undefined;
  const body = bytes.subarray(0, -macBytes);
  const key = keys.get(bytes[1] ?? -1);
  if (key === undefined || !timingSafeEqual(macOf(body, key, keyspace), bytes.subarray(-macBytes))) return undefined;
  return readPositions(body);
}

/** Both together: what either has seen. */
export function mergePositions(one: Positions, other: Positions): Positions {
  const merged = new Map(one);
  for (const [shard, position] of other) {
    const present = merged.get(shard);
    merged.set(shard, present === undefined ? position : laterSighting(present, position));
  }
  return merged;
}

/** What was shown by a follower stays so, whichever is later: that a primary was further says nothing of what it showed. */
export function laterSighting(one: Sighting, other: Sighting): Sighting {
  const later: Sighting = laterOf(one, other);
  return one.isAhead === true || other.isAhead === true ? { ...later, isAhead: true } : later;
}

function readPositions(body: Buffer): Positions | undefined {
  const reader = { body, at: 2 };
  const count = takeVarint(reader);
  if (count === undefined || count > maxShards) return undefined;
  const positions = new Map<string, Sighting>();
  for (let index = 0; index < count; index++) {
    const shard = body.toString('hex', reader.at, reader.at + shardBytes);
    reader.at += shardBytes;
    const flagged = takeVarint(reader);
    const lsn = takeVarint(reader);
    if (flagged === undefined || lsn === undefined) return undefined;
    const epoch = flagged >> flagBits;
    if (epoch > Number.MAX_SAFE_INTEGER) return undefined;
    positions.set(shard, {
      epoch: Number(epoch),
      lsn: lsn as Lsn,
      ...((flagged & lostFlag) === 0n ? {} : { mayBeLost: true as const }),
      ...((flagged & aheadFlag) === 0n ? {} : { isAhead: true as const }),
    });
  }
  return reader.at === body.length ? positions : undefined;
}

const macOf = (body: Buffer, key: Buffer, keyspace: string): Buffer =>
  createHmac('sha256', key).update(`meridian token\0${keyspace}\0`).update(body).digest().subarray(0, macBytes);

function putVarint(bytes: number[], value: bigint): void {
  let rest = value;
  while (rest >= 0x80n) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
}

/** Undefined past the end, and past 64 bits. */
function takeVarint(reader: { readonly body: Buffer; at: number }): bigint | undefined {
  let value = 0n;
  for (let shift = 0n; shift < 70n; shift += 7n) {
    const byte = reader.body[reader.at++];
    if (byte === undefined) return undefined;
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) return value >> 64n === 0n ? value : undefined;
  }
  return undefined;
}
