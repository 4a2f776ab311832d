/** Results of rounds, one JSON object a line, so that a long run can be broken off and gone on with. */
import { appendFile, mkdir, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

export async function readResults<T>(file: string): Promise<T[]> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);
}

/** Puts earlier results aside, beside the file. */
export async function startAnew(file: string): Promise<void> {
  await rename(file, `${file}.before`).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}

export async function appendResult(file: string, result: object): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await appendFile(file, `${JSON.stringify(result)}\n`);
}

/** By nearest rank; undefined of nothing. */
export function percentile(values: readonly number[], percent: number): number | undefined {
  const ordered = values.toSorted((a, b) => a - b);
  return ordered[Math.max(0, Math.ceil((percent / 100) * ordered.length) - 1)];
}
