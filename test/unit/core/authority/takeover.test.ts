import assert from 'node:assert/strict';
import { test } from 'node:test';
import { positionOf } from '#core/authority/position.ts';
import type { AuthorityRecord } from '#core/authority/record.ts';
import { choicePatienceMs } from '#core/authority/successor.ts';
import { type Ping, suspicionOf } from '#core/authority/suspicion.ts';
import {
  attemptPatienceMs,
  decideTakeover,
  type FenceOutcome,
  handoverPatienceMs,
  type TakeoverAction,
  type TakeoverInput,
} from '#core/authority/takeover.ts';
import { kubernetesLeaseMs, promiseOwnedMs } from '#core/authority/timing.ts';
import { authorityAnswer, fenced, followerOf, member, nameOf, recordOf } from './records.ts';

const now = 1_000_000;
const silent: Ping = { kind: 'Silent', sinceMs: now - 5_000 };
const answered = (name: string, more: Parameters<typeof authorityAnswer>[1] = {}): Ping => ({
  kind: 'Answered',
  answer: authorityAnswer(name, more),
  atMs: now - 100,
});
const lonely = (name: string): Ping => answered(name, { follower: followerOf('a', 1, 3_000) });

const primaryAnswer = (more: { released?: boolean } = {}) => ({
  epoch: 1,
  timeline: 1,
  serving: true,
  leaseRemainingMs: 2_000,
  leaseNumber: 1,
  released: false,
  ...more,
});

const gone: Readonly<Record<string, Ping>> = { a: silent, b: lonely('b'), c: lonely('c') };
const keyed = <T>(of: Readonly<Record<string, T>>): ReadonlyMap<string, T> =>
  new Map(Object.entries(of).map(([name, value]) => [nameOf(name), value]));

const fence = (...[name, epoch, position, more]: Parameters<typeof fenced>): FenceOutcome => ({
  kind: 'Fenced',
  ...fenced(name, epoch, position, { atMs: now, ...more }),
});
const at = (lsn: string, timeline = 1): { timeline: number; lsn: string } => ({ timeline, lsn });

function next(more: {
  record?: AuthorityRecord;
  pings?: Readonly<Record<string, Ping>>;
  fences?: Readonly<Record<string, FenceOutcome>>;
  rest?: Partial<TakeoverInput>;
}): TakeoverAction {
  const record = more.record ?? recordOf(['a', 'b', 'c'], 1);
  return decideTakeover({
    record,
    recordReadAtMs: now - 50,
    intent: { kind: 'Recover' },
    pings: keyed(more.pings ?? gone),
    fences: keyed(more.fences ?? {}),
    candidates: record.membership.members.map(({ name }) => ({ name, region: `region-${name}`, promotable: true })),
    regions: ['region-a', 'region-b', 'region-c'],
    startedAtMs: now - 500,
    nowMs: now,
    since: '2026-01-01T00:00:00Z',
    ...more.rest,
  });
}

function decided(action: TakeoverAction): AuthorityRecord {
  if (action.kind !== 'Decide') assert.fail(`${action.kind} instead of Decide: ${'why' in action ? action.why : ''}`);
  return action.record;
}

test('a failover, from the first ping to the decision', () => {
  const first = next({ pings: {} });
  assert.deepEqual(first, { kind: 'Ping', members: ['a', 'b', 'c'].map(member) });
  const second = next({});
  assert.deepEqual(second, { kind: 'Fence', members: [member('b'), member('c')], epoch: 2, handover: false });
  const one = { b: fence('b', 2, at('0/100'), { leaseRemainingMs: 2_000 }) };
  assert.deepEqual(next({ fences: one }), { kind: 'Fence', members: [member('c')], epoch: 2, handover: false });
  const both = { ...one, c: fence('c', 2, at('0/180'), { leaseRemainingMs: 1_000 }) };
  assert.deepEqual(next({ fences: both }), { kind: 'WaitOut', untilMs: now + 2_000, epoch: 2, fence: [] });
  const { authority, membership, history } = decided(next({ fences: both, rest: { nowMs: now + 2_000 } }));
  assert.deepEqual(
    [authority.epoch, authority.timeline, authority.member, authority.incarnation, authority.state],
    [2, 2, 'c', member('c').incarnation, 'Active'],
  );
  assert.deepEqual(
    membership,
    { ...recordOf(['a', 'b', 'c'], 1).membership, generation: 4 },
    'the old primary stays (B1)',
  );
  assert.deepEqual(history.at(-1), { epoch: 2, timeline: 2, member: 'c', forkLsn: '0/180', parent: 1 });
});

