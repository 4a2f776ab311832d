import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { followerWindowBytes, planSlots, type SlotSeen } from '#agent/postgres/slots.ts';
import { type Lsn, parseLsn } from '#core/lsn.ts';
import { other, third } from '../orders/orders-fixture.ts';

const seen = (name: string, wish: Partial<SlotSeen> = {}): SlotSeen => ({
  name,
  active: false,
  restartLsn: '0/3000000',
  walStatus: 'reserved',
  ...wish,
});
const b = 'member_bbbbbbbbbbbbbbbb';
const c = 'member_cccccccccccccccc';

describe('slots', () => {
  it('are made for every member that the orders name', () => {
    assert.deepEqual(planSlots([other, third], [seen(b)], undefined), [{ kind: 'create', name: c }]);
  });
  it('of members that are named no more go, once nobody streams from them', () => {
    assert.deepEqual(planSlots([], [seen(b)], undefined), [{ kind: 'drop', name: b }]);
    assert.deepEqual(planSlots([], [seen(b, { active: true })], undefined), []);
  });
  it("of others' making are left alone", () => {
    assert.deepEqual(planSlots([], [seen('pg_basebackup_12'), seen('move_7'), seen('member_short')], undefined), []);
  });
  it('that were given up are made anew', () => {
    assert.deepEqual(planSlots([other], [seen(b, { walStatus: 'lost', restartLsn: null })], undefined), [
      { kind: 'drop', name: b },
      { kind: 'create', name: b },
    ]);
  });
  it('on a follower are moved along a window behind its replay, never back', () => {
    const replayed = (parseLsn('0/3000000') + followerWindowBytes + 100n) as Lsn;
    assert.deepEqual(planSlots([other], [seen(b)], replayed), [
      { kind: 'advance', name: b, to: parseLsn('0/3000000') + 100n },
    ]);
    assert.deepEqual(planSlots([other], [seen(b)], parseLsn('0/4000000')), []);
    assert.deepEqual(planSlots([other], [seen(b)], undefined), []);
  });
});
