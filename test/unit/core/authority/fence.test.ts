import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { countedAnswers, epochEndsMs, isEnough, neededForFence, whyNotEnough } from '#core/authority/fence.ts';
import { deliverableMs, expiryOf, grantRemainingMs, leaseSettings } from '#core/authority/lease.ts';
import type { MembershipChange } from '#core/authority/membership-change.ts';
import { changedMembership, recordGoesFirst } from '#core/authority/membership-change.ts';
import { kubernetesLeaseMs, leaseMarginMs, leaseMs } from '#core/authority/timing.ts';
import { fenced, member, nameOf, recordOf } from './records.ts';

const here = { timeline: 1, lsn: '0/100' };
const letters = ['a', 'b', 'c', 'd', 'e', 'f'];

const shape = fc.integer({ min: 2, max: 6 }).chain((n) =>
  fc.record({
    names: fc.constant(letters.slice(0, n)),
    k: fc.integer({ min: 1, max: n }),
    fence: fc.subarray(letters.slice(0, n)),
    holders: fc.subarray(letters.slice(1, n)),
  }),
);

test('any enough fence meets every commit quorum: whoever acknowledged a write is among those who are asked', () => {
  fc.assert(
    fc.property(shape, ({ names, k, fence, holders }) => {
      const record = recordOf(names, k);
      if (
        !isEnough(
          record,
          fence.map((name) => ({ member: member(name) })),
        )
      )
        return;
      if (holders.length < k) return;
      assert.ok(
        fence.includes('a') || holders.some((name) => fence.includes(name)),
        `${fence.join()} misses ${holders.join()}`,
      );
    }),
    { numRuns: 3_000 },
  );
});

test('any enough fence without the primary ends every lease: once its grants are over, too few are left', () => {
  fc.assert(
    fc.property(shape, ({ names, k, fence }) => {
      const record = recordOf(names, k);
      const others = fence.filter((name) => name !== 'a');
      if (
        !isEnough(
          record,
          others.map((name) => ({ member: member(name) })),
        )
      )
        return;
      const grants = new Map(names.filter((name) => !others.includes(name)).map((name) => [nameOf(name), 9_999]));
      const until = expiryOf(leaseSettings(record), grants, 0);
      assert.ok(until !== null && until < 9_999, 'the lease has ended');
    }),
    { numRuns: 3_000 },
  );
});

test('while a membership changes the lease is as strict as both records: no fence by either leaves it standing', () => {
  const change = fc.oneof(
    fc.constant<MembershipChange>({ kind: 'Add', member: member('z') }),
    fc.constant<MembershipChange>({ kind: 'Remove', member: member('b'), why: 'Leaving' }),
    fc
      .integer({ min: 0, max: 3 })
      .map((k): MembershipChange => ({ kind: 'RaiseAcknowledgements', acknowledgements: k })),
    fc
      .integer({ min: 0, max: 3 })
      .map((k): MembershipChange => ({ kind: 'LowerAcknowledgements', acknowledgements: k })),
  );
  fc.assert(
    fc.property(
      fc.integer({ min: 3, max: 6 }),
      fc.integer({ min: 0, max: 3 }),
      change,
      fc.array(fc.boolean(), { minLength: 7, maxLength: 7 }),
      (n, k, wish, drawn) => {
        const names = letters.slice(0, n);
        if (n < k + 2) return;
        const before = recordOf(names, k);
        if (wish.kind === 'RaiseAcknowledgements' && (wish.acknowledgements <= k || n < wish.acknowledgements + 1))
          return;
        if (wish.kind === 'LowerAcknowledgements' && wish.acknowledgements >= k) return;
        const after = { ...before, membership: changedMembership(before.membership, wish) };
        const settings = leaseSettings(before, recordGoesFirst(wish, before) ? undefined : wish);
        for (const record of [before, after]) {
          const followers = record.membership.members.slice(1);
          const taken = followers.filter((_, index) => drawn[index] === true);
          if (
            !isEnough(
              record,
              taken.map((one) => ({ member: one })),
            )
          )
            continue;
          const grants = new Map(
            [...followers, ...before.membership.members.slice(1)]
              .filter((one) => !taken.includes(one) && !taken.some(({ name }) => name === one.name))
              .map((one) => [nameOf(one.name), 9_999]),
          );
          // With k = 0 the taker has waited for the Kubernetes Lease as well; it is over.
          const until = expiryOf(settings, grants, 0);
          assert.ok(
            until !== null && until < 9_999,
            `${wish.kind}: fence {${taken.map(({ name }) => name).join()}} of k=${record.membership.acknowledgements} leaves the lease standing`,
          );
        }
      },
    ),
    { numRuns: 5_000 },
  );
});

