import assert from 'node:assert/strict';
import { describe, mock, test } from 'node:test';
import type { AuthorityAnswer } from '#core/protocol/authority.ts';
import { HorizonClock } from '#router/authority/horizon-clock.ts';
import type { Lease } from '#router/authority/lease.ts';
import { MemberWords } from '#router/authority/member-words.ts';

let nowMs = 0;
const counts = { doubts: 0, misses: 0 };
const read = (): number => nowMs;
const clock = new HorizonClock({ bootMs: read, monotonicMs: read, wallMs: read });

function words(): MemberWords {
  nowMs = 100_000;
  counts.doubts = 0;
  counts.misses = 0;
  return new MemberWords({ clock, onDoubt: () => (counts.doubts += 1), onMiss: () => (counts.misses += 1) });
}

type Primary = NonNullable<AuthorityAnswer['primary']>;
const primary: Primary = {
  epoch: 3,
  timeline: 3,
  serving: true,
  leaseRemainingMs: 2_500,
  leaseNumber: 7,
  released: false,
};
const answer = (change: Partial<Primary> = {}): AuthorityAnswer => ({
  member: { name: 'one-eu-0', incarnation: '00000000000000aa' },
  shardUid: 'u',
  region: 'eu',
  version: 1,
  state: 'open',
  promise: { epoch: 3, grantee: '', generation: 1, ageMs: 1 },
  agentAgeMs: 1,
  primary: { ...primary, ...change },
});
const leaseOf = (member: MemberWords): Lease => {
  assert.ok(member.lease !== undefined);
  return member.lease;
};

describe('a horizon', () => {
  test('counts from the sending of the question, however late its answer comes', () => {
    const member = words();
    const sentMs = nowMs;
    nowMs += 2_000;
    member.take(answer(), sentMs);
    assert.equal(leaseOf(member).horizonMs, sentMs + 2_500);
    nowMs += 400;
    assert.ok(leaseOf(member).isHeld);
    nowMs += 100;
    assert.ok(!leaseOf(member).isHeld);
  });

  test('of a primary that needs no lease is as long as a grant, so that one who comes to need it is asked in time', () => {
    const member = words();
    member.take(answer({ leaseRemainingMs: null }), nowMs);
    assert.equal(leaseOf(member).horizonMs, nowMs + 2_900);
  });

  test('is relied on for a grant’s length at most, however long it is said to run: k may be raised under it', () => {
    const member = words();
    member.take(answer({ leaseRemainingMs: 14_000 }), nowMs);
    assert.equal(leaseOf(member).horizonMs, nowMs + 2_900);
  });

  test('never goes back while the lease is the same', () => {
    const member = words();
    member.take(answer(), nowMs);
    const lease = leaseOf(member);
    nowMs += 300;
    member.take(answer({ leaseRemainingMs: 100 }), nowMs);
    assert.equal(leaseOf(member), lease);
    assert.equal(lease.horizonMs, 102_500);
  });

  const ends: readonly (readonly [string, Partial<Primary>])[] = [
    ['another number', { leaseNumber: 8 }],
    ['another epoch', { epoch: 4 }],
    ['no time left', { leaseRemainingMs: 0 }],
    ['an epoch given up', { released: true }],
  ];
  for (const [what, change] of ends)
    test(`ends with ${what}, also where it was still ahead`, () => {
      const member = words();
      member.take(answer(), nowMs);
      const lease = leaseOf(member);
      assert.ok(lease.isHeld);
      member.take(answer(change), nowMs + 300);
      assert.ok(!lease.isHeld);
      assert.notEqual(member.lease, lease);
    });

  test('ends where the member is no primary any more', () => {
    const member = words();
    member.take(answer(), nowMs);
    const lease = leaseOf(member);
    const { primary: _, ...rest } = answer();
    member.take({ ...rest, state: 'fenced' }, nowMs);
    assert.ok(!lease.isHeld);
    assert.equal(member.lease, undefined);
    assert.equal(member.primaryEpoch, 0);
  });
});

describe('an answer that came after the horizon', () => {
  interface Late {
    readonly member: MemberWords;
    readonly readMs: number;
    readonly verdicts: boolean[];
  }
  function late(): Late {
    const member = words();
    member.take(answer(), nowMs);
    nowMs += 2_600;
    const verdicts: boolean[] = [];
    assert.ok(!leaseOf(member).isHeld);
    leaseOf(member).prove((held) => verdicts.push(held));
    return { member, readMs: nowMs, verdicts };
  }

  test('counts where a question sent after its reading finds the same lease', () => {
    const { member, readMs, verdicts } = late();
    nowMs = readMs + 500;
    member.take(answer(), readMs + 20);
    assert.deepEqual(verdicts, [true]);
    assert.deepEqual(counts, { doubts: 1, misses: 0 });
  });

  test('waits on where the question was sent before, and its horizon does not reach the reading', () => {
    const { member, readMs, verdicts } = late();
    member.take(answer({ leaseRemainingMs: 200 }), readMs - 300);
    assert.deepEqual(verdicts, []);
    member.take(answer({ leaseNumber: 8 }), readMs + 20);
    assert.deepEqual(verdicts, [false]);
    assert.deepEqual(counts, { doubts: 1, misses: 1 });
  });

  test('counts where the answer to an earlier question reaches beyond its reading', () => {
    const { member, readMs, verdicts } = late();
    member.take(answer(), readMs - 300);
    assert.deepEqual(verdicts, [true]);
  });

  for (const change of [{ leaseNumber: 8 }, { epoch: 4 }, { leaseRemainingMs: 0 }, { released: true }])
    test(`does not count where the lease is another by then: ${JSON.stringify(change)}`, () => {
      const { member, readMs, verdicts } = late();
      member.take(answer(change), readMs + 20);
      assert.deepEqual(verdicts, [false]);
      assert.equal(counts.misses, 1);
    });

  test('does not count where nobody says anything for too long', () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    const { member, readMs, verdicts } = late();
    mock.timers.tick(2_999);
    assert.deepEqual(verdicts, []);
    mock.timers.tick(1);
    assert.deepEqual(verdicts, [false]);
    member.take(answer(), readMs + 2_000);
    assert.deepEqual(verdicts, [false], 'once');
    mock.timers.reset();
  });

  test('is refused at once where the lease has ended', () => {
    const { member, verdicts } = late();
    const lease = leaseOf(member);
    member.forget();
    lease.prove((held) => verdicts.push(held));
    assert.deepEqual(verdicts, [false, false]);
  });
});
