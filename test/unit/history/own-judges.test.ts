import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Entry } from '#test/history/entry.ts';
import { judgeConvergence, judgeDurability } from '#test/history/judges/durability.ts';
import { type FinalState, finalStateSql } from '#test/history/judges/final-state.ts';
import { type HandMade, handMade } from '#test/history/judges/hand-made.ts';
import { judgeHandover, silences } from '#test/history/judges/handover.ts';
import { judgeLedger } from '#test/history/judges/ledger.ts';
import { judgeStock } from '#test/history/judges/stock.ts';
import type { Verdict } from '#test/history/judges/verdict.ts';
import { ACCOUNTS, INITIAL_BALANCE } from '#test/history/workloads/ledger.ts';
import { INITIAL_STOCK, ITEMS } from '#test/history/workloads/stock.ts';

const empty: FinalState = { from: 'a member', elements: [], balances: [], transfers: [], onHand: [], moves: [] };
const info = { outcome: 'info' } as const;
const fail = { outcome: 'fail' } as const;
let moment = 0;
/** One after the other. */
const next = (): [number, number] => {
  moment += 2;
  return [moment, moment + 1];
};

interface Case {
  readonly name: string;
  readonly history: readonly Entry[];
  readonly final: Partial<FinalState>;
  /** Undefined: to be accepted. */
  readonly finding?: RegExp;
}

function decide(cases: readonly Case[], judge: (entries: readonly Entry[], finals: FinalState[]) => Verdict): void {
  for (const { name, history, final, finding } of cases) {
    it(`${finding === undefined ? 'accepts' : 'rejects'} ${name}`, () => {
      const verdict = judge(history, [{ ...empty, ...final }]);
      assert.equal(verdict.valid, finding === undefined, verdict.findings.join('\n'));
      if (finding !== undefined) assert.match(verdict.findings.join('\n'), finding);
    });
  }
}

describe('the judge of durability', () => {
  const add = (element: number, rest: Partial<HandMade> = {}): HandMade => ({
    f: 'add',
    value: element,
    at: next(),
    ...rest,
  });
  const look = (found: readonly number[]): HandMade => ({ f: 'read', value: { asked: found, found }, at: next() });
  decide(
    [
      { name: 'what was acknowledged', history: handMade([add(1), add(2)]), final: { elements: [2, 1] } },
      { name: 'an unknown element that is there', history: handMade([add(1, info)]), final: { elements: [1] } },
      { name: 'an unknown element that is not', history: handMade([add(1, info)]), final: {} },
      {
        name: 'a lost write',
        history: handMade([add(1), add(2)]),
        final: { elements: [1] },
        finding: /2 was acknowledged and is lost/,
      },
      {
        name: 'a doubled write',
        history: handMade([add(1)]),
        final: { elements: [1, 1] },
        finding: /1 is there 2 times/,
      },
      {
        name: 'a doubled unknown write',
        history: handMade([add(1, info)]),
        final: { elements: [1, 1] },
        finding: /2 times/,
      },
      {
        name: 'a failed write that is there',
        history: handMade([add(1, fail)]),
        final: { elements: [1] },
        finding: /surely failed and is there/,
      },
      {
        name: 'what nobody wrote',
        history: handMade([add(1)]),
        final: { elements: [1, 7] },
        finding: /7 is there and nobody added it/,
      },
      {
        name: 'what was seen, unacknowledged, and is lost',
        history: handMade([add(1, info), look([1])]),
        final: {},
        finding: /1 was seen and is lost/,
      },
    ],
    judgeDurability,
  );
  it('rejects when nobody was asked in the end', () => {
    assert.equal(judgeDurability(handMade([add(1)]), []).valid, false);
  });
  it('rejects a member that holds something else than the others', () => {
    const one = { ...empty, elements: [1, 2] };
    assert.equal(judgeConvergence([one, { ...one, from: 'b', elements: [2, 1] }]).valid, true);
    assert.equal(judgeConvergence([one, { ...one, from: 'b', elements: [1] }]).valid, false);
    assert.equal(judgeConvergence([]).valid, false);
  });
});

