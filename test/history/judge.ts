/** All judges on all histories of one run, each on those that it understands. */
import type { Entry } from './entry.ts';
import { judgeConvergence, judgeDurability } from './judges/durability.ts';
import type { FinalState } from './judges/final-state.ts';
import { type HandoverOptions, judgeHandover } from './judges/handover.ts';
import { judgeIsolation } from './judges/isolation.ts';
import { judgeLedger } from './judges/ledger.ts';
import { judgeLinearizability } from './judges/linearizability.ts';
import { judgeStock } from './judges/stock.ts';
import type { Verdict } from './judges/verdict.ts';

/** By the workload's name. */
export type Histories = ReadonlyMap<string, readonly Entry[]>;

export async function judgeAll(
  histories: Histories,
  finals: readonly FinalState[],
  options: HandoverOptions = {},
): Promise<readonly Verdict[]> {
  const of = (name: string): readonly Entry[] => histories.get(name) ?? [];
  return [
    judgeDurability(of('set'), finals),
    judgeLedger(of('ledger'), finals),
    judgeStock(of('stock'), finals),
    judgeConvergence(finals),
    judgeHandover([of('set'), of('register')], options),
    await judgeLinearizability('register', of('register')),
    await judgeLinearizability('set', of('set')),
    await judgeIsolation('strong serializable', of('lists-serializable')),
    await judgeIsolation('strong repeatable read', of('lists-repeatable-read')),
  ];
}
