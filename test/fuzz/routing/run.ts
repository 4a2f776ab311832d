/** Runs many random statements through the laboratory, several at a time, and says what came of them. */
import { type Laboratory, type Outcome } from './laboratory.ts';
import { shortened, type Wrong } from './shorten.ts';
import { type FuzzStatement, fuzzStatement } from './statements.ts';

export interface FuzzRun {
  readonly seed: number;
  readonly count: number;
  /** After so long no new statement is begun, but for the first `atLeast`. */
  readonly untilMs?: number;
  readonly atLeast?: number;
  readonly lanes: number;
}

export interface FuzzResult {
  readonly ran: number;
  readonly answered: number;
  readonly refused: number;
  /** Where the rows may come out differently on one and the same database. */
  readonly undecided: number;
  readonly failures: readonly string[];
  /** For people. */
  readonly lines: readonly string[];
}

/** Of what is answered or refused: a router that refuses everything is never wrong. */
export const minimumAnswered = 0.3;

const maxFailures = 3;

export async function runFuzz(
  laboratory: Laboratory,
  { seed, count, untilMs, atLeast = 0, lanes }: FuzzRun,
): Promise<FuzzResult> {
  const startedAt = performance.now();
  const tally = new Map<string, number>();
  const failures: string[] = [];
  const add = (what: string): void => void tally.set(what, (tally.get(what) ?? 0) + 1);
  let next = 0;
  let ran = 0;
  const work = async (lane: number): Promise<void> => {
    while (next < count && failures.length < maxFailures) {
      if (untilMs !== undefined && next >= atLeast && performance.now() - startedAt > untilMs) return;
      const index = next++;
      const statement = fuzzStatement(seed * 100_003 + index);
      const verdict = await laboratory.check(statement, lane);
      ran += 1;
      add(verdict.kind);
      if (verdict.kind === 'same') add(`  answered ${statement.session} ${statement.isWrite ? 'write' : 'read'}`);
      if (verdict.kind === 'refused') add(`  refused ${verdict.code}`);
      if (verdict.kind === 'wrong') failures.push(await told(laboratory, statement, verdict, { seed, index, lane }));
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, lane) => work(lane)));
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  const of = (what: string): number => tally.get(what) ?? 0;
  return {
    ran,
    answered: of('same'),
    refused: of('refused'),
    undecided: of('undecided'),
    failures,
    lines: [
      `seed ${seed}: ${ran} statements in ${seconds} s`,
      ...[...tally]
        .toSorted(([a], [b]) => (a < b ? -1 : 1))
        .map(([what, times]) => `${String(times).padStart(7)}  ${what}`),
    ],
  };
}

async function told(
  laboratory: Laboratory,
  statement: FuzzStatement,
  verdict: Wrong,
  at: { readonly seed: number; readonly index: number; readonly lane: number },
): Promise<string> {
  const short = await shortened(statement, verdict, (candidate) => laboratory.check(candidate, at.lane));
  const { statement: shortest, verdict: last } = short;
  return [
    `WRONG: ${last.what} (npm run fuzz:routing -- --seed ${at.seed} --only ${at.index})`,
    `  session: ${shortest.session}, tenant ${shortest.tenant}${shortest.before === undefined ? '' : `, prepared, run before with ${JSON.stringify(shortest.before)}`}`,
    `  as it was: ${statement.text}`,
    `  shortened: ${shortest.text}`,
    `  values:    ${JSON.stringify(shortest.values)}`,
    `  router:    ${outcomeText(last.router)}`,
    `  expected:  ${outcomeText(last.expected)}`,
  ].join('\n');
}

const outcomeText = (outcome: Outcome): string =>
  outcome.kind === 'error'
    ? `${outcome.code} ${outcome.message}`
    : `${JSON.stringify(outcome.results)}${outcome.left.length > 0 ? ` and left ${JSON.stringify(outcome.left)}` : ''}`.slice(
        0,
        2_000,
      );
