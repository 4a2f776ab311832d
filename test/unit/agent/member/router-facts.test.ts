/** What a member says to routers beside what it says to everybody: how far it is, and who keeps what it has committed. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { routerFactsOf } from '#agent/member/authority-facts.ts';
import { replicationName } from '#core/identity.ts';
import { ordersWith, other, source, third } from '../orders/orders-fixture.ts';

const seen = { begunAt: 5_000, postmaster: '77', isRecovering: false, epoch: 2, lsn: '0/100', flushed: new Map() };
const primary = (members: readonly (typeof other)[], leased: readonly (typeof other)[], k = 1, required = 1) =>
  ordersWith({
    role: 'Primary',
    epoch: 2,
    timeline: 2,
    synchronous: { acknowledgements: k, members: [...members] },
    lease: { members: [...leased], required, kubernetes: false },
  });

describe('what routers are told', () => {
  it('counts the look from the receipt of the question, also where it began before', () => {
    const { position } = routerFactsOf(undefined, 'open', seen, 5_040);
    assert.deepEqual(position, { begunMs: -40, postmaster: '77', isRecovering: false, epoch: 2, lsn: '0/100' });
    assert.equal(routerFactsOf(undefined, 'open', undefined, 5_040).position, undefined);
  });

  it('names as keepers only those who count on both sides of a change, with the greater number of acknowledgements', () => {
    const facts = routerFactsOf(primary([other, third], [other, third]), 'open', seen, 0);
    assert.deepEqual(facts.keepers, { acknowledgements: 1, members: [other, third] });
    assert.deepEqual(routerFactsOf(primary([other, third], [other]), 'open', seen, 0).keepers?.members, [other]);
    assert.deepEqual(routerFactsOf(primary([other], [other, third]), 'open', seen, 0).keepers?.members, [other]);
    assert.equal(routerFactsOf(primary([other], [other], 1, 2), 'open', seen, 0).keepers?.acknowledgements, 2);
  });

  it('names keepers only while it is open as primary', () => {
    assert.equal(routerFactsOf(primary([other], [other]), 'opening', seen, 0).keepers, undefined);
    assert.equal(routerFactsOf(primary([other], [other]), 'stopping', seen, 0).keepers, undefined);
    assert.equal(routerFactsOf(ordersWith({ epoch: 2, source }), 'following', seen, 0).keepers, undefined);
  });

  it('says what k of those who count have flushed, in its own epoch (A17)', () => {
    const flushed = new Map([
      [replicationName(other), '0/90'],
      [replicationName(third), '0/A0'],
      ['stranger/00000000000000ff', '0/F0'],
    ]);
    const said = (k: number, members: readonly (typeof other)[], look = {}) =>
      routerFactsOf(primary(members, members, k, k), 'open', { ...seen, flushed, ...look }, 0).acknowledged;
    assert.deepEqual(said(1, [other, third]), { epoch: 2, lsn: '0/A0' });
    assert.deepEqual(said(2, [other, third]), { epoch: 2, lsn: '0/90' });
    assert.equal(said(2, [other]), undefined, 'who does not count has not acknowledged anything');
    assert.deepEqual(said(0, []), { epoch: 2, lsn: '0/100' });
    assert.equal(said(1, [other, third], { epoch: 1 }), undefined, 'a look from before its epoch began');
    assert.equal(said(1, [other, third], { isRecovering: true }), undefined);
    const whileRaised = primary([other, third], [other, third], 1, 2);
    assert.equal(routerFactsOf(whileRaised, 'open', { ...seen, flushed }, 0).acknowledged?.lsn, '0/90');
    assert.equal(routerFactsOf(whileRaised, 'opening', { ...seen, flushed }, 0).acknowledged, undefined);
  });

  it('tells the newest of the history, so that epochs learnt without the API server have their forks', () => {
    const history = Array.from({ length: 9 }, (_, index) => ({
      epoch: index + 1,
      timeline: index + 1,
      member: 'm',
      forkLsn: '0/0',
    }));
    const facts = routerFactsOf({ ...primary([other], [other]), history }, 'open', seen, 0);
    assert.deepEqual(
      facts.history?.map(({ epoch }) => epoch),
      [6, 7, 8, 9],
    );
  });
});
