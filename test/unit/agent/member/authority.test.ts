/** What a member says of authority, and when it says it to those who wait. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AuthorityAnswers, type AuthorityFacts } from '#agent/member/authority-answer.ts';
import { type AuthorityView, authorityFactsOf } from '#agent/member/authority-facts.ts';
import type { ServerView } from '#agent/member/plan.ts';
import { authorityAnswerSchema } from '#core/protocol/authority.ts';
import { ordersWith, other, promiseWith, self, source } from '../orders/orders-fixture.ts';

const running: ServerView = {
  state: 'running',
  as: 'primary',
  isReady: true,
  isOpen: true,
  configuration: 'c',
  restartNonce: '',
  timeline: 2,
};
const primary = ordersWith({ role: 'Primary', epoch: 2, timeline: 2 });
const follower = ordersWith({ epoch: 2, source });
const lease = {
  remainingMs: () => 2_000,
  leaseNumber: () => 1,
  heardMs: () => ({ servingMs: 40 }),
  grantRemainingMs: () => 1_500,
};
const facts = (wish: Partial<AuthorityView>): AuthorityFacts =>
  authorityFactsOf({
    member: self,
    region: 'eu',
    promise: promiseWith({ epoch: 2, shardUid: 'uid' }),
    promiseAgeMs: 10,
    agentAgeMs: 20,
    orders: primary,
    former: undefined,
    server: running,
    isHandingOver: false,
    isReleased: false,
    isServing: true,
    seen: undefined,
    lease,
    walHeardMs: 7,
    ...wish,
  });

const states: readonly [string, Partial<AuthorityView>, AuthorityFacts['state']][] = [
  ['an open primary', {}, 'open'],
  ['one behind its gate', { server: { ...running, isOpen: false } }, 'opening'],
  ['one that recovers', { server: { ...running, isReady: false } }, 'starting'],
  ['one that is down', { server: { state: 'stopped' } }, 'down'],
  ['one on its way to be promoted', { server: { ...running, as: 'standby' } }, 'opening'],
  ['one that is handed over', { orders: undefined, former: primary, isHandingOver: true }, 'stopping'],
  ['one that is fenced and not down yet', { orders: undefined, former: primary }, 'stopping'],
  ['one that is fenced and down', { orders: undefined, former: primary, server: { state: 'stopped' } }, 'fenced'],
  ['a follower', { orders: follower, server: { ...running, as: 'standby' } }, 'following'],
  ['a fenced follower', { orders: undefined, former: follower, server: { ...running, as: 'standby' } }, 'fenced'],
];

describe('what a member says of authority', () => {
  for (const [who, view, state] of states) {
    it(`is "${state}" from ${who}`, () => {
      const said = facts(view);
      assert.equal(said.state, state);
      authorityAnswerSchema.parse({ ...said, version: 1 });
    });
  }

  it('names the primary and its lease, also while it is handed over, and not once it is fenced', () => {
    assert.deepEqual(facts({}).primary, {
      epoch: 2,
      timeline: 2,
      serving: true,
      leaseRemainingMs: 2_000,
      leaseNumber: 1,
      released: false,
    });
    assert.equal(facts({ orders: undefined, former: primary, isHandingOver: true }).primary?.epoch, 2);
    assert.equal(facts({ orders: undefined, former: primary }).primary, undefined);
  });

  it('names the highest authority that it knows: by its orders, or by the record it has read', () => {
    assert.deepEqual(facts({ orders: follower }).known, { epoch: 2, member: other, address: source.address });
    assert.deepEqual(facts({ seen: { epoch: 3, member: other } }).known, { epoch: 3, member: other });
    assert.deepEqual(facts({ seen: { epoch: 1, member: other } }).known, { epoch: 2, member: self });
    assert.equal(facts({ orders: { ...follower, ship: true } }).known, undefined, 'who ships is no primary');
  });
});

describe('an answer', () => {
  it('has another version when anything but ages and remaining times has changed', () => {
    let shown = facts({});
    const answers = new AuthorityAnswers(() => shown);
    const { version } = answers.now();
    shown = { ...facts({ lease: { ...lease, remainingMs: () => 1_000 } }), agentAgeMs: 99 };
    assert.equal(answers.now().version, version);
    for (const wish of [
      { lease: { ...lease, remainingMs: () => 0 } },
      { lease: { ...lease, leaseNumber: () => 2 } },
      { isServing: false },
      { server: { state: 'stopped' as const } },
    ]) {
      const before = answers.now().version;
      shown = facts(wish);
      assert.equal(answers.now().version, before + 1);
    }
  });

  it('waits for a change, for as long as asked and no longer', async () => {
    let shown = facts({});
    const answers = new AuthorityAnswers(() => shown);
    const { version } = answers.now();
    const begunAt = performance.now();
    assert.equal((await answers.answer({ after: version, waitMs: 120 })).version, version);
    assert.ok(performance.now() - begunAt >= 118);
    assert.equal((await answers.answer({ after: version + 7, waitMs: 2_000 })).version, version);
    const waiting = answers.answer({ after: version, waitMs: 2_000 });
    shown = facts({ isServing: false });
    answers.wake();
    assert.equal((await waiting).version, version + 1);
  });
});
