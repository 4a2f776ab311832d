/**
 * Copies crds/*.yaml into the chart, which must hold all that it installs. Run after the CRDs change; a test fails while
 * the copies are stale.
 */
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
export const crdFolder = join(root, 'crds');
export const copyFolder = join(root, 'charts', 'meridian', 'files', 'crds');

/** File name to content, of every CRD in `folder`. */
export async function readCrds(folder: string): Promise<ReadonlyMap<string, string>> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.yaml')).toSorted();
  return new Map(
    await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name), 'utf8')] as const)),
  );
}

export async function copyCrds(): Promise<void> {
  const [wanted, present] = await Promise.all([readCrds(crdFolder), readCrds(copyFolder)]);
  for (const name of present.keys()) if (!wanted.has(name)) await rm(join(copyFolder, name));
  for (const [name, text] of wanted) await writeFile(join(copyFolder, name), text);
}

if (import.meta.main) await copyCrds();
