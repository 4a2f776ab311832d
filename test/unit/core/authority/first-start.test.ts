/** Who may be named first primary, and when nobody may. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  decideFirstStart,
  establishedRecord,
  type FirstStartInput,
  type FirstStartMember,
  initialRecord,
} from '#core/authority/first-start.ts';
import type { Authority } from '#core/authority/record.ts';

const empty = { incarnation: 'aaaaaaaaaaaaaaaa', hasData: false } as const;

const member = (name: string, change: Partial<FirstStartMember> = {}): FirstStartMember => ({
  name,
  region: 'eu',
  promotable: true,
  declared: true,
  hasVolume: true,
  volumeGoing: false,
  answer: empty,
  ...change,
});

const input = (members: readonly FirstStartMember[], change: Partial<FirstStartInput> = {}): FirstStartInput => ({
  shardUid: 'this-shard',
  members,
  preferredRegion: 'eu',
  impatient: false,
  ...change,
});

const named: Authority = {
  epoch: 1,
  timeline: 1,
  member: 'a-eu-0',
  incarnation: 'aaaaaaaaaaaaaaaa',
  region: 'eu',
  since: '2026-01-01T00:00:00Z',
  state: 'Initialising',
};

const waits: readonly (readonly [string, FirstStartInput, string, RegExp])[] = [
  ['there are no members', input([]), 'NoMembers', /no RegionalReplica/],
  [
    'none in the preferred region may be primary',
    input([member('a-eu-0', { promotable: false }), member('a-us-0', { region: 'us' })]),
    'NoPromotableMember',
    /promotable instance in the primary region eu/,
  ],
  [
    'a member elsewhere has data',
    input([member('a-eu-0'), member('a-us-0', { region: 'us', answer: { ...empty, hasData: true } })]),
    'DataFound',
    /a-us-0 already has data/,
  ],
  [
    'a member has made a promise, though it has no data',
    input([member('a-eu-0', { answer: { ...empty, promisedTo: 'uid' } })]),
    'DataFound',
    /a-eu-0/,
  ],
  [
    'a member has promised this very shard: its record was lost',
    input([member('a-eu-0'), member('a-us-0', { answer: { ...empty, hasData: true, promisedTo: 'this-shard' } })]),
    'RecordLost',
    /a-us-0 already serves this shard, but its record of authority/,
  ],
  [
    'a volume that nobody asks for any more may hold data',
    input([member('a-eu-0'), member('a-ap-7', { region: '', declared: false, answer: undefined })]),
    'WaitingForVolumes',
    /a-ap-7/,
  ],
  [
    'the first by name does not answer yet, though another does',
    input([member('a-eu-0', { answer: undefined, hasVolume: false }), member('a-eu-1')]),
    'WaitingForMembers',
    /a-eu-0/,
  ],
  [
    'the volume of the only candidate is marked for deletion',
    input([member('a-eu-0', { volumeGoing: true })]),
    'WaitingForVolumes',
    /a-eu-0 are marked for deletion/,
  ],
  ['one is named and is still itself', input([member('a-eu-0')], { named }), 'Initialising', /a-eu-0/],
  [
    'one is named and silent: silence is not loss',
    input([member('a-eu-0', { answer: undefined }), member('a-eu-1')], { named, impatient: true }),
    'Initialising',
    /a-eu-0/,
  ],
];

for (const [why, given, reason, message] of waits) {
  test(`nobody is named while ${why}`, () => {
    const decision = decideFirstStart(given);
    assert.equal(decision.kind, 'Wait');
    assert.equal(decision.kind === 'Wait' && decision.reason, reason);
    assert.match(decision.kind === 'Wait' ? decision.message : '', message);
  });
}

test('a member whose volume is marked for deletion is passed over', () => {
  const decision = decideFirstStart(input([member('a-eu-0', { volumeGoing: true }), member('a-eu-1')]));
  assert.equal(decision.kind === 'Name' && decision.member.name, 'a-eu-1');
});

test('the first by name in the preferred region is named, whoever else answers', () => {
  const decision = decideFirstStart(input([member('a-us-0', { region: 'us' }), member('a-eu-1'), member('a-eu-0')]));
  assert.deepEqual(decision, {
    kind: 'Name',
    member: { name: 'a-eu-0', incarnation: empty.incarnation },
    region: 'eu',
    epoch: 1,
  });
});

test('members without a volume need not answer: what does not exist holds no data', () => {
  const decision = decideFirstStart(
    input([member('a-eu-0'), member('a-ap-0', { region: 'ap', hasVolume: false, answer: undefined })]),
  );
  assert.equal(decision.kind, 'Name');
});

test('after a while any promotable member of the region that answers is taken', () => {
  const decision = decideFirstStart(
    input([member('a-eu-0', { answer: undefined, hasVolume: false }), member('a-eu-1')], { impatient: true }),
  );
  assert.equal(decision.kind === 'Name' && decision.member.name, 'a-eu-1');
});

test('one that was named and has lost its volume is named anew, at a higher epoch and generation', () => {
  const lost = member('a-eu-0', { answer: { ...empty, incarnation: 'bbbbbbbbbbbbbbbb' } });
  const decision = decideFirstStart(input([lost], { named }));
  assert.equal(decision.kind, 'Name');
  if (decision.kind !== 'Name') return;
  assert.equal(decision.epoch, 2);
  const before = { authority: named, membership: { generation: 1, members: [], acknowledgements: 1 }, history: [] };
  const record = initialRecord(decision, 1, '2026-01-02T00:00:00Z', before);
  assert.equal(record.membership.generation, 2);
  assert.equal(record.authority.state, 'Initialising');
});

test('the established record begins the history at 0/0', () => {
  const record = initialRecord(
    { kind: 'Name', member: { name: 'a-eu-0', incarnation: empty.incarnation }, region: 'eu', epoch: 1 },
    1,
    '2026-01-02T00:00:00Z',
    undefined,
  );
  assert.deepEqual(establishedRecord(record).history, [{ epoch: 1, timeline: 1, member: 'a-eu-0', forkLsn: '0/0' }]);
  assert.equal(establishedRecord(record).authority.state, 'Active');
});

test('whatever is seen, nobody is named beside data, a promise or a volume that is silent', () => {
  const answers = fc.option(
    fc.record({
      incarnation: fc.constantFrom('aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbb'),
      hasData: fc.boolean(),
      promisedTo: fc.option(fc.constant('uid'), { nil: undefined }),
    }),
    { nil: undefined },
  );
  const members = fc.array(
    fc.record({
      name: fc.constantFrom('a-eu-0', 'a-eu-1', 'a-us-0', 'a-ap-0'),
      region: fc.constantFrom('eu', 'us', 'ap'),
      promotable: fc.boolean(),
      declared: fc.boolean(),
      hasVolume: fc.boolean(),
      volumeGoing: fc.boolean(),
      answer: answers,
    }),
    { maxLength: 5 },
  );
  fc.assert(
    fc.property(members, fc.boolean(), fc.option(fc.constant(named), { nil: undefined }), (seen, impatient, before) => {
      const decision = decideFirstStart({
        shardUid: 'this-shard',
        members: seen,
        preferredRegion: 'eu',
        impatient,
        named: before,
      });
      if (decision.kind !== 'Name') return;
      assert.ok(
        seen.every(({ answer, hasVolume }) =>
          answer === undefined ? !hasVolume : !answer.hasData && answer.promisedTo === undefined,
        ),
      );
      const chosen = seen.filter(
        ({ name, answer }) => name === decision.member.name && answer?.incarnation === decision.member.incarnation,
      );
      assert.ok(
        chosen.some(
          ({ declared, promotable, region, volumeGoing }) => declared && promotable && region === 'eu' && !volumeGoing,
        ),
      );
      assert.equal(decision.epoch, before === undefined ? 1 : before.epoch + 1);
    }),
    { numRuns: 2000 },
  );
});
