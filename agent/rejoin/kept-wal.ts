/**
 * Puts diverged WAL aside before a rewind overwrites it: whole segments from the fork on, in a folder of its own on the
 * volume, with a note beside them. It serves people (`pg_waldump` reads it), and a rewind that was ended in the middle.
 * Bounded: all that is kept takes at most `maxBytes` and never more than half of what is free; older ones go first, and of
 * one that doesn't fit its beginning is kept. A folder counts only under its final name.
 */
import { constants } from 'node:fs';
import { copyFile, mkdir, open, readdir, readFile, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { renameDurably, syncFolder } from '#agent/durable-file.ts';
import { formatLsn } from '#core/lsn.ts';
import type { DivergedStretch } from './divergence.ts';
import { segmentBefore, segmentName, segmentOf } from './wal-folder.ts';

const NOTE = 'kept.json';
const MAKING = '.making';
const GIB = 1024 ** 3;
const FREE_SHARE = 0.5;

const noteSchema = z.object({
  member: z.string(),
  /** RFC 3339. */
  at: z.string(),
  /** Of the fork. */
  timeline: z.int(),
  forkLsn: z.string(),
  lsn: z.string(),
  transactions: z.int(),
  segments: z.array(z.string()),
  /** False where not all of it fitted. */
  complete: z.boolean(),
});
export type KeptNote = z.infer<typeof noteSchema>;

export interface ToKeep {
  readonly walFolder: string;
  readonly keptFolder: string;
  readonly segmentBytes: bigint;
  readonly stretches: readonly DivergedStretch[];
  readonly note: Omit<KeptNote, 'segments' | 'complete'>;
  readonly maxBytes?: number;
}

/** Where it lies; undefined when there is no room for any of it. What lies there already isn't made again. */
export async function keepWal(wanted: ToKeep): Promise<string | undefined> {
  const { keptFolder, note, stretches, segmentBytes } = wanted;
  const [first] = stretches;
  if (first === undefined) return undefined;
  await mkdir(keptFolder, { recursive: true, mode: 0o700 });
  await removeHalfMade(keptFolder);
  const name = `timeline-${first.timeline}-from-${formatLsn(first.from).replace('/', '-')}-to-${note.lsn.replace('/', '-')}`;
  const folder = join(keptFolder, name);
  if ((await readKept(folder)) !== undefined) return folder;
  const present = await presentSegments(wanted);
  const room = await makeRoom(wanted, present.length * Number(segmentBytes));
  const segments = present.slice(0, Math.floor(room / Number(segmentBytes)));
  if (segments.length === 0) return undefined;
  const making = `${folder}${MAKING}`;
  await mkdir(making, { mode: 0o700 });
  for (const segment of segments) await copyDurably(join(wanted.walFolder, segment), join(making, segment));
  const complete = segments.length === present.length;
  await writeSynced(join(making, NOTE), `${JSON.stringify({ ...note, segments, complete } satisfies KeptNote)}\n`);
  await syncFolder(making);
  await renameDurably(making, folder);
  return folder;
}

/** Undefined where there is none. */
export async function readKept(folder: string): Promise<KeptNote | undefined> {
  const text = await readFile(join(folder, NOTE), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  return text === undefined ? undefined : noteSchema.parse(JSON.parse(text));
}

/** Back into `pg_wal`, for a rewind that has to read them once more. False when not all of it was kept. */
export async function restoreKept(folder: string, walFolder: string): Promise<boolean> {
  const note = await readKept(folder);
  if (note?.complete !== true) return false;
  for (const segment of note.segments) await copyDurably(join(folder, segment), join(walFolder, segment));
  await syncFolder(walFolder);
  return true;
}

async function presentSegments({ walFolder, stretches, segmentBytes }: ToKeep): Promise<string[]> {
  const names: string[] = [];
  for (const { timeline, from, to } of stretches) {
    for (let segment = segmentOf(from, segmentBytes); segment <= segmentBefore(to, segmentBytes); segment += 1n) {
      const name = segmentName(timeline, segment, segmentBytes);
      if (await stat(join(walFolder, name)).catch(() => undefined)) names.push(name);
    }
  }
  return names;
}

/** How many of the wanted bytes may be taken, after older ones have gone as far as that helps. */
async function makeRoom({ keptFolder, maxBytes = GIB }: ToKeep, wantedBytes: number): Promise<number> {
  for (;;) {
    const kept = await keptFolders(keptFolder);
    const usedBytes = kept.reduce((sum, { bytes }) => sum + bytes, 0);
    const { bavail, bsize } = await statfs(keptFolder);
    // What is kept already could be freed: the share is one of both together.
    const boundBytes = Math.min(maxBytes, (bavail * bsize + usedBytes) * FREE_SHARE);
    const [oldest] = kept;
    if (usedBytes + wantedBytes <= boundBytes || oldest === undefined) return Math.max(0, boundBytes - usedBytes);
    await rm(oldest.path, { recursive: true, force: true });
  }
}

interface KeptFolder {
  readonly path: string;
  readonly at: string;
  readonly bytes: number;
}

/** Oldest first. */
async function keptFolders(keptFolder: string): Promise<KeptFolder[]> {
  const folders: KeptFolder[] = [];
  for (const name of await readdir(keptFolder)) {
    const path = join(keptFolder, name);
    let bytes = 0;
    for (const file of await readdir(path)) bytes += (await stat(join(path, file))).size;
    folders.push({ path, at: (await readKept(path))?.at ?? '', bytes });
  }
  return folders.toSorted((a, b) => (a.at < b.at ? -1 : 1));
}

async function removeHalfMade(keptFolder: string): Promise<void> {
  for (const name of await readdir(keptFolder)) {
    if (name.endsWith(MAKING)) await rm(join(keptFolder, name), { recursive: true, force: true });
  }
}

async function copyDurably(from: string, to: string): Promise<void> {
  await copyFile(from, to, constants.COPYFILE_FICLONE);
  const file = await open(to, 'r+');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

async function writeSynced(path: string, content: string): Promise<void> {
  const file = await open(path, 'w', 0o600);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
}