const released: Ping = answered('a', { state: 'down', primary: primaryAnswer({ released: true }) });

test('a primary that stopped by itself needs no waiting, and its position alone is enough', () => {
  const pings = { a: released, b: lonely('b'), c: silent };
  const fences = { a: fence('a', 2, at('0/200')), b: fence('b', 2, at('0/100'), { leaseRemainingMs: 2_900 }) };
  assert.deepEqual(next({ pings, fences }), {
    kind: 'Ship',
    from: member('a'),
    to: member('b'),
    lsn: positionOf(recordOf(['a', 'b', 'c'], 1), at('0/200'))?.lsn,
    epoch: 2,
    fence: [member('c')],
  });
  const shipped = { ...fences, b: fence('b', 2, at('0/200')) };
  assert.equal(decided(next({ pings, fences: shipped })).authority.member, 'b');
});

test('one that has given up is not chosen while others who answer may lead, nor is anything needed of it then', () => {
  const pings = { a: released, b: lonely('b'), c: lonely('c') };
  // It is the first to answer: alone it ends the epoch, but the choice is for the others.
  const first = { a: fence('a', 2, at('0/200')) };
  const later = (ms: number) => ({ startedAtMs: now, nowMs: now + ms });
  for (const ms of [0, choicePatienceMs, attemptPatienceMs - 1]) {
    const action = next({ pings, fences: first, rest: later(ms) });
    assert.ok(action.kind === 'Fence', `${action.kind} after ${ms} ms`);
    assert.deepEqual([action.members, action.untilMs], [[member('b'), member('c')], now + attemptPatienceMs]);
  }
  assert.equal(decided(next({ pings, fences: first, rest: later(attemptPatienceMs) })).authority.member, 'a');
  // One of the others may lack what the third has acknowledged: that one is waited for shortly, then the log is shipped.
  const second = { ...first, b: fence('b', 2, at('0/100'), { leaseRemainingMs: 2_900 }) };
  const waits = next({ pings, fences: second, rest: later(choicePatienceMs - 1) });
  assert.ok(waits.kind === 'Fence' && waits.untilMs === now + choicePatienceMs, waits.kind);
  const ships = next({ pings, fences: second, rest: later(choicePatienceMs) });
  assert.ok(ships.kind === 'Ship' && ships.to.name === 'b', ships.kind);
  assert.deepEqual(ships.fence, [member('c')], 'and still asked meanwhile');
  const all = { ...second, c: fence('c', 2, at('0/180'), { leaseRemainingMs: 2_900 }) };
  for (const ms of [0, choicePatienceMs])
    assert.equal(decided(next({ pings, fences: all, rest: later(ms) })).authority.member, 'c');
});

test('nobody is waited for who has said that its data is not whole', () => {
  const pings = { a: released, b: lonely('b'), c: lonely('c') };
  const half = { a: fence('a', 2, at('0/200')), b: fence('b', 2, null) };
  const awaitsOther = next({ pings, fences: half });
  assert.ok(awaitsOther.kind === 'Fence' && awaitsOther.untilMs === now - 500 + attemptPatienceMs, awaitsOther.kind);
  assert.equal(decided(next({ pings, fences: { ...half, c: fence('c', 2, null) } })).authority.member, 'a');
  const earlier = next({ pings, fences: { ...half, c: fence('c', 1, null) } });
  assert.equal(earlier.kind, 'Fence', 'what it said at another epoch counts for nothing');
});

test('the end of a left fence does not fall on a primary that it has stopped, but on one that serves', () => {
  const promise = { epoch: 2, grantee: '', generation: 0, ageMs: promiseOwnedMs };
  const fences = { a: fence('a', 2, at('0/200')), b: fence('b', 2, at('0/100')), c: fence('c', 2, at('0/180')) };
  const chosen = (a: Parameters<typeof authorityAnswer>[1]): string =>
    decided(next({ pings: { a: answered('a', a), b: answered('b', { promise }), c: lonely('c') }, fences })).authority
      .member;
  assert.equal(chosen({ promise, state: 'fenced' }), 'c');
  assert.equal(chosen({ primary: primaryAnswer() }), 'a');
  assert.equal(chosen({ primary: { ...primaryAnswer(), leaseRemainingMs: 0 } }), 'c', 'its followers have lost it');
});

