/** Changes of the membership: their order, and that no commit ever escapes a fence while they are under way. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  awayBeforeShrinkMs,
  changedMembership,
  isSafeToRecord,
  type MemberFacts,
  type MembershipInput,
  nextChange,
  recordGoesFirst,
  settingsDuring,
} from '#core/authority/membership-change.ts';
import { type AuthorityRecord, isListed, isPrimary } from '#core/authority/record.ts';
import type { MemberIdentity } from '#core/identity.ts';
import { nobody } from '#core/identity.ts';
import type { Lsn } from '#core/lsn.ts';

const identity = (name: string, life = 'a'): MemberIdentity => ({ name, incarnation: life.repeat(16) });

const A = identity('eu-0');
const B = identity('us-0');
const C = identity('ap-0');

const regionOf = (name: string): string => name.slice(0, 2);

const record = (members: readonly MemberIdentity[], acknowledgements = 1): AuthorityRecord => ({
  authority: {
    epoch: 1,
    timeline: 1,
    member: A.name,
    incarnation: A.incarnation,
    region: 'eu',
    since: '2026-01-01T00:00:00Z',
    state: 'Active',
  },
  membership: { generation: 5, members, acknowledgements },
  history: [],
});

const well = (member: MemberIdentity, change: Partial<MemberFacts> = {}): MemberFacts => ({
  member,
  declared: true,
  replaced: false,
  stale: false,
  volumeGoing: false,
  streaming: member !== A,
  caughtUp: member !== A,
  flushed: 100n as Lsn,
  awayMs: 0,
  ...change,
});

const gone = { streaming: false, caughtUp: false, flushed: undefined } as const;

const input = (change: Partial<MembershipInput> & Pick<MembershipInput, 'record' | 'members'>): MembershipInput => ({
  wish: { acknowledgements: 1, scope: 'AnyMember', onLoss: 'Block' },
  regionOf,
  primaryIsOpen: true,
  ...change,
});

const wish = (change: Partial<MembershipInput['wish']>): MembershipInput['wish'] => ({
  acknowledgements: 1,
  scope: 'AnyMember',
  onLoss: 'Block',
  ...change,
});

test('a follower joins once it streams and is caught up, one at a time, by name', () => {
  const members = [well(A), well(B), well(C)];
  assert.deepEqual(nextChange(input({ record: record([A]), members })), { kind: 'Add', member: C });
  const behind = [well(A), well(B), well(C, { caughtUp: false })];
  assert.deepEqual(nextChange(input({ record: record([A]), members: behind })), { kind: 'Add', member: B });
});

test('with a closed gate, or before the first primary is open, nothing changes', () => {
  const members = [well(A), well(B)];
  assert.equal(nextChange(input({ record: record([A]), members, primaryIsOpen: false })), undefined);
  const initialising = record([A]);
  const early = { ...initialising, authority: { ...initialising.authority, state: 'Initialising' as const } };
  assert.equal(nextChange(input({ record: early, members })), undefined);
});

test('behind a shut gate members are added, and k falls; nobody is removed, and k does not rise', () => {
  const shut = { primaryIsOpen: false, primaryIsOpening: true };
  const members = [well(A), well(B), well(C, { declared: false })];
  assert.deepEqual(nextChange(input({ record: record([A, C], 3), members, ...shut })), { kind: 'Add', member: B });
  const lowered = { kind: 'LowerAcknowledgements', acknowledgements: 1 } as const;
  assert.deepEqual(nextChange(input({ record: record([A, B, C], 3), members, ...shut })), lowered);
  assert.equal(nextChange(input({ record: record([A, B, C]), members, ...shut })), undefined);
  const raised = wish({ acknowledgements: 2 });
  assert.equal(nextChange(input({ record: record([A, B, C]), members, wish: raised, ...shut })), undefined);
});

test('a replaced volume is added as a new member before the old one goes, so that k + 1 members remain', () => {
  const reborn = identity('us-0', 'b');
  const members = [well(A), well(B, { ...gone, replaced: true }), well(reborn, { streaming: false, caughtUp: false })];
  const before = record([A, B]);
  assert.equal(nextChange(input({ record: before, members })), undefined, 'two members and k = 1: none can be spared');
  const streaming = [well(A), well(B, { ...gone, replaced: true }), well(reborn)];
  assert.deepEqual(nextChange(input({ record: before, members: streaming })), { kind: 'Add', member: reborn });
  assert.deepEqual(nextChange(input({ record: record([A, B, reborn]), members: streaming })), {
    kind: 'Remove',
    member: B,
    why: 'Replaced',
  });
});

test('a member that is asked for no more goes only while k others acknowledge', () => {
  const leaving = well(C, { declared: false });
  const full = record([A, B, C]);
  assert.deepEqual(nextChange(input({ record: full, members: [well(A), well(B), leaving] })), {
    kind: 'Remove',
    member: C,
    why: 'Leaving',
  });
  assert.equal(nextChange(input({ record: full, members: [well(A), well(B, gone), leaving] })), undefined);
  assert.equal(nextChange(input({ record: record([A, C]), members: [well(A), leaving] })), undefined);
});

test('a lost member is dropped with ShrinkMembership only, after its time, and never below k + 1', () => {
  const lost = well(C, { ...gone, awayMs: awayBeforeShrinkMs });
  const members = [well(A), well(B), lost];
  const shrink = wish({ onLoss: 'ShrinkMembership' });
  assert.equal(nextChange(input({ record: record([A, B, C]), members })), undefined);
  assert.deepEqual(nextChange(input({ record: record([A, B, C]), members, wish: shrink })), {
    kind: 'Remove',
    member: C,
    why: 'Lost',
  });
  const soon = [well(A), well(B), well(C, { ...gone, awayMs: awayBeforeShrinkMs - 1 })];
  assert.equal(nextChange(input({ record: record([A, B, C]), members: soon, wish: shrink })), undefined);
  assert.equal(nextChange(input({ record: record([A, C]), members: [well(A), lost], wish: shrink })), undefined);
});

test('a member that can not stream any more is removed before it may be copied anew', () => {
  const stale = well(C, { ...gone, stale: true });
  assert.deepEqual(nextChange(input({ record: record([A, B, C]), members: [well(A), well(B), stale] })), {
    kind: 'Remove',
    member: C,
    why: 'Stale',
  });
  assert.equal(nextChange(input({ record: record([A, C]), members: [well(A), stale] })), undefined, 'none to spare');
});

test('a member whose volume is marked for deletion is neither added nor kept, and none that can not be spared goes', () => {
  const going = well(C, { volumeGoing: true });
  assert.equal(nextChange(input({ record: record([A, B]), members: [well(A), well(B), going] })), undefined);
  assert.deepEqual(nextChange(input({ record: record([A, B, C]), members: [well(A), well(B), going] })), {
    kind: 'Remove',
    member: C,
    why: 'VolumeGoing',
  });
  assert.equal(nextChange(input({ record: record([A, C]), members: [well(A), going] })), undefined, 'none to spare');
});

test('k rises only when so many acknowledge already, and falls at once', () => {
  const members = [well(A), well(B), well(C)];
  const raise = wish({ acknowledgements: 2 });
  assert.deepEqual(nextChange(input({ record: record([A, B, C]), members, wish: raise })), {
    kind: 'RaiseAcknowledgements',
    acknowledgements: 2,
  });
  const short = [well(A), well(B), well(C, gone)];
  assert.equal(nextChange(input({ record: record([A, B, C]), members: short, wish: raise })), undefined);
  assert.deepEqual(nextChange(input({ record: record([A, B, C], 2), members: short })), {
    kind: 'LowerAcknowledgements',
    acknowledgements: 1,
  });
});

test('scope OtherRegion: a second member in the primary region counts in N, never in the list', () => {
  const near = identity('eu-1');
  const settings = settingsDuring(record([A, near, B]), undefined, 'OtherRegion', regionOf);
  assert.deepEqual(settings, { acknowledgements: 1, members: [B] });
});

test('with k >= 1 the list is never empty, and with k = 0 always', () => {
  assert.deepEqual(settingsDuring(record([A]), undefined, 'AnyMember', regionOf).members, [nobody]);
  assert.deepEqual(settingsDuring(record([A, B], 0), undefined, 'AnyMember', regionOf).members, []);
});

test('a removal is recorded once k of the remaining have flushed what was noted', () => {
  const change = { kind: 'Remove', member: C, why: 'Leaving' } as const;
  const at = (b: bigint, c: bigint) =>
    input({
      record: record([A, B, C]),
      members: [well(A), well(B, { flushed: b as Lsn }), well(C, { flushed: c as Lsn })],
    });
  assert.equal(isSafeToRecord(change, undefined, at(200n, 200n)), false, 'no position yet');
  assert.equal(isSafeToRecord(change, 150n as Lsn, at(149n, 200n)), false, 'the leaving one does not count');
  assert.equal(isSafeToRecord(change, 150n as Lsn, at(150n, 0n)), true);
});

const scenario = fc
  .record({
    lives: fc.array(fc.constantFrom('a', 'b'), { minLength: 4, maxLength: 4 }),
    listed: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
    facts: fc.array(
      fc.record({
        declared: fc.boolean(),
        replaced: fc.boolean(),
        stale: fc.boolean(),
        volumeGoing: fc.boolean(),
        streaming: fc.boolean(),
        caughtUp: fc.boolean(),
        flushed: fc.option(
          fc.bigInt({ min: 0n, max: 20n }).map((lsn) => lsn as Lsn),
          { nil: undefined },
        ),
        awayMs: fc.constantFrom(0, awayBeforeShrinkMs),
      }),
      { minLength: 5, maxLength: 5 },
    ),
    k: fc.nat({ max: 4 }),
    primaryIsOpen: fc.boolean(),
    wish: fc.record({
      acknowledgements: fc.nat({ max: 4 }),
      scope: fc.constantFrom('AnyMember' as const, 'OtherRegion' as const),
      onLoss: fc.constantFrom('Block' as const, 'ShrinkMembership' as const),
    }),
    position: fc.option(
      fc.bigInt({ min: 0n, max: 20n }).map((lsn) => lsn as Lsn),
      { nil: undefined },
    ),
  })
  .map(({ lives, listed, facts, k, primaryIsOpen, wish, position }) => {
    const others = ['eu-1', 'us-0', 'us-1', 'ap-0'].map((name, index) => identity(name, lives[index]));
    const before = record([A, ...others.filter((_, index) => listed[index])], k);
    const members = [A, ...others].map((member, index) => ({ ...(facts[index] ?? well(member)), member }));
    return {
      position,
      given: input({ record: before, members, wish, primaryIsOpen, primaryIsOpening: !primaryIsOpen }),
    };
  });

test('every change is one step, keeps the primary, and shrinks to k + 1 members at most', () => {
  fc.assert(
    fc.property(scenario, ({ given }) => {
      const change = nextChange(given);
      if (change === undefined) return;
      const before = given.record.membership;
      const after = changedMembership(before, change);
      assert.equal(after.generation, before.generation + 1);
      assert.ok(after.members.some((member) => isPrimary(given.record, member)));
      const moved = Math.abs(after.members.length - before.members.length);
      const changedK = after.acknowledgements !== before.acknowledgements;
      assert.equal(moved + Number(changedK), 1, 'exactly one thing changes');
      if (change.kind === 'Remove') assert.ok(after.members.length >= after.acknowledgements + 1);
      if (!given.primaryIsOpen) assert.ok(change.kind === 'Add' || change.kind === 'LowerAcknowledgements');
      if (change.kind === 'Add') assert.ok(!isListed(given.record, change.member));
    }),
    { numRuns: 3000 },
  );
});

test('the record is never laxer than Postgres, before, during and after a change: every commit meets every fence', () => {
  fc.assert(
    fc.property(scenario, ({ given, position }) => {
      const change = nextChange(given);
      const { scope } = given.wish;
      const during = settingsDuring(given.record, change, scope, regionOf);
      meets(given.record, during);
      if (change === undefined || !isSafeToRecord(change, position, given)) return;
      const after = { ...given.record, membership: changedMembership(given.record.membership, change) };
      // Both what Postgres has at the moment of the swap, and what it is told next.
      if (!recordGoesFirst(change, given.record)) meets(after, during);
      else meets(after, settingsDuring(given.record, undefined, scope, regionOf));
      meets(after, settingsDuring(after, undefined, scope, regionOf));
    }),
    { numRuns: 3000 },
  );
});

/** Any k of the list, and any N - k of the record's followers, have a member in common (or nobody acknowledges at all). */
function meets(
  record: AuthorityRecord,
  settings: { acknowledgements: number; members: readonly MemberIdentity[] },
): void {
  const followers = record.membership.members.filter((member) => !isPrimary(record, member));
  const { acknowledgements: k, members } = record.membership;
  const real = settings.members.filter((member) => member !== nobody);
  assert.ok(settings.acknowledgements >= k, 'Postgres waits for no fewer than the record says');
  assert.ok(
    real.every((member) => isListed(record, member)),
    'who acknowledges is in the record',
  );
  assert.ok(!real.some((member) => isPrimary(record, member)));
  assert.equal(settings.members.length === 0, settings.acknowledgements === 0);
  if (settings.acknowledgements === 0 || real.length < settings.acknowledgements) return;
  const fence = members.length - k;
  assert.ok(settings.acknowledgements + fence > followers.length, 'a fence could miss a commit');
}
