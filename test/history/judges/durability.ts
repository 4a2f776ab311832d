/**
 * Our own judge of the set: what was acknowledged is on every member once all is healed, exactly once; what surely failed
 * is on none; nothing else is there. No model of sessions or orders can see a write that everybody lost.
 */
import { type Entry, operationsOf } from '../entry.ts';
import type { SetRead } from '../workloads/unique-set.ts';
import type { FinalState } from './final-state.ts';
import { type Verdict, verdictOf } from './verdict.ts';

export function judgeDurability(entries: readonly Entry[], finals: readonly FinalState[]): Verdict {
  const operations = operationsOf<unknown>(entries);
  const adds = operations.filter(({ f }) => f === 'add');
  const outcomes = new Map(adds.map(({ invoked, outcome }) => [invoked as number, outcome]));
  const findings: string[] = [];
  if (finals.length === 0) findings.push('nobody was asked what is there in the end');
  for (const { from, elements } of finals) {
    const counts = new Map<number, number>();
    for (const element of elements) counts.set(element, (counts.get(element) ?? 0) + 1);
    for (const [element, outcome] of outcomes) {
      const count = counts.get(element) ?? 0;
      if (outcome === 'ok' && count === 0) findings.push(`${from}: ${element} was acknowledged and is lost`);
      if (outcome === 'fail' && count > 0) findings.push(`${from}: ${element} surely failed and is there`);
      if (count > 1) findings.push(`${from}: ${element} is there ${count} times`);
    }
    for (const element of counts.keys()) {
      if (!outcomes.has(element)) findings.push(`${from}: ${element} is there and nobody added it`);
    }
    for (const { f, outcome, returned } of operations) {
      if (f !== 'read' || outcome !== 'ok') continue;
      const lost = (returned as SetRead).found.filter((element) => !counts.has(element));
      if (lost.length > 0) findings.push(`${from}: ${lost.join(', ')} was seen and is lost`);
    }
  }
  return verdictOf('set: nothing acknowledged or seen is lost, nothing doubled', adds.length, findings);
}

/** Once everything has healed all members hold the same. */
export function judgeConvergence(finals: readonly FinalState[]): Verdict {
  const canonical = (final: FinalState): string =>
    JSON.stringify(
      Object.entries(final)
        .filter(([name]) => name !== 'from')
        .toSorted(([a], [b]) => a.localeCompare(b))
        .map(([table, rows]) => [table, (rows as readonly unknown[]).map((row) => JSON.stringify(row)).toSorted()]),
    );
  const [first, ...others] = finals;
  const findings =
    first === undefined
      ? ['nobody was asked what is there in the end']
      : others
          .filter((other) => canonical(other) !== canonical(first))
          .map((other) => `${other.from} holds something else than ${first.from}`);
  return verdictOf('every member holds the same in the end', finals.length, findings);
}
