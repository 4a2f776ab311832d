/**
 * Keeps the history files in `pg_wal` such that Postgres counts timelines as the record of authority does. Postgres takes the
 * highest number that has a history file, without a gap from its own on, for the newest timeline: a standby starts towards
 * that one, and a promotion takes the number after it.
 * So: before a start there is none above the data's own (one that ran ahead of the data, or a stub, would stop a standby's
 * start, docs/design-traps.md, B12), and none is missing below; before a promotion stubs fill the numbers up to the recorded
 * one (A5). Stubs stay on the primary: a follower that comes from further back fetches the file of every number in between,
 * and would never get past one that isn't there.
 * Source: PostgreSQL source, timeline.c (findNewestTimeLine), walreceiver.c (WalRcvFetchTimeLineHistoryFiles).
 */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder, writeDurably } from '#agent/durable-file.ts';
import type { DataDirectory } from '#agent/postgres/data-directory.ts';
import type { Orders } from '#core/protocol/orders.ts';
import { lineOnDisk, PositionUnknown, readHistories, timelineOf } from './position.ts';
import { isStub, stubText } from './timeline-history.ts';
import { historyName, walFolder } from './wal-folder.ts';

/** The running standby may have chosen a timeline that its data never reached: it would become that one's child. */
export class StandbyMustRestart extends Error {
  override readonly name = 'StandbyMustRestart';
}

/** Before every start, as whatever; Postgres is down. Says which files it removed. */
export async function settleTimelines(data: DataDirectory): Promise<string[]> {
  const folder = walFolder(data.path);
  const histories = await readHistories(folder);
  const certain = await data.timeline();
  // The log has to be looked at only where it may go on to a later timeline.
  const own = [...histories.keys()].some((timeline) => timeline > certain) ? await ownTimeline(data) : certain;
  const ahead = [...histories.keys()].filter((timeline) => timeline > own).map(historyName);
  for (const name of ahead) await rm(join(folder, name), { force: true });
  if (ahead.length > 0) await syncFolder(folder);
  await fill(folder, own, new Set(histories.keys()));
  return ahead;
}

/**
 * Right before the promotion of a running standby whose position is on `timeline`: it will take `wanted`.
 * @throws StandbyMustRestart
 */
export async function prepareTimeline(
  data: DataDirectory,
  { timeline, wanted }: { readonly timeline: number; readonly wanted: number },
): Promise<void> {
  if (wanted <= timeline) throw new Error(`timeline ${wanted} can't come after ${timeline}`);
  const folder = walFolder(data.path);
  const histories = await readHistories(folder);
  for (const ahead of [...histories.keys()].filter((found) => found > timeline)) {
    if (ahead < wanted && isStub(await readFile(join(folder, historyName(ahead)), 'utf8'))) continue;
    throw new StandbyMustRestart(`it has the history of timeline ${ahead}, and its data is of ${timeline}`);
  }
  await fill(folder, wanted, new Set(histories.keys()));
}

/**
 * A running standby may have chosen a timeline that it has the history of and no data: one whose primary died at once. If that
 * one is none of its new primary's ancestors the standby finds no way to it, until it is started again.
 */
export async function isMisled(
  data: DataDirectory,
  timeline: number,
  orders: Pick<Orders, 'history' | 'timeline'>,
): Promise<boolean> {
  const folder = walFolder(data.path);
  for (const found of (await readHistories(folder)).keys()) {
    if (found <= timeline || isAncestor(orders, found)) continue;
    if (!isStub(await readFile(join(folder, historyName(found)), 'utf8'))) return true;
  }
  return false;
}

/** Or the timeline of the orders itself. */
function isAncestor({ history, timeline }: Pick<Orders, 'history' | 'timeline'>, wanted: number): boolean {
  let at = timeline;
  for (let index = history.length - 1; index >= 0 && at !== wanted; index -= 1) {
    if (history[index]?.timeline === at) at = history[index]?.parent ?? history[index - 1]?.timeline ?? at;
  }
  return at === wanted;
}

/** Stubs for every number below `end` that has no file; the first timeline never has one. */
async function fill(folder: string, end: number, present: ReadonlySet<number>): Promise<void> {
  for (let timeline = 2; timeline < end; timeline += 1) {
    if (!present.has(timeline)) await writeDurably(join(folder, historyName(timeline)), stubText);
  }
}

async function ownTimeline(data: DataDirectory): Promise<number> {
  try {
    return timelineOf(await lineOnDisk(data));
  } catch (error) {
    // A copy before its first start, for example: what it was taken from is what it will go on with.
    if (error instanceof PositionUnknown) return data.timeline();
    throw error;
  }
}
