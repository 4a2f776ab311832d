/**
 * Our own judge of authority as clients see it: acknowledgements of one timeline all come before the first of a later
 * one. Every promotion has a timeline of its own, so two sides that acknowledge at once show here whatever they wrote.
 */
import { type Entry, type Operation, operationsOf } from '../entry.ts';
import { type Verdict, verdictOf } from './verdict.ts';

export interface HandoverOptions {
  /**
   * Answers may have been on their way for long (a cut between client and router): only what was *asked* after the new
   * side's first acknowledgement, and acknowledged by the old one, counts.
   */
  readonly answersMayBeLate?: boolean;
}

export function judgeHandover(histories: readonly (readonly Entry[])[], options: HandoverOptions = {}): Verdict {
  const acknowledged = histories
    .flatMap((entries) => operationsOf<unknown>(entries))
    .filter((operation): operation is Operation & { timeline: number } => {
      return operation.outcome === 'ok' && operation.timeline !== undefined;
    });
  const firstOf = new Map<number, number>();
  for (const { timeline, endedAt } of acknowledged) {
    firstOf.set(timeline, Math.min(firstOf.get(timeline) ?? Number.POSITIVE_INFINITY, endedAt));
  }
  const findings: string[] = [];
  for (const { timeline, invokedAt, endedAt, process, door } of acknowledged) {
    for (const [later, firstAt] of firstOf) {
      if (later <= timeline) continue;
      const at = options.answersMayBeLate === true ? invokedAt : endedAt;
      if (at <= firstAt) continue;
      findings.push(
        `process ${process} (${door ?? '?'}) had an acknowledgement from timeline ${timeline} at ${inSeconds(endedAt)} s, ` +
          `after the first of timeline ${later} at ${inSeconds(firstAt)} s`,
      );
    }
  }
  return verdictOf('the old side is silent before the new one speaks', acknowledged.length, findings);
}

/** How long nobody acknowledged a write between two timelines, in milliseconds, per later timeline. */
export function silences(histories: readonly (readonly Entry[])[]): ReadonlyMap<number, number> {
  const bounds = new Map<number, { first: number; last: number }>();
  for (const { timeline, outcome, endedAt } of histories.flatMap((entries) => operationsOf<unknown>(entries))) {
    if (outcome !== 'ok' || timeline === undefined) continue;
    const known = bounds.get(timeline) ?? { first: endedAt, last: endedAt };
    bounds.set(timeline, { first: Math.min(known.first, endedAt), last: Math.max(known.last, endedAt) });
  }
  const ordered = [...bounds].toSorted(([a], [b]) => a - b);
  return new Map(
    ordered.slice(1).map(([timeline, { first }], index) => {
      const before = ordered[index]?.[1].last ?? first;
      return [timeline, (first - before) / 1e6];
    }),
  );
}

const inSeconds = (nanoseconds: number): string => (nanoseconds / 1e9).toFixed(3);
