/** How many transactions of a diverged log are lost with it: those with an id and a commit record past the fork. */
import type { DataDirectory } from '#agent/postgres/data-directory.ts';
import type { DivergedStretch } from './divergence.ts';
import { countCommits } from './scan.ts';
import { segmentBefore, segmentOf, walFolder } from './wal-folder.ts';

export async function countTransactions(
  data: DataDirectory,
  stretches: readonly DivergedStretch[],
  signal: AbortSignal,
): Promise<number> {
  const { segmentBytes } = await data.control();
  const wal = { folder: walFolder(data.path), segmentBytes, env: data.env, signal };
  let transactions = 0;
  for (const { timeline, from, to } of stretches) {
    const range = { timeline, first: segmentOf(from, segmentBytes), last: segmentBefore(to, segmentBytes) };
    transactions += await countCommits(wal, range, from, to);
  }
  return transactions;
}
