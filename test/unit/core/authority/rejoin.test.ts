import assert from 'node:assert/strict';
import { test } from 'node:test';
import { awayBeforeDeposedMs } from '#core/authority/membership-change.ts';
import { whyNotStart, whyShut } from '#core/authority/opening.ts';
import { comparePositions, positionOf } from '#core/authority/position.ts';
import { decideFence, mayGrant, mayLead, mayStream } from '#core/authority/promise.ts';
import { lacksFollowers, mayRewind, type RejoiningMember, rejoinOf } from '#core/authority/rejoin.ts';
import { formatLsn } from '#core/lsn.ts';
import { member, nameOf, recordOf } from './records.ts';

/** b's epoch 2 forked at 100 and nobody followed; c's epoch 3 forked from timeline 1 at 120 (A5). */
const forked = recordOf(['a', 'b', 'c'], 1, [
  { epoch: 1, timeline: 1, member: 'a', forkLsn: '0/0' },
  { epoch: 2, timeline: 2, member: 'b', forkLsn: '0/100', parent: 1 },
  { epoch: 3, timeline: 3, member: 'c', forkLsn: '0/120', parent: 1 },
]);

test('where a log leaves the history of its primary', () => {
  for (const [timeline, lsn, expected] of [
    [3, '0/400', 'Stream'],
    [1, '0/120', 'Stream'],
    [1, '0/80', 'Stream'],
    [1, '0/130', 'Diverged 1 0/120'],
    // Behind the fork of epoch 3 in bytes, and yet of no part of it.
    [2, '0/105', 'Diverged 1 0/100'],
    [7, '0/1', 'Foreign'],
  ] as const) {
    const rejoin = rejoinOf(forked, { timeline, lsn });
    const said = rejoin.kind === 'Diverged' ? `Diverged ${rejoin.timeline} ${formatLsn(rejoin.forkLsn)}` : rejoin.kind;
    assert.equal(said, expected, `timeline ${timeline} at ${lsn}`);
  }
});

test('a long descent is walked through every fork, and a chain without parents continues the epoch before', () => {
  const chain = recordOf(['a', 'b'], 1, [
    { epoch: 1, timeline: 1, member: 'a', forkLsn: '0/0' },
    { epoch: 2, timeline: 2, member: 'b', forkLsn: '0/100' },
    { epoch: 4, timeline: 3, member: 'a', forkLsn: '0/200' },
  ]);
  assert.equal(rejoinOf(chain, { timeline: 1, lsn: '0/100' }).kind, 'Stream');
  assert.equal(rejoinOf(chain, { timeline: 1, lsn: '0/101' }).kind, 'Diverged');
  assert.equal(rejoinOf(chain, { timeline: 2, lsn: '0/200' }).kind, 'Stream');
  assert.equal(rejoinOf(chain, { timeline: 2, lsn: '0/201' }).kind, 'Diverged');
});

test('positions compare by the epoch of their timeline, then by LSN', () => {
  const of = (timeline: number, lsn: string) => {
    const position = positionOf(forked, { timeline, lsn });
    assert.ok(position !== undefined);
    return position;
  };
  assert.ok(comparePositions(of(2, '0/105'), of(1, '0/FFFF')) > 0);
  assert.ok(comparePositions(of(1, '1/0'), of(1, '0/FFFFFFFF')) > 0);
  assert.equal(comparePositions(of(3, '0/121'), of(3, '0/121')), 0);
  assert.equal(positionOf(forked, { timeline: 1, lsn: 'nonsense' }), undefined);
});

test('a copy that counts is rewound only where the gate could never open otherwise', () => {
  const states = (diverged: readonly string[], gone: readonly string[] = []) =>
    ['b', 'c', 'd'].map((name) => ({
      member: member(name),
      diverged: diverged.includes(name),
      gone: gone.includes(name),
    }));
  const three = recordOf(['a', 'b', 'c'], 1);
  const two = recordOf(['a', 'b'], 1);
  assert.equal(mayRewind(three, member('d'), states(['d']), true), true, 'not listed');
  assert.equal(mayRewind(three, member('b'), states(['b']), true), false, 'listed, and it can be removed first');
  assert.equal(mayRewind(three, member('b'), states(['b']), false), false, 'another may still follow');
  assert.equal(mayRewind(three, member('b'), states(['b', 'c']), false), true, 'nobody else can');
  assert.equal(mayRewind(three, member('b'), states(['b'], ['c']), false), true, 'the other one is gone');
  assert.equal(mayRewind(two, member('b'), states(['b']), false), true);
  assert.equal(mayRewind(two, member('a'), [], false), false, 'the primary itself');
});

