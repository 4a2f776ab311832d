/** Runs many random statements through the laboratory, several at a time, and says what came of them. */
import { KeptWrites } from './kept.ts';
import type { Laboratory, Outcome } from './laboratory.ts';
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
  /** Writes that were kept on both sides, and left both the same. */
  readonly kept: number;
  /** Where the rows may come out differently on one and the same database. */
  readonly undecided: number;
  readonly failures: readonly string[];
  /** For people. */
  readonly lines: readonly string[];
}

/** Of what is answered or refused: a router that refuses everything is never wrong. */
export const minimumAnswered = 0.3;

const maxFailures = 3;

/** So many statements that leave nothing behind, some at a time; then so many writes that are kept, one by one; then all is compared. */
const batchSize = 200;
const keptSize = 20;
const fewKept = 8;
/** Where writes that were kept add up for longer, fewer statements say anything that was not said before. */
const batchesToReset = 5;

export async function runFuzz(
  laboratory: Laboratory,
  { seed, count, untilMs, atLeast = 0, lanes }: FuzzRun,
): Promise<FuzzResult> {
  const startedAt = performance.now();
  const tally = new Map<string, number>();
  const failures: string[] = [];
  const add = (what: string): void => void tally.set(what, (tally.get(what) ?? 0) + 1);
  const isLate = (): boolean => untilMs !== undefined && performance.now() - startedAt > untilMs;
  const kept = new KeptWrites(laboratory);
  let next = 0;
  let ran = 0;
  const goesOn = (): boolean => next < count && failures.length < maxFailures && (next < atLeast || !isLate());
  const work = async (lane: number, end: number): Promise<void> => {
    while (next < end && goesOn()) {
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
  for (let batch = 1; goesOn(); batch++) {
    const end = Math.min(count, next + batchSize);
    await Promise.all(Array.from({ length: lanes }, (_, lane) => work(lane, end)));
    const keeping = await keepSome(kept, seed * 7 + batch, isLate);
    for (const verdict of keeping.verdicts) add(`kept: ${verdict}`);
    ran += keeping.verdicts.length;
    failures.push(...keeping.failures);
    if (batch % batchesToReset === 0) await kept.reset();
  }
  await kept.reset();
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  const of = (what: string): number => tally.get(what) ?? 0;
  return {
    ran,
    answered: of('same'),
    refused: of('refused'),
    kept: of('kept: same'),
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

/** Writes that are kept, and then everything compared. */
async function keepSome(
  kept: KeptWrites,
  seed: number,
  isLate: () => boolean,
): Promise<{ readonly verdicts: readonly string[]; readonly failures: readonly string[] }> {
  const verdicts: string[] = [];
  const said: string[] = [];
  for (let index = 0; verdicts.length < (isLate() ? fewKept : keptSize); index++) {
    const statement = fuzzStatement(seed * 1_000_003 + index);
    if (!statement.isWrite) continue;
    const byItself = index % 2 === 0;
    const verdict = await kept.check(statement, byItself);
    verdicts.push(verdict.kind);
    if (verdict.kind === 'undecided') said.length = 0;
    said.push(
      `${verdict.kind}, ${statement.session} ${statement.tenant}${byItself ? '' : ', in a transaction'}: ${statement.text} ${JSON.stringify(statement.values)}`,
    );
    if (verdict.kind === 'wrong')
      return {
        verdicts,
        failures: [
          `WRONG: ${verdict.what}\n  router: ${outcomeText(verdict.router)}\n  expected: ${outcomeText(verdict.expected)}\n  ${said.join('\n  ')}`,
        ],
      };
  }
  const what = await kept.compare();
  if (what === undefined) {
    await kept.adopt();
    return { verdicts, failures: [] };
  }
  await kept.reset();
  return { verdicts, failures: [`WRONG: after these writes there are other ${what}\n  ${said.join('\n  ')}`] };
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