test('without acknowledgements a stopped primary gives what only it has, for as long as that may take', () => {
  const record = recordOf(['a', 'b', 'c'], 0);
  const pings = { a: released, b: lonely('b'), c: lonely('c') };
  const fences = { a: fence('a', 2, at('0/200')), b: fence('b', 2, at('0/100')), c: fence('c', 2, at('0/100')) };
  const kubernetesLease = { holder: nameOf('a'), unchangedSinceMs: now - kubernetesLeaseMs };
  const ships = next({ record, pings, fences, rest: { kubernetesLease } });
  assert.ok(ships.kind === 'Ship' && ships.to.name === 'b', ships.kind);
  const inVain = next({ record, pings, fences, rest: { kubernetesLease, nowMs: now + handoverPatienceMs } });
  assert.deepEqual(inVain, { kind: 'HandLease', holder: member('b'), epoch: 2 });
});

test('nobody is fenced where nobody else could lead, unless the primary could never lead on otherwise', () => {
  const promotable = (...names: readonly string[]) => ({
    candidates: ['a', 'b', 'c'].map((name) => ({ name, region: '', promotable: names.includes(name) })),
  });
  const pings = { a: released, b: lonely('b'), c: lonely('c') };
  assert.equal(next({ pings, rest: promotable('a', 'c') }).kind, 'Fence');
  const alone = next({ pings, rest: promotable('a') });
  assert.ok(alone.kind === 'Nothing' && /nobody else who answers/.test(alone.why), alone.kind);
  assert.equal(next({ rest: promotable('a') }).kind, 'Nothing', 'it is silent');
  // Both followers' volumes are lost: nobody can grant before a primary runs that they can be copied from.
  const anew = (name: string): Ping => answered(name, { member: { name, incarnation: '0'.repeat(16) } });
  const wedged = { a: released, b: anew('b'), c: anew('c') };
  const fences = { a: fence('a', 2, at('0/200')) };
  assert.equal(next({ pings: wedged }).kind, 'Fence');
  assert.equal(decided(next({ pings: wedged, fences })).authority.member, 'a');
  assert.equal(next({ pings: { ...wedged, b: silent } }).kind, 'Nothing', 'that one may come back');
  assert.equal(next({ record: recordOf(['a'], 0), pings: { a: released } }).kind, 'Fence', 'it is listed alone');
});

test('nothing is begun without need, or without a chance', () => {
  const well = { ...gone, a: answered('a', { primary: primaryAnswer() }) };
  const cases: readonly (readonly [string, TakeoverAction, RegExp])[] = [
    ['it answers', next({ pings: well }), /a answers/],
    [
      'a follower hears it',
      next({ pings: { ...gone, c: answered('c', { follower: followerOf('a', 1, 300) }) } }),
      /not shown/,
    ],
    ['too few answer', next({ pings: { ...gone, c: silent } }), /not shown/],
    ['its silence is short', next({ pings: { ...gone, a: { kind: 'Silent', sinceMs: now - 400 } } }), /400 ms only/],
  ];
  for (const [what, action, why] of cases) {
    assert.equal(action.kind, 'Nothing', what);
    if (action.kind === 'Nothing') assert.match(action.why, why, what);
  }
});

test('a promise to nobody is joined when it was left, kept off while it is young, and never topped', () => {
  const promised = (ageMs: number): Ping =>
    answered('b', { promise: { epoch: 4, grantee: '', generation: 0, ageMs }, follower: followerOf('a', 1, 3_000) });
  const young = next({ pings: { ...gone, b: promised(1_000) } });
  assert.equal(young.kind, 'Nothing');
  assert.deepEqual(next({ pings: { ...gone, b: promised(promiseOwnedMs) } }), {
    kind: 'Fence',
    members: [member('b'), member('c')],
    epoch: 4,
    handover: false,
  });
});

