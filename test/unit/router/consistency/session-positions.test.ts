/** What a session has seen, and what its next reads must see. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { nowhere } from '#core/consistency/position.ts';
import { shardIdentity } from '#core/consistency/token.ts';
import { SessionPositions } from '#router/consistency/session-positions.ts';
import { lsn, Observed } from './fixture.ts';

const primary = { member: 'primary', postmaster: 'p0' };
const follower = { member: 'follower', postmaster: 'p1' };
const at = (epoch: number, value: number) => ({ epoch, lsn: lsn(value) });

function made(): { seen: Observed; session: SessionPositions } {
  const seen = new Observed();
  return { seen, session: new SessionPositions(seen.positions) };
}

const floor = (session: SessionPositions, level: 'causal' | 'eventual') => {
  const { floor: position, only } = session.demand('one', level, undefined);
  return { floor: position, only };
};

describe('a session', () => {
  test('that has seen nothing asks for nothing', () => {
    assert.deepEqual(floor(made().session, 'causal'), { floor: nowhere, only: undefined });
  });

  test('must see what it wrote in causal reads, and not in others', () => {
    const { session } = made();
    session.committed('one', at(1, 100));
    assert.deepEqual(floor(session, 'causal'), { floor: at(1, 100), only: undefined });
    assert.deepEqual(floor(session, 'eventual'), { floor: nowhere, only: undefined });
  });

  test('stays with the primary after a strong read until it is known where that was', () => {
    const { seen, session } = made();
    seen.hear({ member: 'primary', lsn: 90, primary: 1 });
    seen.later(50);
    session.wasAtPrimary('one', primary, seen.nowMs, true);
    assert.equal(floor(session, 'causal').only, 'primary');
    assert.equal(floor(session, 'eventual').only, 'primary', 'and so its other reads never go back behind it');
    seen.later(40);
    seen.hear({ member: 'primary', lsn: 95, primary: 1, agoMs: 60 });
    assert.equal(floor(session, 'causal').only, 'primary', 'what was asked before says nothing of what was seen after');
    seen.later(10);
    seen.hear({ member: 'primary', lsn: 97, primary: 1, agoMs: 10 });
    assert.deepEqual(floor(session, 'causal'), { floor: at(1, 97), only: undefined });
    assert.deepEqual(floor(session, 'eventual'), { floor: at(1, 97), only: undefined });
  });

  test('stays with the follower that it read from until it is known where that was', () => {
    const { seen, session } = made();
    seen.hear({ lsn: 90 });
    seen.later(10);
    session.wasAtFollower('one', follower, seen.nowMs);
    assert.deepEqual(floor(session, 'eventual'), { floor: nowhere, only: follower });
    seen.later(10);
    seen.hear({ lsn: 95 });
    assert.deepEqual(floor(session, 'eventual'), { floor: at(1, 95), only: undefined });
  });

  test('knows where a follower was from its last run, too, and from the primary when that is gone', () => {
    const { seen, session } = made();
    session.wasAtFollower('one', follower, seen.nowMs);
    seen.later(10);
    seen.hear({ lsn: 95 });
    seen.hear({ lsn: 40, postmaster: 'p2' });
    assert.deepEqual(floor(session, 'eventual').floor, at(1, 95));
    seen.later(10);
    session.wasAtFollower('one', { ...follower, postmaster: 'p2' }, seen.nowMs);
    seen.hear({ lsn: 10, postmaster: 'p3', agoMs: 5 });
    assert.notEqual(floor(session, 'eventual').only, undefined);
    seen.later(10);
    seen.hear({ member: 'primary', lsn: 120, primary: 1 });
    assert.deepEqual(floor(session, 'eventual'), { floor: at(1, 120), only: undefined });
  });

  test('that read from two followers before either was placed goes to the primary', () => {
    const { seen, session } = made();
    session.wasAtFollower('one', follower, seen.nowMs);
    session.wasAtFollower('one', { member: 'other', postmaster: 'p9' }, seen.nowMs + 1);
    assert.equal(floor(session, 'eventual').only, 'primary');
  });

  test('takes a token over for all its reads, and hands on what it doesn’t understand', () => {
    const { session } = made();
    session.adopt(
      new Map([
        [shardIdentity('one'), at(1, 100)],
        [shardIdentity('gone'), at(7, 1)],
      ]),
    );
    assert.deepEqual(floor(session, 'causal').floor, at(1, 100));
    assert.deepEqual(floor(session, 'eventual').floor, at(1, 100));
    session.committed('one', at(1, 130));
    assert.deepEqual(
      session.all,
      new Map([
        [shardIdentity('gone'), at(7, 1)],
        [shardIdentity('one'), at(1, 130)],
      ]),
    );
    session.clear();
    assert.equal(session.all.size, 0);
  });

  test('is settled once all that it saw has its position', () => {
    const { seen, session } = made();
    assert.equal(session.isSettled, true);
    session.wasAtPrimary('one', primary, seen.nowMs, true);
    assert.equal(session.isSettled, false);
    session.readBefore('one', at(1, 100));
    assert.equal(session.isSettled, true);
  });

  test('a commit that was placed places what the session wrote before, and not what it read', () => {
    const { seen, session } = made();
    session.wasAtPrimary('one', primary, seen.nowMs, false);
    session.committed('one', at(1, 100));
    assert.equal(session.isSettled, true);
    session.wasAtPrimary('one', primary, seen.nowMs, true);
    session.committed('one', at(1, 110));
    assert.equal(floor(session, 'eventual').only, 'primary');
  });

  test('that read from a follower waits at the primary until that shows as much: a commit may still wait for its acknowledgement', () => {
    const { seen, session } = made();
    const isAhead = (): boolean => session.demand('one', 'eventual', undefined).isAhead;
    seen.hear({ member: 'primary', lsn: 100, primary: 1, acknowledged: 90 });
    session.wasAtFollower('one', follower, seen.nowMs);
    assert.equal(isAhead(), true);
    seen.later(10);
    seen.hear({ lsn: 100 });
    assert.equal(isAhead(), true, 'the follower has replayed what nobody has acknowledged yet');
    assert.deepEqual(session.all.get(shardIdentity('one')), { ...at(1, 100), isAhead: true });
    const other = new SessionPositions(seen.positions);
    other.adopt(session.all);
    assert.equal(other.demand('one', 'causal', undefined).isAhead, true, 'and so does whoever is handed its token');
    session.committed('one', at(1, 120));
    assert.equal(isAhead(), true);
    seen.later(10);
    seen.hear({ member: 'primary', lsn: 130, primary: 1, acknowledged: 100 });
    assert.equal(isAhead(), false);
    assert.equal(other.demand('one', 'causal', undefined).isAhead, false);
    assert.deepEqual(session.all.get(shardIdentity('one')), at(1, 120));
  });

  test('that is ahead of a primary waits no longer where another has followed it: that one shows all that it took over', () => {
    const { seen, session } = made();
    seen.hear({ member: 'primary', lsn: 100, primary: 1, acknowledged: 90 });
    session.wasAtFollower('one', follower, seen.nowMs);
    seen.later(10);
    seen.hear({ lsn: 100 });
    assert.equal(session.demand('one', 'eventual', undefined).isAhead, true);
    seen.hear({ member: 'other', lsn: 110, epoch: 2, primary: 2 });
    assert.equal(session.demand('one', 'eventual', undefined).isAhead, false);
  });

  test('that was shown only what had been acknowledged is ahead of nobody', () => {
    const { seen, session } = made();
    session.wasAtFollower('one', follower, seen.nowMs, true);
    assert.equal(session.demand('one', 'causal', undefined).isAhead, false);
    session.wasAtFollower('one', follower, seen.nowMs, false);
    session.wasAtFollower('one', follower, seen.nowMs, true);
    assert.equal(session.demand('one', 'causal', undefined).isAhead, true);
  });

  test('hears once of what may be lost, also where it has seen the next epoch since (T2)', () => {
    const { seen, session } = made();
    const history = [
      { epoch: 1, timeline: 1, member: 'former', forkLsn: '0/0' },
      { epoch: 2, timeline: 2, member: 'primary', forkLsn: '0/64', parent: 1 },
    ];
    seen.hear({ member: 'primary', lsn: 110, primary: 1, keepers: [], acknowledgements: 0 });
    session.committed('one', at(1, 110));
    assert.equal(session.takeLoss('one', 1), false);
    const another = new SessionPositions(seen.positions);
    another.adopt(session.all);
    seen.later(10);
    seen.hear({ member: 'new', lsn: 120, epoch: 2, primary: 2, keepers: ['x'], acknowledgements: 1, history });
    session.committed('one', at(2, 120));
    assert.equal(session.takeLoss('one', 2), true);
    assert.equal(session.takeLoss('one', 2), false);
    assert.equal(another.takeLoss('one', 2), true, 'a token says that nobody had to acknowledge it');
    assert.equal(another.takeLoss('one', 2), false);
    assert.deepEqual(floor(another, 'causal').floor, at(1, 100));
  });
});
