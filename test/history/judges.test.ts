/**
 * The judges are judged: for every anomaly a history made by hand that shows it must be rejected, and the nearest good
 * one must be accepted. With the real programs (Porcupine's and adya's), which are built when they aren't there.
 */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import type { Entry } from './entry.ts';
import { type HandMade, handMade } from './judges/hand-made.ts';
import { judgeIsolation, type Promised } from './judges/isolation.ts';
import { judgeLinearizability } from './judges/linearizability.ts';
import { ensureIsolationJudge, ensureLinearizabilityJudge } from './judges/programs.ts';
import type { MicroOperation } from './workloads/list-append.ts';
import type { RegisterValue } from './workloads/register.ts';

interface Case {
  readonly name: string;
  readonly history: readonly Entry[];
}

const registers = (
  ...operations: readonly (HandMade & { value: RegisterValue; returned?: RegisterValue })[]
): Entry[] => handMade(operations);
const write = (value: number, at: HandMade['at'], rest: Partial<HandMade> = {}) => ({
  f: 'write',
  value: { register: 1, value },
  at,
  ...(rest as { returned?: RegisterValue }),
});
const read = (value: number | null, at: HandMade['at']) => ({
  f: 'read',
  value: { register: 1 },
  returned: { register: 1, value },
  at,
});
const swap = (expected: number, value: number, swapped: boolean, at: HandMade['at']) => ({
  f: 'cas',
  value: { register: 1, expected, value },
  returned: { register: 1, expected, value, swapped },
  at,
});
const info = { outcome: 'info' } as const;
const fail = { outcome: 'fail' } as const;

describe('the judge of registers', () => {
  before(async () => {
    await ensureLinearizabilityJudge();
  });
  const bad: readonly Case[] = [
    { name: 'a stale read', history: registers(write(1, [0, 1]), write(2, [2, 3]), read(1, [4, 5])) },
    { name: 'a lost write', history: registers(write(1, [0, 1]), read(null, [2, 3])) },
    {
      name: 'a read of what surely failed',
      history: registers(write(1, [0, 1]), write(2, [2, 3], fail), read(2, [4, 5])),
    },
    { name: 'a read of the future', history: registers(read(1, [0, 1]), write(1, [2, 3])) },
    {
      name: 'two swaps from the same value',
      history: registers(write(1, [0, 1]), swap(1, 2, true, [2, 3]), swap(1, 3, true, [4, 5])),
    },
    { name: 'a swap that should have been', history: registers(write(1, [0, 1]), swap(1, 2, false, [2, 3])) },
    {
      name: 'a write that was seen and is gone',
      history: registers(write(1, [0, 1]), write(2, [2, 3], info), read(2, [4, 5]), read(1, [6, 7])),
    },
    {
      name: 'two reads that see concurrent writes in opposite orders',
      history: registers(write(1, [0, 9]), write(2, [0, 9]), read(1, [2, 3]), read(2, [4, 5]), read(1, [6, 7])),
    },
  ];
  for (const { name, history } of bad) {
    it(`rejects ${name}`, async () => {
      const verdict = await judgeLinearizability('register', history);
      assert.equal(verdict.valid, false);
      assert.match(verdict.findings.join('\n'), /register 1 is not linearizable/);
    });
  }
  const good: readonly Case[] = [
    {
      name: 'reads that follow writes',
      history: registers(write(1, [0, 1]), read(1, [2, 3]), write(2, [4, 5]), read(2, [6, 7])),
    },
    {
      name: 'a concurrent read, either way',
      history: registers(write(1, [0, 1]), write(2, [2, 9]), read(1, [3, 4]), read(2, [5, 6])),
    },
    {
      name: 'an unknown write that never was',
      history: registers(write(1, [0, 1]), write(2, [2, 3], info), read(1, [4, 5])),
    },
    {
      name: 'an unknown write that took effect late',
      history: registers(write(1, [0, 1]), write(2, [2, 3], info), read(1, [4, 5]), read(2, [6, 7])),
    },
    {
      name: 'a chain of swaps',
      history: registers(write(1, [0, 1]), swap(1, 2, true, [2, 3]), swap(1, 3, false, [4, 5]), read(2, [6, 7])),
    },
  ];
  for (const { name, history } of good) {
    it(`accepts ${name}`, async () => {
      assert.equal((await judgeLinearizability('register', history)).valid, true);
    });
  }
  it('takes an empty history for no proof', async () => {
    assert.equal((await judgeLinearizability('register', [])).valid, 'unknown');
  });
});

