/**
 * Positions in a log that has forked: which of two is further, and where one leaves the history of another.
 * Rests on the record's history alone, where every epoch has a timeline of its own (allocated by the compare-and-swap that
 * decided it, trap A5). Invariants: positions are compared by (epoch of their timeline, LSN), never by LSN alone and never by
 * timeline number (traps A4, B7); a position on a timeline that the record doesn't know is no position.
 */
import { type Lsn, parseLsn, zeroLsn } from '../lsn.ts';
import type { AuthorityRecord, HistoryEntry } from './record.ts';

/** As agents say it. */
export interface WirePosition {
  readonly timeline: number;
  readonly lsn: string;
}

export interface Position {
  /** Epoch of the timeline. */
  readonly epoch: number;
  readonly timeline: number;
  readonly lsn: Lsn;
}

/** Undefined where the record doesn't know the timeline, or the text is no LSN: such a position counts for nothing. */
export function positionOf(record: AuthorityRecord, wire: WirePosition): Position | undefined {
  const epoch = epochOfTimeline(record, wire.timeline);
  const lsn = lsnOf(wire.lsn);
  return epoch === undefined || lsn === undefined ? undefined : { epoch, timeline: wire.timeline, lsn };
}

/** Positive where `a` is further. */
export function comparePositions(a: Position, b: Position): number {
  if (a.epoch !== b.epoch) return a.epoch - b.epoch;
  return a.lsn === b.lsn ? 0 : a.lsn > b.lsn ? 1 : -1;
}

export function epochOfTimeline({ authority, history }: AuthorityRecord, timeline: number): number | undefined {
  if (timeline === authority.timeline) return authority.epoch;
  return history.findLast((entry) => entry.timeline === timeline)?.epoch;
}

/** The highest timeline number that was ever given out. */
export const highestTimeline = ({ authority, history }: AuthorityRecord): number =>
  history.reduce((highest, { timeline }) => Math.max(highest, timeline), authority.timeline);

/** One stretch of a line of descent: a timeline, and where its child on that line left it. */
interface Stretch {
  readonly timeline: number;
  /** Undefined for the newest, which goes on. */
  readonly end: Lsn | undefined;
}

/** From `timeline` back to the first, newest first. */
function descentOf(history: readonly HistoryEntry[], timeline: number): readonly Stretch[] {
  const stretches: Stretch[] = [{ timeline, end: undefined }];
  let at = history.findLastIndex((entry) => entry.timeline === timeline);
  while (at > 0) {
    const entry = history[at];
    // Records from before parents were written: each epoch continues the one before.
    const parent = entry?.parent ?? history[at - 1]?.timeline;
    const fork = lsnOf(entry?.forkLsn ?? '');
    if (parent === undefined || fork === undefined) break;
    stretches.push({ timeline: parent, end: fork });
    at = history.slice(0, at).findLastIndex((earlier) => earlier.timeline === parent);
  }
  return stretches;
}

export interface Divergence {
  /** The last timeline that both have, and the position on it at which they part. */
  readonly timeline: number;
  readonly forkLsn: Lsn;
}

/**
 * Where what lies at `position` leaves the line that leads to `timeline`; undefined when it is a part of that line.
 * Not only the ancestors' forks matter: an epoch whose primary died before anybody followed may be no ancestor at all.
 */
export function divergenceFrom(
  record: Pick<AuthorityRecord, 'history'>,
  position: Pick<Position, 'timeline' | 'lsn'>,
  timeline: number,
): Divergence | undefined {
  const line = descentOf(record.history, timeline);
  for (const own of descentOf(record.history, position.timeline)) {
    const shared = line.find((stretch) => stretch.timeline === own.timeline);
    if (shared === undefined) continue;
    // Where its own descent ends on this timeline: at the position itself, or where its next timeline began.
    const end = own.end ?? position.lsn;
    const isOfLine = own.end === undefined && (shared.end === undefined || end <= shared.end);
    if (isOfLine) return undefined;
    return { timeline: own.timeline, forkLsn: shared.end !== undefined && shared.end < end ? shared.end : end };
  }
  // No common ancestor is recorded: nothing of it can be relied on.
  return { timeline: 0, forkLsn: zeroLsn };
}

function lsnOf(text: string): Lsn | undefined {
  try {
    return parseLsn(text);
  } catch {
    return undefined;
  }
}
