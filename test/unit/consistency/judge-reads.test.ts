import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judgeReads } from '../../consistency/judge-reads.ts';
import type { Level, Operation } from '../../history/entry.ts';
import type { MicroOperation } from '../../history/workloads/list-append.ts';

type Step = readonly [process: number, level: Level, fromMs: number, toMs: number, done: readonly MicroOperation[]];

const operation = ([process, level, fromMs, toMs, done]: Step): Operation<readonly MicroOperation[]> => ({
  process,
  f: 'txn',
  outcome: 'ok',
  invoked: done.map(
    ([kind, list, value]): MicroOperation => (kind === 'r' ? ['r', list, null] : ['append', list, value]),
  ),
  returned: done,
  invokedAt: fromMs * 1_000_000,
  endedAt: toMs * 1_000_000,
  level,
  door: 'eu',
  error: undefined,
  timeline: undefined,
});

const findings = (...steps: Step[]): readonly string[] =>
  judgeReads(steps.map(operation), { maxStalenessMs: 1_000 }).findings;
const appends: Step[] = [
  [0, 'strong', 0, 10, [['append', 1, 1]]],
  [0, 'strong', 20, 30, [['append', 1, 2]]],
];

test('prefixes of one order, each no shorter than the process has seen, are what was promised', () => {
  assert.deepEqual(
    findings(
      ...appends,
      [1, 'eventual', 40, 41, [['r', 1, []]]],
      [1, 'eventual', 50, 51, [['r', 1, [1]]]],
      [2, 'bounded', 900, 901, [['r', 1, [1, 2]]]],
      [3, 'bounded', 1_005, 1_006, [['r', 1, []]]],
      [0, 'causal', 40, 41, [['r', 1, [1, 2]]]],
    ),
    [],
  );
});

const violations: readonly [string, RegExp, Step[]][] = [
  [
    'another order',
    /no beginning/,
    [
      [1, 'eventual', 40, 41, [['r', 1, [2, 1]]]],
      [2, 'eventual', 40, 41, [['r', 1, [1, 2]]]],
    ],
  ],
  ['what nobody appended', /nobody has appended/, [[1, 'eventual', 40, 41, [['r', 1, [7]]]]]],
  [
    'less than before',
    /having read/,
    [
      [1, 'eventual', 40, 41, [['r', 1, [1, 2]]]],
      [1, 'eventual', 50, 51, [['r', 1, [1]]]],
    ],
  ],
  ['not one’s own', /appended itself/, [[0, 'causal', 40, 41, [['r', 1, [1]]]]]],
  ['what is older than its bound', /acknowledged 1001 ms before/, [[1, 'bounded', 1_031, 1_032, [['r', 1, [1]]]]]],
  ['what is not the latest', /acknowledged 1 ms before/, [[1, 'strong', 31, 32, [['r', 1, [1]]]]]],
];
for (const [what, said, steps] of violations)
  test(`a read of ${what} is found`, () => {
    const found = findings(...appends, ...steps);
    assert.equal(found.length, 1, found.join('\n'));
    assert.match(found[0] ?? '', said);
  });