describe('the judge of sets', () => {
  const add = (element: number, at: HandMade['at'], rest: Partial<HandMade> = {}): HandMade => ({
    f: 'add',
    value: element,
    at,
    ...rest,
  });
  const look = (asked: readonly number[], found: readonly number[], at: HandMade['at']): HandMade => ({
    f: 'read',
    value: { asked, found: [] },
    returned: { asked, found },
    at,
  });
  const bad: readonly Case[] = [
    {
      name: 'an acknowledged element that a later read misses',
      history: handMade([add(1, [0, 1]), look([1], [], [2, 3])]),
    },
    {
      name: 'an element that was seen and is gone',
      history: handMade([add(1, [0, 9]), look([1], [1], [2, 3]), look([1], [], [4, 5])]),
    },
    { name: 'an element that surely failed', history: handMade([add(1, [0, 1], fail), look([1], [1], [2, 3])]) },
    {
      name: 'an unknown element that was seen and is gone',
      history: handMade([add(1, [0, 1], info), look([1], [1], [2, 3]), look([1], [], [4, 5])]),
    },
  ];
  for (const { name, history } of bad) {
    it(`rejects ${name}`, async () => {
      assert.equal((await judgeLinearizability('set', history)).valid, false);
    });
  }
  it('accepts what is there in time, and unknown elements either way', async () => {
    const history = handMade([
      add(1, [0, 1]),
      add(2, [2, 9]),
      add(3, [2, 3], info),
      look([1, 2, 3], [1], [4, 5]),
      look([1, 2, 3], [1, 2, 3], [6, 7]),
    ]);
    assert.equal((await judgeLinearizability('set', history)).valid, true);
  });
});

