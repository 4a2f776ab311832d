// Names for what is built: 16 hex digits of a hash over everything that goes into it, so that what exists under the
// name needs no second build. Names, modes' executable bit and contents count; times and owners don't.
import { createHash } from 'node:crypto';
import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { join, relative } from 'node:path';

const KEY_DIGITS = 16;

export function keyOf(parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) {
    const bytes = typeof part === 'string' ? Buffer.from(part) : part;
    // The length in front keeps ["ab", "c"] and ["a", "bc"] apart.
    hash.update(`${bytes.byteLength}:`).update(bytes);
  }
  return hash.digest('hex').slice(0, KEY_DIGITS);
}

/** Every file below `folder`, in one stable order. */
export async function keyOfFolder(folder: string): Promise<string> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted();
  const parts: (string | Uint8Array)[] = [];
  for (const path of paths) {
    const stat = await lstat(path);
    parts.push(relative(folder, path), stat.isSymbolicLink() ? 'link' : (stat.mode & 0o111) === 0 ? 'file' : 'program');
    parts.push(stat.isSymbolicLink() ? await readlink(path) : await readFile(path));
  }
  return keyOf(parts);
}
