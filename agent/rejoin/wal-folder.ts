/**
 * `pg_wal` as files: which segments of a timeline are there for reading, without a gap, from one on. A file counts by the
 * address in its first page, not by its name: segments made ahead of use are full of zeros or of the WAL that they were
 * recycled from. No record is looked at here (`scan.ts`).
 * Source: PostgreSQL documentation, "WAL Internals"; src/include/access/xlog_internal.h (XLogFileName, XLogPageHeaderData:
 * 0 magic u16, 2 info u16, 4 timeline u32, 8 page address u64, in the machine's byte order: little-endian on what we run on).
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Lsn } from '#core/lsn.ts';

const HEADER_BYTES = 16;

export const walFolder = (dataDirectory: string): string => join(dataDirectory, 'pg_wal');

export const segmentOf = (lsn: Lsn, segmentBytes: bigint): bigint => lsn / segmentBytes;

/** The segment of the byte before: where a position that ends on a boundary was written. */
export const segmentBefore = (lsn: Lsn, segmentBytes: bigint): bigint => (lsn === 0n ? 0n : (lsn - 1n) / segmentBytes);

export function segmentName(timeline: number, segment: bigint, segmentBytes: bigint): string {
  const perLog = 0x1_0000_0000n / segmentBytes;
  return [BigInt(timeline), segment / perLog, segment % perLog].map(hexadecimal).join('');
}

export const historyName = (timeline: number): string => `${hexadecimal(BigInt(timeline))}.history`;

const hexadecimal = (value: bigint): string => value.toString(16).toUpperCase().padStart(8, '0');

/** The last of the segments that follow each other from `first` on; undefined when not even that one is there. */
export async function lastInRow(
  folder: string,
  timeline: number,
  first: bigint,
  segmentBytes: bigint,
  limit: bigint = first + MAX_ROW,
): Promise<bigint | undefined> {
  let last: bigint | undefined;
  for (let segment = first; segment <= limit; segment += 1n) {
    if (!(await isWritten(join(folder, segmentName(timeline, segment, segmentBytes)), segment * segmentBytes))) break;
    last = segment;
  }
  return last;
}

/** 1 TiB of segments of 16 MiB. */
const MAX_ROW = 65_536n;

async function isWritten(path: string, address: bigint): Promise<boolean> {
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (file === undefined) return false;
  try {
    const header = Buffer.alloc(HEADER_BYTES);
    const { bytesRead } = await file.read(header, 0, HEADER_BYTES, 0);
    return bytesRead === HEADER_BYTES && header.readUInt16LE(0) !== 0 && header.readBigUInt64LE(8) === address;
  } finally {
    await file.close();
  }
}
