/**
 * The position of a member: the end of the last complete valid record on its disk, and the timeline of that record. Not
 * what a receiver says, which forgets at a restart, and not the newest history file, which may run ahead of the data
 * (docs/design-traps.md, A4): a timeline counts only as far as there are records of it.
 * Asked when nobody writes: Postgres is down, or a standby whose receiver is gone (`receivers.ts`).
 * Invariant: it is never said of data that isn't whole (a rewind or a copy that hasn't ended, a recovery that can't have
 * reached its end); whoever can't be read is left out of a fence (docs/design-traps.md, A2, B6).
 */
import { access, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ControlFile, timelineOfControl } from '#agent/postgres/control-file.ts';
import type { DataDirectory } from '#agent/postgres/data-directory.ts';
import { formatLsn, type Lsn, parseLsn, zeroLsn } from '#core/lsn.ts';
import { readRejoin } from './rejoin-file.ts';
import { endOfRecord, previousOfFirst, scanRecords, type WalToRead } from './scan.ts';
import { type Ancestor, type Child, childrenOf, readAncestors } from './timeline-history.ts';
import { lastInRow, segmentBefore, segmentOf, walFolder } from './wal-folder.ts';

/** Its message says why, for people. */
export class PositionUnknown extends Error {
  override readonly name = 'PositionUnknown';
}

export interface PositionOptions {
  /** What a running standby has replayed: everything up to there is known to be there. */
  readonly replayed?: string;
  readonly timeoutMs?: number;
}

/** A timeline of the data's descent, and where on it that timeline begins. */
export interface Stretch {
  readonly timeline: number;
  readonly begin: Lsn;
}

/** The timelines that the data has gone through, oldest first, as far as it has records of them. */
export interface Line {
  readonly stretches: readonly Stretch[];
  readonly end: Lsn;
}

const TIMEOUT_MS = 20_000;

/** @throws PositionUnknown */
export async function positionOnDisk(
  data: DataDirectory,
  rejoinFile: string,
  options: PositionOptions = {},
): Promise<{ timeline: number; lsn: string }> {
  const rejoin = await readRejoin(rejoinFile);
  if (rejoin !== undefined) throw new PositionUnknown(`a rejoin is not finished (${rejoin.stage})`);
  const line = await lineOnDisk(data, options);
  return { timeline: timelineOf(line), lsn: formatLsn(line.end) };
}

export const timelineOf = ({ stretches }: Line): number => stretches.at(-1)?.timeline ?? 0;

/** The same, whatever notes of a rejoin there are. @throws PositionUnknown */
export async function lineOnDisk(data: DataDirectory, options: PositionOptions = {}): Promise<Line> {
  if ((await data.state()) === 'absent') throw new PositionUnknown('there is no data');
  if (await exists(join(data.path, 'backup_label'))) {
    throw new PositionUnknown('the data is a copy that has not been recovered yet');
  }
  try {
    return await readLine(data, options);
  } catch (error) {
    if (error instanceof PositionUnknown) throw error;
    throw new PositionUnknown(`the log can't be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

async function readLine(data: DataDirectory, { replayed, timeoutMs = TIMEOUT_MS }: PositionOptions): Promise<Line> {
  const control = await data.control();
  const wal: WalToRead = {
    folder: walFolder(data.path),
    segmentBytes: control.segmentBytes,
    env: data.env,
    signal: AbortSignal.timeout(timeoutMs),
  };
  const certain = certainOf(control);
  const histories = await readHistories(wal.folder);
  const stretches = descentOf(histories, timelineOfControl(control));
  for (let last = stretches.at(-1); last !== undefined; ) {
    const children = childrenOf(histories, last.timeline, highest(last.begin, certain));
    const next: Child | undefined = await firstWritten(wal, last.timeline, children);
    if (next !== undefined) stretches.push(next);
    last = next;
  }
  const { timeline, begin } = stretches.at(-1) ?? { timeline: 0, begin: zeroLsn };
  const earliest = highest(begin, certain);
  const known = replayed === undefined ? earliest : highest(earliest, parseLsn(replayed));
  const end = await endOnTimeline(wal, timeline, earliest, known);
  if (end === undefined || end < known) {
    const where = end === undefined ? 'nowhere' : `at ${formatLsn(end)}`;
    throw new PositionUnknown(`the log on timeline ${timeline} ends ${where}, before ${formatLsn(known)}`);
  }
  return { stretches, end };
}

/** Down to a timeline that the control file is sure of. */
function descentOf(histories: ReadonlyMap<number, readonly Ancestor[]>, timeline: number): Stretch[] {
  const stretches: Stretch[] = [];
  let begin = zeroLsn;
  for (const ancestor of histories.get(timeline) ?? []) {
    stretches.push({ timeline: ancestor.timeline, begin });
    begin = ancestor.end;
  }
  return [...stretches, { timeline, begin }];
}

/** Written for certain: a recovery has to reach it, or it is where one would begin. */
function certainOf(control: ControlFile): Lsn {
  const { minRecovery, minRecoveryTimeline, checkpointTimeline, redo } = control;
  if (minRecoveryTimeline > checkpointTimeline) return minRecovery;
  return highest(redo, minRecovery);
}

const highest = (a: Lsn, b: Lsn): Lsn => (a > b ? a : b);

export async function readHistories(folder: string): Promise<ReadonlyMap<number, readonly Ancestor[]>> {
  const histories = new Map<number, readonly Ancestor[]>();
  for (const name of await readdir(folder)) {
    const timeline = /^([0-9A-F]{8})\.history$/.exec(name)?.[1];
    if (timeline === undefined) continue;
    histories.set(Number.parseInt(timeline, 16), readAncestors(await readFile(join(folder, name), 'utf8')));
  }
  return histories;
}

async function firstWritten(wal: WalToRead, parent: number, children: readonly Child[]): Promise<Child | undefined> {
  for (const child of children) if (await hasRecords(wal, parent, child)) return child;
  return undefined;
}

/** At least one complete record of its own, linked to its parent's last one. */
async function hasRecords(wal: WalToRead, parent: number, { timeline, begin }: Child): Promise<boolean> {
  const first = segmentOf(begin, wal.segmentBytes);
  const last = await lastInRow(wal.folder, timeline, first, wal.segmentBytes, first + 1n);
  if (last === undefined) return false;
  const scanned = await scanRecords(wal, { timeline, first, last });
  if (scanned === undefined || scanned.end <= begin) return false;
  if (scanned.first < begin) return true;
  // The first record of the segment is the child's own: the link has to be looked up on the parent.
  const previous = await previousOfFirst(wal, timeline, first);
  return previous !== undefined && (await endOfRecord(wal, parent, previous)) === begin;
}

/** The end of what can be read from the segment of `known` on, or from an earlier one where no record begins in that. */
async function endOnTimeline(wal: WalToRead, timeline: number, begin: Lsn, known: Lsn): Promise<Lsn | undefined> {
  const earliest = segmentBefore(begin, wal.segmentBytes);
  for (let first = segmentBefore(known, wal.segmentBytes); first >= earliest; first -= 1n) {
    const present = (await lastInRow(wal.folder, timeline, first, wal.segmentBytes, first)) === first;
    // A child that begins on a boundary has no file for the segment before.
    const from = present ? first : first + 1n;
    const last = await lastInRow(wal.folder, timeline, from, wal.segmentBytes);
    if (last === undefined) continue;
    const scanned = await scanRecords(wal, { timeline, first: from, last });
    if (scanned === undefined) continue;
    if (scanned.first < known || first === earliest) return scanned.end;
  }
  return undefined;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false;
      throw error;
    },
  );
}