test('a gate that waits for who is away for long opens by a rewind of another; who was seen a moment ago is waited for', () => {
  // a is dead; b decided with c, which follows; k = 2 needs one more of a and d, and d has diverged.
  const record = recordOf(['a', 'b', 'c', 'd'], 2, [
    { epoch: 1, timeline: 1, member: 'a', forkLsn: '0/0' },
    { epoch: 2, timeline: 2, member: 'b', forkLsn: '0/100', parent: 1 },
  ]);
  const states = (awayMs: number, c: Partial<RejoiningMember> = {}): readonly RejoiningMember[] => [
    { member: member('a'), diverged: false, awayMs },
    { member: member('c'), diverged: false, ...c },
    { member: member('d'), diverged: true },
  ];
  const d = (members: readonly RejoiningMember[], primaryIsOpen = false): boolean =>
    mayRewind(record, member('d'), members, primaryIsOpen);
  assert.equal(d(states(awayBeforeDeposedMs)), true);
  assert.equal(d(states(awayBeforeDeposedMs - 1)), false, 'it may only be restarting');
  assert.equal(d(states(awayBeforeDeposedMs), true), false, 'the gate is open: it is removed first');
  assert.equal(mayRewind(recordOf(['b', 'c', 'd', 'a'], 1), member('d'), states(awayBeforeDeposedMs), false), false);
  assert.equal(d(states(0, { stale: true })), true, 'c lacks the log that it needs, and cannot be removed before');
});

test('a gate lacks followers while those who count, and can follow as they are, are fewer than k', () => {
  const three = recordOf(['a', 'b', 'c'], 1);
  const b = { member: member('b'), diverged: false, outOfScope: true };
  const c = { member: member('c'), diverged: false };
  assert.equal(lacksFollowers(recordOf(['a', 'b'], 2), []), true);
  assert.equal(lacksFollowers(three, []), false);
  assert.equal(lacksFollowers(three, [b]), false);
  assert.equal(lacksFollowers(three, [b, { ...c, awayMs: awayBeforeDeposedMs - 1 }]), false);
  assert.equal(lacksFollowers(three, [b, { ...c, awayMs: awayBeforeDeposedMs }]), true);
  const diverged = { ...c, diverged: true };
  assert.equal(mayRewind(three, member('c'), [b, diverged], false), true, 'b follows, and does not count');
  assert.equal(mayRewind(three, member('c'), [{ ...b, outOfScope: false }, diverged], false), false);
});

test('what a promise allows', () => {
  const promise = { shardUid: 'uid', epoch: 3, grantee: nameOf('a'), generation: 5 };
  const free = { ...promise, grantee: '' };
  const ask = (epoch: number, more: object = {}) => ({ shardUid: 'uid', member: member('b'), epoch, ...more });
  const decide = (question: ReturnType<typeof ask>, made = promise) => {
    const decision = decideFence(question, member('b'), made);
    return decision.kind === 'Refuse'
      ? decision.code
      : `${decision.promise.epoch} to '${decision.promise.grantee}' ${decision.isNew}`;
  };
  assert.equal(decide(ask(4)), "4 to '' true");
  assert.equal(decide(ask(3), free), "3 to '' false");
  assert.equal(decide(ask(3)), 'Active', 'what is granted or followed is no fence any more (A11)');
  assert.equal(decide(ask(2)), 'Promised');
  assert.equal(decide(ask(4, { shardUid: 'other' })), 'WrongShard');
  assert.equal(decide(ask(4, { member: member('c') })), 'WrongMember');
  assert.equal(decide(ask(4, { member: { name: 'b', incarnation: '0'.repeat(16) } })), 'WrongIncarnation');
  assert.equal(mayGrant(promise, { epoch: 3, from: nameOf('a') }), true);
  assert.equal(mayGrant(promise, { epoch: 3, from: nameOf('c') }), false);
  assert.equal(mayGrant(promise, { epoch: 2, from: nameOf('a') }), false);
  assert.equal(mayGrant(free, { epoch: 3, from: '' }), false);
  assert.equal(mayStream(promise, 2), false);
  assert.equal(mayLead(free, 3, nameOf('b')), false);
});

test('the gates of a primary, and what each is about', () => {
  const opening = {
    ordered: { epoch: 2, timeline: 2 },
    confirmedEpoch: 2,
    leads: true,
    leaseRemainingMs: 2_000,
    runningTimeline: 2,
    isShut: true,
    settingsApplied: true,
    row: 'Committed',
  } as const;
  assert.equal(whyShut(opening), undefined);
  assert.equal(whyShut({ ...opening, leaseRemainingMs: null }), undefined);
  for (const [change, why] of [
    [{ confirmedEpoch: 1 }, /confirmed/],
    [{ leads: false }, /promised/],
    [{ leaseRemainingMs: 0 }, /lease/],
    [{ runningTimeline: 1 }, /timeline 1, not 2/],
    [{ isShut: false }, /sessions/],
    [{ settingsApplied: false }, /synchronous/],
    [{ row: 'Waiting' }, /followers/],
    [{ row: 'Cancelled' }, /cut short/],
    [{ row: 'Unwritten' }, /followers/],
  ] as const)
    assert.match(whyShut({ ...opening, ...change }) ?? '', why);
  assert.equal(
    whyNotStart({ ordered: opening.ordered, confirmedEpoch: 2, leads: true }),
    undefined,
    'no lease is needed to start',
  );
  assert.match(whyNotStart({ ordered: opening.ordered, confirmedEpoch: 0, leads: true }) ?? '', /confirmed/);
});
