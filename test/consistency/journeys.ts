/**
 * Travellers of every level side by side, until so many reads are done; what they saw is judged in portions, since judges take ever longer
 * the longer a history is. Portions have lists of their own, so that each is whole.
 */
import { join } from 'node:path';
import { type Level, operationsOf } from '../history/entry.ts';
import { judgeIsolation } from '../history/judges/isolation.ts';
import type { Verdict } from '../history/judges/verdict.ts';
import { seeded } from '../history/random.ts';
import { Recorder } from '../history/recorder.ts';
import type { Door } from '../history/session.ts';
import type { MicroOperation } from '../history/workloads/list-append.ts';
import { judgeReads } from './judge-reads.ts';
import { type Counts, type Lists, Traveller } from './traveller.ts';

export interface JourneyOptions {
  readonly doors: readonly Door[];
  readonly tenant: string;
  /** Tells this run's rows apart from those of earlier ones. */
  readonly run: number;
  readonly seed: number;
  readonly folder: string;
  /** How many of them there are. */
  readonly travellers: Readonly<Partial<Record<Level, number>>>;
  readonly maxStalenessMs: number;
  readonly reads: number;
  /** It goes on, whatever has been read, until this says so. */
  readonly isEnough?: (counts: JourneyResult['counts']) => boolean;
  readonly readsPerPortion: number;
  /** adya takes a program that has to be built. */
  readonly judges?: readonly ('own' | 'adya')[];
  readonly told?: (reads: number) => void;
}

export interface JourneyResult {
  readonly counts: Readonly<Record<Level, Counts>>;
  readonly verdicts: readonly Verdict[];
  readonly failed: number;
  readonly unknown: number;
}

const levels: readonly Level[] = ['strong', 'causal', 'bounded', 'eventual'];

export async function travel(options: JourneyOptions): Promise<JourneyResult> {
  const counts: Record<Level, Counts> = {
    strong: { reads: 0, asked: 0, byFollowers: 0 },
    causal: { reads: 0, asked: 0, byFollowers: 0 },
    bounded: { reads: 0, asked: 0, byFollowers: 0 },
    eventual: { reads: 0, asked: 0, byFollowers: 0 },
  };
  const travellers = levels.flatMap((level, rank) =>
    Array.from({ length: options.travellers[level] ?? 0 }, (_, index) => {
      const { doors, maxStalenessMs, seed } = options;
      return new Traveller({ doors, level, maxStalenessMs, random: seeded(seed * 10_000 + rank * 1_000 + index) });
    }),
  );
  const verdicts: Verdict[] = [];
  let failed = 0;
  let unknown = 0;
  const all = (): number => levels.reduce((sum, level) => sum + counts[level].reads, 0);
  const goesOn = (): boolean => all() < options.reads || options.isEnough?.(counts) === false;
  for (let portion = 0; goesOn(); portion++) {
    const until = all() + options.readsPerPortion;
    const lists = new Map(levels.map((level) => [level, listsOf(options, level, portion)]));
    await Promise.all(
      travellers.map(async (traveller) => {
        const { level } = traveller;
        while (goesOn() && all() < until) {
          await traveller.step(lists.get(level) as Lists, counts[level]);
          options.told?.(all());
        }
      }),
    );
    for (const { recorder } of lists.values()) recorder.flush();
    for (const [level, { recorder }] of lists) {
      const operations = operationsOf<readonly MicroOperation[]>(recorder.entries);
      if (operations.length === 0) continue;
      failed += operations.filter(({ outcome }) => outcome === 'fail').length;
      unknown += operations.filter(({ outcome }) => outcome === 'info').length;
      verdicts.push(labelled(judgeReads(operations, options), level, portion));
      if (level === 'causal' && options.judges?.includes('adya') !== false)
        verdicts.push(labelled(await judgeIsolation('causal on followers', recorder.entries), level, portion));
    }
  }
  await Promise.all(travellers.map((traveller) => traveller.close()));
  return { counts, verdicts, failed, unknown };
}

function listsOf({ run, tenant, folder }: JourneyOptions, level: Level, portion: number): Lists {
  const family = `travellers-${level}-${portion}`;
  return { recorder: new Recorder(family, { file: join(folder, `${family}.jsonl`) }), family, tenant, run, appends: 0 };
}

const labelled = (verdict: Verdict, level: Level, portion: number): Verdict => ({
  ...verdict,
  judge: `${verdict.judge}, ${level}, portion ${portion}`,
});
