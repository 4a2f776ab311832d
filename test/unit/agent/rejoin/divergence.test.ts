import assert from 'node:assert/strict';
import { it } from 'node:test';
import { divergedFrom } from '#agent/rejoin/divergence.ts';
import type { Line } from '#agent/rejoin/position.ts';
import { formatLsn, parseLsn, zeroLsn } from '#core/lsn.ts';
import type { Orders } from '#core/protocol/orders.ts';

const line = (end: string, ...stretches: [number, string][]): Line => ({
  stretches: stretches.map(([timeline, begin]) => ({ timeline, begin: parseLsn(begin) })),
  end: parseLsn(end),
});
const entry = (epoch: number, timeline: number, forkLsn: string, parent?: number): Orders['history'][number] => ({
  epoch,
  timeline,
  member: 'x',
  forkLsn,
  ...(parent === undefined ? {} : { parent }),
});
/** Epoch 2's primary died alone: epoch 3 left timeline 1 again, further on. */
const history = [entry(1, 1, '0/0'), entry(2, 2, '0/300', 1), entry(3, 3, '0/400', 1)];

const lost = (data: Line, timeline: number): string[] | undefined =>
  divergedFrom(data, { history, timeline })?.stretches.map(
    ({ timeline: on, from, to }) => `${on}: ${formatLsn(from)}-${formatLsn(to)}`,
  );

it('what ends at the fork, or before it, is a part of the line', () => {
  for (const end of ['0/100', '0/400']) assert.equal(lost(line(end, [1, '0/0']), 3), undefined);
  assert.equal(lost(line('0/900', [1, '0/0'], [3, '0/400']), 3), undefined);
});

it('what goes on past the fork is lost from there, on every timeline that it went through', () => {
  assert.deepEqual(lost(line('0/500', [1, '0/0']), 3), ['1: 0/400-0/500']);
  assert.deepEqual(lost(line('0/500', [1, '0/0'], [2, '0/300']), 3), ['2: 0/300-0/500']);
  assert.deepEqual(lost(line('0/500', [1, '0/0']), 2), ['1: 0/300-0/500']);
  assert.deepEqual(lost(line('0/900', [1, '0/0'], [3, '0/400']), 2), ['1: 0/300-0/400', '3: 0/400-0/900']);
});

it('a timeline that the record does not know is no part of any line', () => {
  assert.equal(divergedFrom(line('0/500', [7, '0/0']), { history, timeline: 3 })?.divergence.forkLsn, zeroLsn);
});

it('orders that do not say which timeline they mean find nothing diverged', () => {
  assert.equal(lost(line('0/500', [1, '0/0']), 0), undefined);
});
