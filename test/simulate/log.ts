/**
 * A write-ahead log as the simulator has it: entries linked backwards, each made once and shared by everybody who has it, so
 * that a copy of a log is one reference and "has it" is identity. An LSN is the number of entries.
 */
import { formatLsn, type Lsn } from '#core/lsn.ts';

export type EntryKind = 'write' | 'gate' | 'promoted' | 'shutdown';

export interface LogEntry {
  readonly before: LogEntry | undefined;
  readonly timeline: number;
  readonly kind: EntryKind;
  readonly length: number;
  /** Who wrote it, and which of its lives: two that write at one place write different things. */
  readonly writer: string;
  readonly id: number;
}

const made = new Map<string, LogEntry>();

export function append(before: LogEntry | undefined, timeline: number, kind: EntryKind, writer: string): LogEntry {
  const key = `${before?.id ?? 0}.${timeline}.${kind}.${writer}`;
  const known = made.get(key);
  if (known !== undefined) return known;
  const entry: LogEntry = { before, timeline, kind, length: (before?.length ?? 0) + 1, writer, id: made.size + 1 };
  made.set(key, entry);
  return entry;
}

/** Forgets all entries: between runs, so that their ids, and what is printed of them, are the same again. */
export const forgetLogs = (): void => made.clear();

/** The entry of `log` at this length; undefined where it is shorter. */
export function at(log: LogEntry | undefined, length: number): LogEntry | undefined {
  let entry = log;
  while (entry !== undefined && entry.length > length) entry = entry.before;
  return entry?.length === length ? entry : undefined;
}

export const contains = (log: LogEntry | undefined, entry: LogEntry): boolean => at(log, entry.length) === entry;

export const lsnOf = (entry: LogEntry | undefined): Lsn => BigInt(entry?.length ?? 0) as Lsn;

export const positionIn = (log: LogEntry): { timeline: number; lsn: string } => ({
  timeline: log.timeline,
  lsn: formatLsn(lsnOf(log)),
});

/** The last entry that both have. */
export function commonEnd(a: LogEntry | undefined, b: LogEntry | undefined): LogEntry | undefined {
  let left = a;
  let right = b;
  while (left !== right) {
    if ((left?.length ?? 0) >= (right?.length ?? 0)) left = left?.before;
    else right = right?.before;
  }
  return left;
}
