/** Histories written by hand, for the tests of the judges: operations with their times in, entries in order out. */
import type { Entry, Outcome } from '../entry.ts';

export interface HandMade {
  readonly f: string;
  /** When it was asked and when it was answered, in any unit. */
  readonly at: readonly [asked: number, answered: number];
  readonly value: unknown;
  /** Left out: as `value`. */
  readonly returned?: unknown;
  /** Left out: `ok`. */
  readonly outcome?: Outcome;
  /** Left out: one of its own. */
  readonly process?: number;
  readonly timeline?: number;
}

const FIRST_OWN_PROCESS = 1000;

export function handMade(operations: readonly HandMade[]): Entry[] {
  return operations
    .flatMap((operation, n) => {
      const { f, at, value, outcome = 'ok', process = FIRST_OWN_PROCESS + n } = operation;
      const [asked, answered] = at;
      return [
        { type: 'invoke' as const, process, f, value, time: asked },
        {
          type: outcome,
          process,
          f,
          value: outcome === 'ok' ? (operation.returned ?? value) : value,
          time: answered,
          ...(operation.timeline === undefined ? {} : { timeline: operation.timeline }),
        },
      ];
    })
    .toSorted((a, b) => a.time - b.time)
    .map((entry, index) => ({ index, ...entry }));
}