describe('the judge of the ledger', () => {
  const opening = Array.from({ length: ACCOUNTS }, (_, account) => [account, INITIAL_BALANCE] as const);
  const after = (...changes: readonly (readonly [number, number])[]): FinalState['balances'] =>
    opening.map(([account, balance]) => [
      account,
      balance + changes.filter(([changed]) => changed === account).reduce((sum, [, by]) => sum + by, 0),
    ]);
  const transfer = { key: 'k', debit: 0, credit: 1, amount: 10 };
  const pay = (rest: Partial<HandMade> = {}): HandMade => ({
    f: 'transfer',
    value: transfer,
    returned: { ...transfer, applied: true },
    at: next(),
    ...rest,
  });
  const paid = { balances: after([0, -10], [1, 10]), transfers: [transfer] };
  decide(
    [
      { name: 'a payment that was acknowledged', history: handMade([pay()]), final: paid },
      { name: 'an unknown payment that is there', history: handMade([pay(info)]), final: paid },
      { name: 'an unknown payment that is not', history: handMade([pay(info)]), final: { balances: opening } },
      {
        name: 'an unknown attempt, found applied by the next',
        history: handMade([pay(info), pay({ returned: { ...transfer, applied: false } })]),
        final: paid,
      },
      {
        name: 'a lost payment',
        history: handMade([pay()]),
        final: { balances: opening },
        finding: /acknowledged and is not in the journal/,
      },
      {
        name: 'an unbalanced ledger',
        history: handMade([pay()]),
        final: { ...paid, balances: after([0, -10]) },
        finding: /add up to 5990 instead of 6000/,
      },
      {
        name: 'a payment booked twice',
        history: handMade([pay()]),
        final: { ...paid, balances: after([0, -20], [1, 20]) },
        finding: /account 0 has 980, its journal adds up to 990/,
      },
      {
        name: 'a key that was applied twice',
        history: handMade([pay(), pay()]),
        final: paid,
        finding: /applied 2 times/,
      },
      {
        name: 'a key that is in the journal twice',
        history: handMade([pay()]),
        final: { balances: after([0, -20], [1, 20]), transfers: [transfer, transfer] },
        finding: /in the journal 2 times/,
      },
      {
        name: 'a payment of which every attempt failed',
        history: handMade([pay(fail), pay(fail)]),
        final: paid,
        finding: /every attempt of k surely failed/,
      },
      {
        name: 'a failed attempt that took effect',
        history: handMade([pay(fail), pay({ returned: { ...transfer, applied: false } })]),
        final: paid,
        finding: /found applied/,
      },
      {
        name: 'another amount than was asked for',
        history: handMade([pay()]),
        final: { balances: after([0, -11], [1, 11]), transfers: [{ ...transfer, amount: 11 }] },
        finding: /something else/,
      },
      {
        name: 'a payment that nobody asked for',
        history: handMade([pay()]),
        final: { balances: after([0, -20], [1, 20]), transfers: [transfer, { ...transfer, key: 'x' }] },
        finding: /x is in the journal and nobody/,
      },
      {
        name: 'half a payment in a read',
        history: handMade([
          pay(),
          { f: 'audit', value: { balances: [] }, returned: { balances: after([0, -10]) }, at: next() },
        ]),
        final: paid,
        finding: /read balances that add up to/,
      },
    ],
    judgeLedger,
  );
});

describe('the judge of stock', () => {
  const opening = Array.from({ length: ITEMS }, (_, item) => [item, INITIAL_STOCK] as const);
  const after = (item: number, by: number): FinalState['onHand'] =>
    opening.map(([each, stock]) => [each, each === item ? stock + by : stock]);
  const sale = { move: 1, item: 0, quantity: -3 };
  const sell = (rest: Partial<HandMade> = {}, done = true): HandMade => ({
    f: 'sell',
    value: sale,
    returned: { ...sale, done },
    at: next(),
    ...rest,
  });
  const sold = { onHand: after(0, -3), moves: [sale] };
  decide(
    [
      { name: 'a sale', history: handMade([sell()]), final: sold },
      { name: 'an unknown sale that is there', history: handMade([sell(info)]), final: sold },
      {
        name: 'a sale for which too little was there',
        history: handMade([sell({}, false)]),
        final: { onHand: opening },
      },
      {
        name: 'a lost sale',
        history: handMade([sell()]),
        final: { onHand: opening },
        finding: /move 1 was acknowledged and is lost/,
      },
      {
        name: 'negative stock in the end',
        history: handMade([sell()]),
        final: { onHand: after(0, -23), moves: [{ ...sale, quantity: -23 }] },
        finding: /-3 of item 0 on hand/,
      },
      {
        name: 'negative stock in a read',
        history: handMade([
          sell(),
          { f: 'look', value: { onHand: [] }, returned: { onHand: after(0, -21) }, at: next() },
        ]),
        final: sold,
        finding: /process \d+ read -1 of item 0/,
      },
      {
        name: 'stock that its moves do not explain',
        history: handMade([sell()]),
        final: { ...sold, onHand: after(0, -6) },
        finding: /its moves add up to 17/,
      },
      {
        name: 'a doubled sale',
        history: handMade([sell()]),
        final: { onHand: after(0, -6), moves: [sale, sale] },
        finding: /move 1 is there 2 times/,
      },
      {
        name: 'a failed sale that is there',
        history: handMade([sell(fail)]),
        final: sold,
        finding: /was not done, and it is there/,
      },
      {
        name: 'a refused sale that is there',
        history: handMade([sell({}, false)]),
        final: sold,
        finding: /was not done, and it is there/,
      },
    ],
    judgeStock,
  );
});

describe('the judge of handovers', () => {
  const add = (timeline: number, at: HandMade['at']): HandMade => ({ f: 'add', value: at[0], at, timeline });
  it('accepts an old side that is silent before the new one speaks', () => {
    const history = handMade([add(1, [0, 1]), add(1, [1, 5]), add(2, [4, 6])]);
    assert.equal(judgeHandover([history]).valid, true);
  });
  it('rejects an acknowledgement of the old side after the first of the new one, in another history too', () => {
    const verdict = judgeHandover([handMade([add(1, [0, 7])]), handMade([add(2, [4, 6])])]);
    assert.equal(verdict.valid, false);
    assert.match(verdict.findings[0] ?? '', /timeline 1 at 0.000 s, after the first of timeline 2/);
  });
  it('lets answers come late where they may, but not what was asked afterwards', () => {
    const late = [handMade([add(1, [0, 7]), add(2, [4, 6])])];
    assert.equal(judgeHandover(late, { answersMayBeLate: true }).valid, true);
    const wrong = [handMade([add(2, [4, 6]), add(1, [7, 8])])];
    assert.equal(judgeHandover(wrong, { answersMayBeLate: true }).valid, false);
  });
  it('tells how long nobody acknowledged', () => {
    const history = handMade([add(1, [0, 1_000_000]), add(3, [2_000_000, 5_000_000])]);
    assert.deepEqual([...silences([history])], [[3, 4]]);
  });
});

it('the final state is asked for by number only', () => {
  assert.match(finalStateSql(7), /run = 7/);
  assert.throws(() => finalStateSql(Number.NaN), /not a run/);
});