describe('the judge of isolation', () => {
  before(async () => {
    await ensureIsolationJudge();
  });
  const transaction = (
    at: HandMade['at'],
    operations: readonly MicroOperation[],
    rest: Partial<HandMade> = {},
  ): HandMade => ({
    f: 'txn',
    value: operations.map(([kind, list, element]) => [kind, list, kind === 'r' ? null : element]),
    returned: operations,
    at,
    ...rest,
  });
  const serializable: Promised = 'strong serializable';
  const snapshot: Promised = 'strong repeatable read';
  const bad: readonly (Case & { readonly promised: Promised; readonly anomaly: RegExp })[] = [
    {
      name: 'a stale read (real time)',
      promised: snapshot,
      anomaly: /realtime/,
      history: handMade([transaction([0, 1], [['append', 1, 1]]), transaction([2, 3], [['r', 1, []]])]),
    },
    {
      name: 'an aborted read (G1a)',
      promised: snapshot,
      anomaly: /G1a/,
      history: handMade([transaction([0, 1], [['append', 1, 1]], fail), transaction([2, 3], [['r', 1, [1]]])]),
    },
    {
      name: 'an intermediate read (G1b)',
      promised: snapshot,
      anomaly: /G1b/,
      history: handMade([
        transaction(
          [0, 9],
          [
            ['append', 1, 1],
            ['append', 1, 2],
          ],
        ),
        transaction([0, 9], [['r', 1, [1]]]),
        transaction([10, 11], [['r', 1, [1, 2]]]),
      ]),
    },
    {
      name: 'a circle of reads (G1c)',
      promised: snapshot,
      anomaly: /G1c/,
      history: handMade([
        transaction(
          [0, 9],
          [
            ['append', 1, 1],
            ['r', 2, [1]],
          ],
        ),
        transaction(
          [0, 9],
          [
            ['append', 2, 1],
            ['r', 1, [1]],
          ],
        ),
      ]),
    },
    {
      name: 'a lost update',
      promised: snapshot,
      anomaly: /lost-update|G-single|G2/,
      history: handMade([
        transaction(
          [0, 9],
          [
            ['r', 1, []],
            ['append', 1, 1],
          ],
        ),
        transaction(
          [0, 9],
          [
            ['r', 1, []],
            ['append', 1, 2],
          ],
        ),
        transaction([10, 11], [['r', 1, [1, 2]]]),
      ]),
    },
    {
      name: 'read skew (G-single)',
      promised: snapshot,
      anomaly: /G-single/,
      history: handMade([
        transaction(
          [0, 9],
          [
            ['append', 1, 1],
            ['append', 2, 1],
          ],
        ),
        transaction(
          [0, 9],
          [
            ['r', 1, []],
            ['r', 2, [1]],
          ],
        ),
        transaction(
          [10, 11],
          [
            ['r', 1, [1]],
            ['r', 2, [1]],
          ],
        ),
      ]),
    },
    {
      name: 'write skew (G2) under serializable',
      promised: serializable,
      anomaly: /G2/,
      history: handMade([
        transaction(
          [0, 9],
          [
            ['r', 1, []],
            ['append', 2, 1],
          ],
        ),
        transaction(
          [0, 9],
          [
            ['r', 2, []],
            ['append', 1, 1],
          ],
        ),
        transaction(
          [10, 11],
          [
            ['r', 1, [1]],
            ['r', 2, [1]],
          ],
        ),
      ]),
    },
    {
      name: 'an append that is there twice (doubled write)',
      promised: snapshot,
      anomaly: /duplicate/,
      history: handMade([transaction([0, 1], [['append', 1, 1]]), transaction([2, 3], [['r', 1, [1, 1]]])]),
    },
    {
      name: 'a lost append',
      promised: snapshot,
      anomaly: /.+/,
      history: handMade([
        transaction([0, 1], [['append', 1, 1]]),
        transaction([2, 3], [['r', 1, [1]]]),
        transaction([4, 5], [['append', 1, 2]]),
        transaction([6, 7], [['r', 1, [2]]]),
      ]),
    },
    {
      name: 'what was just written by the same process, unread by it (causal on followers)',
      promised: 'causal on followers',
      anomaly: /process/,
      history: handMade([
        transaction([0, 1], [['append', 1, 1]], { process: 1 }),
        transaction([2, 3], [['r', 1, []]], { process: 1 }),
        transaction([4, 5], [['r', 1, [1]]], { process: 2 }),
      ]),
    },
  ];
  for (const { name, promised, anomaly, history } of bad) {
    it(`rejects ${name}`, async () => {
      const verdict = await judgeIsolation(promised, history);
      assert.equal(verdict.valid, false, JSON.stringify(verdict));
      assert.match(verdict.findings.join('\n'), anomaly);
    });
  }
  it('accepts transactions one after another, and an unknown one either way', async () => {
    const history = handMade([
      transaction(
        [0, 1],
        [
          ['r', 1, []],
          ['append', 1, 1],
        ],
      ),
      transaction([2, 3], [['append', 1, 2]], info),
      transaction([4, 5], [['append', 2, 1]], info),
      transaction(
        [6, 7],
        [
          ['r', 1, [1, 2]],
          ['r', 2, []],
          ['append', 1, 3],
        ],
      ),
      transaction([8, 9], [['r', 1, [1, 2, 3]]]),
    ]);
    assert.equal((await judgeIsolation(serializable, history)).valid, true);
  });
  it('accepts write skew under repeatable read, which allows it', async () => {
    const history = handMade([
      transaction(
        [0, 9],
        [
          ['r', 1, []],
          ['append', 2, 1],
        ],
      ),
      transaction(
        [0, 9],
        [
          ['r', 2, []],
          ['append', 1, 1],
        ],
      ),
      transaction(
        [10, 11],
        [
          ['r', 1, [1]],
          ['r', 2, [1]],
        ],
      ),
    ]);
    assert.equal((await judgeIsolation(snapshot, history)).valid, true);
  });
  it('accepts a stale read of another process on a follower', async () => {
    const history = handMade([
      transaction([0, 1], [['append', 1, 1]], { process: 1 }),
      transaction([2, 3], [['r', 1, []]], { process: 2 }),
      transaction([4, 5], [['r', 1, [1]]], { process: 2 }),
    ]);
    assert.equal((await judgeIsolation('causal on followers', history)).valid, true);
  });
});
