/**
 * Our own judge of the ledger: balances equal what the journal adds up to, in every read and in the end; no money comes
 * or goes; a payment that was acknowledged under its idempotency key is in the journal exactly once, as it was asked for,
 * and one whose every attempt surely failed isn't.
 */
import { type Entry, operationsOf } from '../entry.ts';
import { ACCOUNTS, type Audit, INITIAL_BALANCE, type Transfer } from '../workloads/ledger.ts';
import type { FinalState } from './final-state.ts';
import { type Verdict, verdictOf } from './verdict.ts';

export function judgeLedger(entries: readonly Entry[], finals: readonly FinalState[]): Verdict {
  const operations = operationsOf<unknown>(entries);
  const findings: string[] = [];
  for (const { f, outcome, returned, process } of operations) {
    if (f !== 'audit' || outcome !== 'ok') continue;
    const problem = imbalance((returned as Audit).balances);
    if (problem !== undefined) findings.push(`process ${process} read balances that ${problem}`);
  }
  const attempts = operations.filter(({ f }) => f === 'transfer');
  const byKey = Map.groupBy(attempts, ({ invoked }) => (invoked as Transfer).key);
  if (finals.length === 0) findings.push('nobody was asked what is there in the end');
  for (const { from, balances, transfers } of finals) {
    const problem = imbalance(balances);
    if (problem !== undefined) findings.push(`${from}: balances ${problem}`);
    findings.push(...againstJournal(balances, transfers).map((finding) => `${from}: ${finding}`));
    const journal = Map.groupBy(transfers, ({ key }) => key);
    for (const [key, tried] of byKey) {
      const entered = journal.get(key) ?? [];
      const applied = tried.filter(({ returned }) => (returned as Transfer | undefined)?.applied === true).length;
      const isOldNews = tried.some(({ returned }) => (returned as Transfer | undefined)?.applied === false);
      if (isOldNews && applied === 0 && tried.every(({ outcome }) => outcome !== 'info')) {
        findings.push(`${key} was found applied, and every attempt before had surely failed`);
      }
      if (applied > 1) findings.push(`${key} was applied ${applied} times`);
      if (entered.length > 1) findings.push(`${from}: ${key} is in the journal ${entered.length} times`);
      if (entered.length === 0 && tried.some(({ outcome }) => outcome === 'ok')) {
        findings.push(`${from}: ${key} was acknowledged and is not in the journal`);
      }
      if (entered.length > 0 && tried.every(({ outcome }) => outcome === 'fail')) {
        findings.push(`${from}: every attempt of ${key} surely failed, and it is in the journal`);
      }
      const asked = tried[0]?.invoked as Transfer;
      for (const { debit, credit, amount } of entered) {
        if (debit !== asked.debit || credit !== asked.credit || amount !== asked.amount) {
          findings.push(`${from}: ${key} is in the journal as something else than was asked for`);
        }
      }
    }
    for (const key of journal.keys()) {
      if (!byKey.has(key)) findings.push(`${from}: ${key} is in the journal and nobody asked for it`);
    }
  }
  return verdictOf('ledger: balances equal the journal, every payment once', attempts.length, findings);
}

function imbalance(balances: readonly (readonly [number, number])[]): string | undefined {
  if (balances.length !== ACCOUNTS) return `are of ${balances.length} accounts instead of ${ACCOUNTS}`;
  const total = balances.reduce((sum, [, balance]) => sum + balance, 0);
  const expected = ACCOUNTS * INITIAL_BALANCE;
  return total === expected ? undefined : `add up to ${total} instead of ${expected}`;
}

function againstJournal(balances: FinalState['balances'], transfers: FinalState['transfers']): readonly string[] {
  const booked = new Map<number, number>();
  const book = (account: number, by: number): void => {
    booked.set(account, (booked.get(account) ?? INITIAL_BALANCE) + by);
  };
  for (const { debit, credit, amount } of transfers) {
    book(debit, -amount);
    book(credit, amount);
  }
  return balances
    .map(([account, balance]) => ({ account, balance, expected: booked.get(account) ?? INITIAL_BALANCE }))
    .filter(({ balance, expected }) => balance !== expected)
    .map(({ account, balance, expected }) => `account ${account} has ${balance}, its journal adds up to ${expected}`);
}
