/** What is known of the loss of a failover, as the former primary says more and more. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AgentStatus } from '#core/protocol/status.ts';
import type { ShardLastFailover } from '#crds/index.ts';
import { lossAfter } from '#operator/controllers/shard/aftermath.ts';
import type { MemberView } from '#operator/controllers/shard/members.ts';

const last: ShardLastFailover = {
  epoch: 2,
  from: 'a-eu-0',
  fromIncarnation: 'a'.repeat(16),
  to: 'a-us-0',
  reason: 'it was lost',
  at: '2026-01-01T00:00:00Z',
  acknowledgements: 0,
  exact: false,
  lostFrom: '0/10',
};

function saying(change: Partial<AgentStatus>, incarnation = last.fromIncarnation): MemberView[] {
  const status: AgentStatus = {
    member: { name: 'a-eu-0', incarnation },
    region: 'eu',
    phase: 'Following',
    problem: '',
    hasData: true,
    standbys: [],
    slots: [],
    ...change,
  };
  return [
    {
      name: 'a-eu-0',
      region: 'eu',
      promotable: true,
      declared: true,
      pod: undefined,
      volume: 'bound',
      volumeGoing: false,
      answer: { kind: 'status', status },
      lastKnown: undefined,
    },
  ];
}

const diverged = { timeline: 1, forkLsn: '0/20', lsn: '0/50', waiting: true };
const following = {
  orders: { role: 'Follower' as const, epoch: 2, leaderTerm: 1, sequence: 1, generation: 1, digest: '' },
  upstream: { member: 'a-us-0', streaming: true, lagBytes: 0, caughtUp: true },
};

test('while it is away nothing is added', () => {
  assert.equal(lossAfter(last, []), last);
  assert.equal(lossAfter(undefined, saying({})), undefined);
});

test('first the range, then the count, which makes it exact', () => {
  const range = lossAfter(last, saying({ diverged }));
  assert.deepEqual([range?.lostFrom, range?.lostTo, range?.exact], ['0/20', '0/50', false]);
  const counted = lossAfter(range, saying({ diverged: { ...diverged, transactions: 3, keptIn: 'kept/2' } }));
  assert.deepEqual([counted?.transactions, counted?.keptIn, counted?.exact], [3, 'kept/2', true]);
});

test('what it said stays when it has rewound, and is taken from there where nobody saw it before', () => {
  const rejoined = { how: 'Rewind' as const, epoch: 2, forkLsn: '0/20', lsn: '0/50', transactions: 3 };
  const seen = lossAfter(last, saying({ rejoined, ...following }));
  assert.deepEqual([seen?.transactions, seen?.lostTo, seen?.exact], [3, '0/50', true]);
  assert.equal(lossAfter(seen, saying(following)), seen);
});

test('counted while it waited, it is put aside later: where to is said by whoever is asked in time, or afterwards', () => {
  const counted = lossAfter(last, saying({ diverged: { ...diverged, transactions: 3 } }));
  assert.deepEqual([counted?.exact, counted?.keptIn], [true, undefined]);
  assert.equal(lossAfter(counted, saying({ diverged: { ...diverged, transactions: 3 } })), counted);
  const during = lossAfter(counted, saying({ diverged: { ...diverged, transactions: 3, keptIn: 'kept/2' } }));
  assert.deepEqual(during, { ...counted, keptIn: 'kept/2' });
  const rejoined = { how: 'Rewind' as const, epoch: 2, forkLsn: '0/20', lsn: '0/50', transactions: 3 };
  const kept = { ...rejoined, keptIn: 'kept/2' };
  assert.deepEqual(lossAfter(counted, saying({ rejoined: kept, ...following })), { ...counted, keptIn: 'kept/2' });
  assert.equal(lossAfter(counted, saying({ rejoined: { ...kept, epoch: 1 } })), counted);
  // Where there was no room for it.
  assert.equal(lossAfter(counted, saying({ rejoined, ...following })), counted);
});

test('a rejoin of an epoch before says nothing of this one', () => {
  const rejoined = { how: 'Rewind' as const, epoch: 1, forkLsn: '0/1', lsn: '0/2', transactions: 9 };
  assert.equal(lossAfter(last, saying({ rejoined })), last);
});

test('that follows as it is: nothing was lost', () => {
  const found = lossAfter(last, saying(following));
  assert.deepEqual([found?.transactions, found?.exact], [0, true]);
});

test('with another volume it knows nothing', () => {
  assert.equal(lossAfter(last, saying({ diverged, ...following }, 'b'.repeat(16))), last);
});

test('what is no position is left out', () => {
  const found = lossAfter(last, saying({ diverged: { ...diverged, lsn: 'nowhere' } }));
  assert.deepEqual([found?.lostFrom, found?.lostTo], ['0/10', undefined]);
});