test('a promise to somebody above the record means that the record is old; read again, that it was set back', () => {
  const taken = answered('b', { promise: { epoch: 2, grantee: nameOf('c'), generation: 4, ageMs: 0 } });
  const pings = { ...gone, b: taken };
  assert.equal(next({ pings, rest: { recordReadAtMs: now - 500 } }).kind, 'Reread');
  const after = next({ pings });
  assert.ok(after.kind === 'Fence' && after.epoch === 3, after.kind);
});

test('an attempt without an enough fence ends, so that the next one asks anew', () => {
  const fences = { b: fence('b', 2, at('0/100')), c: fence('c', 2, null) };
  assert.equal(next({ fences }).kind, 'Fence');
  assert.equal(next({ fences, rest: { nowMs: now + attemptPatienceMs } }).kind, 'Nothing');
});

test('the one with the newest history wins over the one with more bytes', () => {
  const record = recordOf(['a', 'b', 'c', 'd', 'e'], 2, [
    { epoch: 1, timeline: 1, member: 'd', forkLsn: '0/0' },
    { epoch: 2, timeline: 2, member: 'a', forkLsn: '0/100', parent: 1 },
  ]);
  const pings = { a: silent, b: lonely('b'), c: lonely('c'), d: silent, e: lonely('e') };
  const fences = {
    b: fence('b', 3, at('0/115', 2)),
    c: fence('c', 3, at('0/110', 2)),
    e: fence('e', 3, at('0/120', 1)),
  };
  const chosen = decided(next({ record, pings, fences }));
  assert.deepEqual([chosen.authority.member, chosen.authority.timeline], ['b', 3]);
  assert.deepEqual(chosen.history.at(-1)?.parent, 2);
});

test('of equals the nearest, unless it is avoided or not promotable; one that may not lead gives what it has', () => {
  const fences = { b: fence('b', 2, at('0/100')), c: fence('c', 2, at('0/100')) };
  const candidates = (more: Record<string, object>) =>
    ['a', 'b', 'c'].map((name) => ({ name, region: `region-${name}`, promotable: true, ...more[name] }));
  const chosen = (more: Record<string, object>) =>
    decided(next({ fences, rest: { candidates: candidates(more) } })).authority.member;
  assert.equal(chosen({}), 'b');
  assert.equal(chosen({ b: { isAvoided: true } }), 'c');
  assert.equal(chosen({ b: { promotable: false } }), 'c');
  const ahead = { ...fences, b: fence('b', 2, at('0/180')) };
  const action = next({ fences: ahead, rest: { candidates: candidates({ b: { promotable: false } }) } });
  assert.ok(action.kind === 'Ship' && action.from.name === 'b' && action.to.name === 'c', action.kind);
});

test('a switchover: announced, the primary stopped first, then its target; undone as a decision', () => {
  const pings = { a: answered('a', { primary: primaryAnswer() }), b: lonely('b'), c: lonely('c') };
  const rest = { intent: { kind: 'Handover', target: member('b') } } as const;
  const announce = next({ pings, rest });
  assert.ok(announce.kind === 'Announce' && announce.record.authority.state === 'Stopping', announce.kind);
  assert.deepEqual(announce.record.authority.target, member('b'));
  const { record } = announce;
  assert.deepEqual(next({ record, pings, rest }), { kind: 'Fence', members: [member('a')], epoch: 2, handover: true });
  const stopped = { a: fence('a', 2, at('0/200')) };
  assert.deepEqual(next({ record, pings, rest, fences: stopped }), {
    kind: 'Fence',
    members: [member('b')],
    epoch: 2,
    handover: false,
  });
  const whole = decided(next({ record, pings, rest, fences: { ...stopped, b: fence('b', 2, at('0/200')) } }));
  assert.deepEqual([whole.authority.member, whole.authority.target], ['b', undefined]);
  const behind = { ...stopped, b: fence('b', 2, at('0/180')) };
  const undone = decided(next({ record, pings, rest, fences: behind }));
  assert.deepEqual([undone.authority.member, undone.authority.epoch, undone.authority.timeline], ['a', 2, 2]);
  const late = next({ record, pings, rest: { ...rest, nowMs: now + handoverPatienceMs }, fences: stopped });
  assert.equal(decided(late).authority.member, 'a', 'its target never answered');
});