test('who counts: members of the record, this incarnation, this epoch, a readable position, nothing left running', () => {
  const record = recordOf(['a', 'b', 'c'], 1);
  const cases: readonly (readonly [string, ReturnType<typeof fenced>, number])[] = [
    ['all in order', fenced('b', 2, here), 1],
    ['another epoch', fenced('b', 3, here), 0],
    ['not of the record', fenced('d', 2, here), 0],
    ['no position', fenced('b', 2, null), 0],
    ['a timeline that was never given out', fenced('b', 2, { timeline: 9, lsn: '0/1' }), 0],
    ['still running', fenced('b', 2, here, { stopped: false }), 0],
  ];
  for (const [what, answer, counted] of cases) assert.equal(countedAnswers(record, 2, [answer]).length, counted, what);
  const other = fenced('b', 2, here);
  const reborn = { ...other, fenced: { ...other.fenced, member: { name: 'b', incarnation: '0'.repeat(16) } } };
  assert.equal(countedAnswers(record, 2, [reborn]).length, 0, 'another incarnation');
});

test('how many it takes, and who is missing', () => {
  for (const [n, k, needed] of [
    [2, 1, 1],
    [3, 1, 2],
    [3, 2, 1],
    [5, 2, 3],
    [3, 0, 1],
    [2, 5, 1],
  ] as const)
    assert.equal(neededForFence(recordOf(letters.slice(0, n), k)), needed, `N=${n} k=${k}`);
  const record = recordOf(['a', 'b', 'c'], 1);
  assert.match(whyNotEnough(record, [{ member: member('b') }]) ?? '', /1 of the 2.*missing: .*a\/.*c\//);
  assert.equal(whyNotEnough(record, [{ member: member('a') }]), undefined, 'the primary alone is enough');
});

test('when an epoch is over', () => {
  const record = recordOf(['a', 'b', 'c'], 1);
  const answers = [
    fenced('b', 2, here, { atMs: 1_000, leaseRemainingMs: 2_500 }),
    fenced('c', 2, here, { atMs: 1_200, leaseRemainingMs: 400 }),
  ];
  assert.equal(epochEndsMs(record, countedAnswers(record, 2, answers), undefined, kubernetesLeaseMs), 3_500);
  const stopped = [...answers, fenced('a', 2, here, { atMs: 1_300 })];
  assert.equal(
    epochEndsMs(record, countedAnswers(record, 2, stopped), undefined, kubernetesLeaseMs),
    0,
    'it stopped itself',
  );
  const none = recordOf(['a', 'b'], 0);
  const one = countedAnswers(none, 2, [fenced('b', 2, here, { atMs: 1_000, leaseRemainingMs: 300 })]);
  const watched = (holder: string) => ({ holder, unchangedSinceMs: 500 });
  assert.equal(epochEndsMs(none, one, undefined, kubernetesLeaseMs), Number.POSITIVE_INFINITY, 'never watched');
  assert.equal(epochEndsMs(none, one, watched(nameOf('a')), kubernetesLeaseMs), 500 + kubernetesLeaseMs);
  assert.equal(epochEndsMs(none, one, watched(nameOf('b')), kubernetesLeaseMs), 1_300, 'handed over already');
});

test('what a grantor that was restarted may have granted still runs', () => {
  const grantor = { grantedUntilMs: 0, longestLeaseMs: 3_000, ageMs: 400, nowMs: 50_000 };
  assert.equal(grantRemainingMs(grantor), 2_600);
  assert.equal(grantRemainingMs({ ...grantor, ageMs: 4_000 }), 0);
  assert.equal(grantRemainingMs({ ...grantor, grantedUntilMs: 52_900 }), 2_900);
});

test('the lease of k = 0 stands by the Kubernetes Lease, or by all others while that is away', () => {
  const settings = leaseSettings(recordOf(['a', 'b', 'c'], 0));
  const grants = (names: readonly string[]) => new Map(names.map((name) => [nameOf(name), 700]));
  assert.equal(expiryOf(settings, grants([]), 900), 900);
  assert.equal(expiryOf(settings, grants(['b', 'c']), 0), 700);
  assert.equal(expiryOf(settings, grants(['b']), 0), 0);
  assert.equal(expiryOf(leaseSettings(recordOf(['a'], 0)), new Map(), 0), null, 'alone, nobody could take over');
});

test('no router relies on more than a grant runs, whatever holds the lease', () => {
  assert.equal(deliverableMs(14_900), leaseMs - leaseMarginMs);
  assert.equal(deliverableMs(null), leaseMs - leaseMarginMs);
  assert.equal(deliverableMs(1_200), 1_200);
});
