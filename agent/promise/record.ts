/**
 * The promise as bytes: two slots in one preallocated file, overwritten in turn, each with its own checksum.
 * Layout of a slot (little endian): 0 magic "MDPR", 4 version u16, 6 payload length u16, 8 write number u64,
 * 16 payload (JSON, UTF-8), then CRC-32 u32 over everything before it. Slots lie a page apart, so that no sector or
 * page holds parts of both. Reading takes the intact slot with the highest write number; a torn write therefore costs
 * at most itself. No I/O here.
 */
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { incarnationForm } from '#core/identity.ts';

export const SLOT_BYTES = 4096;
export const FILE_BYTES = 2 * SLOT_BYTES;
const MAGIC = 0x5250444d; // "MDPR"
const VERSION = 1;
const HEADER_BYTES = 16;
const CHECKSUM_BYTES = 4;

/** What an agent must never forget (docs/design.md, section 4, "The promise"). */
export const promiseSchema = z.object({
  /** Random; made with this file, so that a lost volume is a new member. */
  incarnation: z.string().regex(incarnationForm),
  /** UID of the Shard that this volume belongs to; empty until the first orders. */
  shardUid: z.string(),
  /** Of the data directory; empty while there never was one. */
  systemIdentifier: z.string(),
  /** Highest epoch promised; 0 before the first. */
  epoch: z.int().min(0),
  /** `name/incarnation` of the member that the epoch was promised to; empty when the epoch was promised to nobody yet. */
  grantee: z.string(),
  generation: z.int().min(0),
  /** Of the last orders taken. */
  leaderTerm: z.int().min(0),
  sequence: z.int().min(0),
  /** The longest lease ever granted, ms: how long a restarted agent has to assume that one still runs. */
  longestLeaseMs: z.int().min(0),
});
export type PromiseRecord = z.infer<typeof promiseSchema>;

export interface PromiseSlot {
  readonly writeNumber: bigint;
  readonly record: PromiseRecord;
}

export const firstPromise = (incarnation: string): PromiseRecord => ({
  incarnation,
  shardUid: '',
  systemIdentifier: '',
  epoch: 0,
  grantee: '',
  generation: 0,
  leaderTerm: 0,
  sequence: 0,
  longestLeaseMs: 0,
});

/** Always SLOT_BYTES long: an overwrite in place never changes the file's size. */
export function encodeSlot(slot: PromiseSlot): Buffer {
  const payload = Buffer.from(JSON.stringify(slot.record), 'utf8');
  const end = HEADER_BYTES + payload.length;
  if (end + CHECKSUM_BYTES > SLOT_BYTES) throw new RangeError(`a promise of ${payload.length} bytes fits no slot`);
  const bytes = Buffer.alloc(SLOT_BYTES);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt16LE(VERSION, 4);
  bytes.writeUInt16LE(payload.length, 6);
  bytes.writeBigUInt64LE(slot.writeNumber, 8);
  payload.copy(bytes, HEADER_BYTES);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, end)), end);
  return bytes;
}

export class PromiseVersionError extends Error {
  override readonly name = 'PromiseVersionError';
}

/**
 * Undefined for anything but an intact slot.
 * @throws PromiseVersionError for an intact one that this agent can't read: it holds a promise all the same, which whoever
 * took it for nothing would break.
 */
export function decodeSlot(bytes: Buffer): PromiseSlot | undefined {
  if (bytes.length < HEADER_BYTES + CHECKSUM_BYTES || bytes.readUInt32LE(0) !== MAGIC) return undefined;
  const end = HEADER_BYTES + bytes.readUInt16LE(6);
  if (end + CHECKSUM_BYTES > bytes.length) return undefined;
  if (crc32(bytes.subarray(0, end)) !== bytes.readUInt32LE(end)) return undefined;
  const version = bytes.readUInt16LE(4);
  const record = promiseSchema.safeParse(parseJson(bytes.toString('utf8', HEADER_BYTES, end)));
  if (version !== VERSION || !record.success) {
    throw new PromiseVersionError(
      `the promise was written by another version of the agent (format ${version}, this one reads ${VERSION})`,
    );
  }
  return { writeNumber: bytes.readBigUInt64LE(8), record: record.data };
}

export interface NewestSlot extends PromiseSlot {
  /** Which of the two slots it is in; the next write goes to the other one. */
  readonly index: 0 | 1;
}

export function newestSlot(file: Buffer): NewestSlot | undefined {
  const first = decodeSlot(file.subarray(0, SLOT_BYTES));
  const second = decodeSlot(file.subarray(SLOT_BYTES, FILE_BYTES));
  if (first !== undefined && (second === undefined || first.writeNumber > second.writeNumber)) {
    return { ...first, index: 0 };
  }
  return second === undefined ? undefined : { ...second, index: 1 };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