test('a switchover that cannot be is refused, and taken back where it was announced', () => {
  const pings = { a: answered('a', { primary: primaryAnswer() }), b: silent, c: lonely('c') };
  const rest = { intent: { kind: 'Handover', target: member('b') } } as const;
  const refused = next({ pings, rest });
  assert.ok(refused.kind === 'Nothing' && refused.why.includes("doesn't answer"), refused.kind);
  const record = recordOf(['a', 'b', 'c'], 1);
  const stopping = { ...record, authority: { ...record.authority, state: 'Stopping' as const, target: member('b') } };
  const back = next({ record: stopping, pings, rest });
  assert.ok(back.kind === 'Announce' && back.record.authority.state === 'Active', back.kind);
});

test('without acknowledgements the Kubernetes Lease is waited out, then handed over, then it is decided', () => {
  const record = recordOf(['a', 'b'], 0);
  const pings = { a: silent, b: lonely('b') };
  const fences = { b: fence('b', 2, at('0/100'), { leaseRemainingMs: 500 }) };
  const lease = (holder: string, since: number) => ({
    kubernetesLease: { holder: nameOf(holder), unchangedSinceMs: since },
  });
  const held = next({ record, pings, fences, rest: lease('a', now - 1_000) });
  assert.ok(held.kind === 'WaitOut' && held.untilMs === now - 1_000 + kubernetesLeaseMs, held.kind);
  const rest = { ...lease('a', now - kubernetesLeaseMs), nowMs: now + 500 };
  assert.deepEqual(next({ record, pings, fences, rest }), { kind: 'HandLease', holder: member('b'), epoch: 2 });
  assert.equal(decided(next({ record, pings, fences, rest: { ...rest, ...lease('b', now) } })).authority.member, 'b');
});

test('suspicion: a fence that was left is settled, by whomever it was promised, listed or not', () => {
  const left = answered('d', { promise: { epoch: 5, grantee: '', generation: 0, ageMs: promiseOwnedMs } });
  const input = {
    record: recordOf(['a', 'b', 'c'], 1),
    pings: keyed({ a: answered('a', { primary: primaryAnswer() }), b: lonely('b'), c: lonely('c'), d: left }),
    nowMs: now,
  };
  assert.deepEqual(suspicionOf(input).kind, 'Settle');
  assert.equal(
    suspicionOf({ ...input, pings: keyed({ a: answered('a', { primary: primaryAnswer() }) }) }).kind,
    'None',
  );
});

test('suspicion: a name that answers with another volume is a member that is gone for good, and says nothing for it', () => {
  const anew = { name: 'a', incarnation: '0'.repeat(16) };
  const record = recordOf(['a', 'b', 'c'], 1);
  const kindOf = (pings: Readonly<Record<string, Ping>>, more: Partial<Parameters<typeof suspicionOf>[0]> = {}) =>
    suspicionOf({ record, pings: keyed(pings), nowMs: now, ...more }).kind;
  const replaced = answered('a', { member: anew, promise: { epoch: 0, grantee: '', generation: 0, ageMs: 0 } });
  assert.equal(kindOf({ a: replaced, b: lonely('b'), c: lonely('c') }), 'Failover');
  const released = answered('a', { member: anew, primary: { ...primaryAnswer(), released: true } });
  assert.equal(kindOf({ a: released, b: lonely('b') }), 'None', 'who it is now has given nothing up');
  // Its followers' word still counts for the one that was there: neither too few, nor one that hears it.
  const hears = answered('b', { follower: followerOf('a', 1, 100) });
  assert.equal(kindOf({ a: replaced, b: hears, c: lonely('c') }), 'None');
  // Nor does the word of followers that have lost their volumes, whatever they hear.
  const other = (name: string): Ping =>
    answered(name, { member: { name, incarnation: '0'.repeat(16) }, follower: followerOf('a', 1, 3_000) });
  assert.equal(kindOf({ a: silent, b: lonely('b'), c: other('c') }), 'None');
  const zero = { record: recordOf(['a', 'b', 'c'], 0) };
  const over = { kubernetesLease: { holder: nameOf('a'), unchangedSinceMs: now - kubernetesLeaseMs } };
  assert.equal(kindOf({ a: replaced, b: lonely('b') }, { ...zero, ...over }), 'Failover');
  assert.equal(kindOf({ a: replaced, b: lonely('b') }, zero), 'None', 'its Lease is waited for');
});
