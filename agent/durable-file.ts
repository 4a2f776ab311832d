/**
 * Files that survive a crash at any point: written beside, synced, renamed into place, and the folder synced.
 * Source: PostgreSQL's durable_rename (src/backend/storage/file/fd.c) does the same for the same reason.
 */
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export async function writeDurably(path: string, content: string, mode = 0o600): Promise<void> {
  const handle = await open(`${path}.new`, 'w', mode);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(`${path}.new`, path);
  await syncFolder(dirname(path));
}

/** A folder or file under its final name only when all of it is on disk. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncFolder(dirname(to));
}
