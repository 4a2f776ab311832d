import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type StatusFacts, statusOf } from '#agent/member/status.ts';
import { neverSeen } from '#agent/postgres/observations.ts';
import { ordersWith, promiseWith, self } from '../orders/orders-fixture.ts';

const running = {
  state: 'running',
  as: 'primary',
  isReady: true,
  isOpen: true,
  configuration: 'c',
  restartNonce: '',
  timeline: 1,
} as const;
const facts = (wish: Partial<StatusFacts>): StatusFacts => ({
  member: self,
  region: 'eu',
  phase: 'Primary',
  problem: '',
  hasData: true,
  promise: promiseWith({ epoch: 1 }),
  orders: ordersWith({ role: 'Primary' }),
  appliedAt: 100,
  server: running,
  observation: neverSeen,
  isWalRemoved: false,
  clone: undefined,
  diverged: undefined,
  rejoined: undefined,
  certificateNotAfter: new Date(0),
  ...wish,
});
const isApplied = (wish: Partial<StatusFacts>): boolean | undefined => statusOf(facts(wish)).orders?.applied;

describe('orders are shown as applied', () => {
  it('with positions looked up after the barrier', () => {
    assert.equal(isApplied({ observation: { begunAt: 100, seen: undefined } }), true);
  });

  it('not with positions from before it, or with none', () => {
    assert.equal(isApplied({ observation: { begunAt: 99, seen: undefined } }), false);
    assert.equal(isApplied({ observation: neverSeen }), false);
  });

  it('not before they are', () => {
    assert.equal(isApplied({ appliedAt: undefined, observation: { begunAt: 500, seen: undefined } }), false);
  });

  it('without any position where Postgres is to be stopped and is', () => {
    assert.equal(isApplied({ appliedAt: 0, server: { state: 'stopped' }, orders: ordersWith({ role: 'Hold' }) }), true);
  });
});
