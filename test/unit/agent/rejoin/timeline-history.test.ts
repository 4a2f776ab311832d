import assert from 'node:assert/strict';
import { it } from 'node:test';
import { childrenOf, isStub, readAncestors, stubText } from '#agent/rejoin/timeline-history.ts';
import { formatLsn, parseLsn } from '#core/lsn.ts';

const file = '1\t0/3000148\tno recovery target specified\n\n# a comment\n3\t0/5000000\tno recovery target specified\n';

it('a history file names its ancestors and where they were left', () => {
  assert.deepEqual(
    readAncestors(file).map(({ timeline, end }) => [timeline, formatLsn(end)]),
    [
      [1, '0/3000148'],
      [3, '0/5000000'],
    ],
  );
});

it('a stub is known by its words and names nobody', () => {
  assert.equal(isStub(stubText), true);
  assert.deepEqual(readAncestors(stubText), []);
  assert.equal(isStub(file), false);
});

it('children are the next ones on any line, from a place on, the newest first', () => {
  const histories = new Map([
    [2, []],
    [3, readAncestors('1 0/3000148 x')],
    [4, readAncestors('1 0/2000000 x')],
    [6, readAncestors(file)],
  ]);
  const at = (timeline: number, from: string): [number, string][] =>
    childrenOf(histories, timeline, parseLsn(from)).map(({ timeline: child, begin }) => [child, formatLsn(begin)]);
  assert.deepEqual(at(1, '0/0'), [
    [4, '0/2000000'],
    [3, '0/3000148'],
  ]);
  assert.deepEqual(at(1, '0/3000148'), [[3, '0/3000148']]);
  assert.deepEqual(at(1, '0/3000149'), []);
  assert.deepEqual(at(3, '0/0'), [[6, '0/5000000']]);
  assert.deepEqual(at(6, '0/0'), []);
});
