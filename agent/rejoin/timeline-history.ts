/**
 * Timeline history files: what they say, and the stubs that stand for numbers that the record of authority has given to
 * others. A timeline's number is decided by the record (docs/design-traps.md, A5), and Postgres takes the first number
 * without a history file: so every number in between gets one. A stub says in a comment that it is one, names no ancestor,
 * and is known by that wherever it is copied to. Pure.
 * Source: PostgreSQL documentation, "Timelines"; src/backend/access/transam/timeline.c (readTimeLineHistory).
 */
import { type Lsn, parseLsn } from '#core/lsn.ts';

const STUB_MARK =
  '# Meridian: this number belongs to a timeline of another member; this file only keeps it from being taken.';
export const stubText = `${STUB_MARK}\n`;
export const isStub = (text: string): boolean => text.startsWith(STUB_MARK);

export interface Ancestor {
  readonly timeline: number;
  /** Where its child left it. */
  readonly end: Lsn;
}

/** Oldest first; lines that are none are left out, as Postgres' comments are. */
export function readAncestors(text: string): Ancestor[] {
  return text.split('\n').flatMap((line) => {
    const match = /^\s*(\d+)\s+([0-9A-Fa-f]+\/[0-9A-Fa-f]+)/.exec(line);
    return match?.[1] === undefined || match[2] === undefined
      ? []
      : [{ timeline: Number(match[1]), end: parseLsn(match[2]) }];
  });
}

export interface Child {
  readonly timeline: number;
  readonly begin: Lsn;
}

/**
 * Timelines that directly continue `timeline` at `from` or later, by any of these history files; the highest number first,
 * since numbers grow with the epochs.
 */
export function childrenOf(
  histories: ReadonlyMap<number, readonly Ancestor[]>,
  timeline: number,
  from: Lsn,
): readonly Child[] {
  const children = new Map<number, Child>();
  for (const [newest, ancestors] of histories) {
    const index = ancestors.findIndex((ancestor) => ancestor.timeline === timeline);
    const end = ancestors[index]?.end;
    if (end === undefined || end < from) continue;
    const child = ancestors[index + 1]?.timeline ?? newest;
    children.set(child, { timeline: child, begin: end });
  }
  return [...children.values()].toSorted((a, b) => b.timeline - a.timeline);
}
