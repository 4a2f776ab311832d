/** When a follower may serve a read: the interleavings of docs/design-traps.md that concern reads, as cases. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { nowhere } from '#core/consistency/position.ts';
import { type Demand, judge, lossOf } from '#router/consistency/demand.ts';
import { lsn, Observed } from './fixture.ts';

const place = { member: 'follower', postmaster: 'p1' };
const nothing: Demand = {
  floor: nowhere,
  only: undefined,
  maxStalenessMs: undefined,
  needsKeeper: false,
  isAhead: false,
};
const causal = (epoch: number, at: number): Demand => ({
  ...nothing,
  floor: { epoch, lsn: lsn(at) },
  needsKeeper: true,
});
const bounded = (maxStalenessMs: number): Demand => ({ ...nothing, maxStalenessMs });

describe('a read that asks for nothing', () => {
  test('is served by a follower of which nothing is known', () => {
    assert.equal(judge(new Observed().shard, place, nothing), 'met');
  });
});

describe('a causal read', () => {
  test('is served by whoever is known to be as far', () => {
    const seen = new Observed();
    seen.together(100);
    assert.equal(judge(seen.shard, place, causal(1, 100)), 'met');
    assert.equal(judge(seen.shard, place, causal(1, 101)), 'open');
  });

  test('is not served by another run of the same member: replay may have gone back', () => {
    const seen = new Observed();
    seen.together(100);
    assert.equal(judge(seen.shard, { ...place, postmaster: 'p2' }, causal(1, 50)), 'unmet');
    seen.hear({ lsn: 40, postmaster: 'p2' });
    assert.equal(judge(seen.shard, { ...place, postmaster: 'p2' }, causal(1, 50)), 'unmet');
    seen.hear({ lsn: 50, postmaster: 'p2' });
    assert.equal(judge(seen.shard, { ...place, postmaster: 'p2' }, causal(1, 50)), 'met');
    assert.equal(judge(seen.shard, place, causal(1, 50)), 'unmet', 'and what was known of the former counts no more');
  });

  test('is not served by who is further on a branch that was left (T1)', () => {
    const seen = new Observed();
    seen.hear({ lsn: 120 });
    const history = [
      { epoch: 1, timeline: 1, member: 'former', forkLsn: '0/0' },
      { epoch: 2, timeline: 2, member: 'primary', forkLsn: '0/64', parent: 1 },
    ];
    seen.hear({ member: 'primary', lsn: 115, epoch: 2, primary: 2, keepers: ['follower'], history });
    assert.equal(judge(seen.shard, place, causal(2, 115)), 'unmet');
    assert.equal(judge(seen.shard, place, causal(1, 90)), 'unmet', 'what it shows may be lost: nobody keeps it (B7)');
    seen.hear({ lsn: 115, epoch: 2, postmaster: 'p2' });
    const rejoined = { ...place, postmaster: 'p2' };
    assert.equal(judge(seen.shard, rejoined, causal(2, 115)), 'met');
    assert.equal(judge(seen.shard, rejoined, causal(1, 118)), 'met', 'a token from behind the fork is cut to it');
  });

  test('is not served by who does not count, or is not known to count any more (A17)', () => {
    const seen = new Observed();
    seen.hear({ lsn: 100 });
    seen.hear({ member: 'primary', lsn: 100, primary: 1, keepers: ['another'] });
    assert.equal(judge(seen.shard, place, causal(1, 50)), 'unmet');
    seen.together(100);
    assert.equal(judge(seen.shard, place, causal(1, 50)), 'met');
    seen.later(900);
    assert.equal(judge(seen.shard, place, causal(1, 50)), 'met');
    seen.later(100);
    assert.equal(judge(seen.shard, place, causal(1, 50)), 'unmet');
  });

  test('with two acknowledgements is served by no follower, and with none by any', () => {
    const seen = new Observed();
    seen.together(100);
    seen.hear({ member: 'primary', lsn: 100, primary: 1, keepers: ['follower'], acknowledgements: 2 });
    assert.equal(judge(seen.shard, place, causal(1, 50)), 'unmet');
    seen.later(10);
    seen.hear({ member: 'primary', lsn: 100, primary: 1, keepers: [], acknowledgements: 0 });
    assert.equal(judge(seen.shard, place, causal(1, 50)), 'met');
  });

  test('waits for no follower that stands still', () => {
    const seen = new Observed();
    for (let at = 100; at <= 120; at++) {
      seen.hear({ lsn: 100 });
      seen.hear({ member: 'primary', lsn: at, primary: 1, keepers: ['follower'] });
      seen.later(100);
    }
    assert.equal(judge(seen.shard, place, causal(1, 120)), 'unmet');
    assert.equal(judge(seen.shard, place, causal(1, 100)), 'met');
  });

  test('of what was seen where nobody knows goes to that very follower, or to the primary', () => {
    const seen = new Observed();
    seen.together(100);
    assert.equal(judge(seen.shard, place, { ...causal(1, 50), only: 'primary' }), 'unmet');
    assert.equal(judge(seen.shard, place, { ...causal(1, 50), only: place }), 'met');
    const other = { ...place, postmaster: 'p0' };
    assert.equal(judge(seen.shard, place, { ...causal(1, 50), only: other }), 'unmet');
  });
});

describe('a bounded read', () => {
  test('counts age from when the primary was asked, not from when it answered (T5)', () => {
    const seen = new Observed();
    seen.hear({ member: 'primary', lsn: 100, primary: 1, agoMs: 400 });
    seen.hear({ lsn: 100 });
    assert.equal(judge(seen.shard, place, bounded(401 + 20)), 'met');
    assert.notEqual(judge(seen.shard, place, bounded(399)), 'met');
  });

  test('of an idle shard is young for as long as its primary goes on being asked', () => {
    const seen = new Observed();
    for (let round = 0; round < 100; round++) {
      seen.together(100);
      seen.later(100);
    }
    assert.equal(judge(seen.shard, place, bounded(200)), 'met');
    seen.later(1_000);
    assert.equal(judge(seen.shard, place, bounded(200)), 'unmet');
  });

  test('a follower that stands still is as old as the last that it has seen', () => {
    const seen = new Observed();
    seen.together(100);
    for (let at = 101; at <= 130; at++) {
      seen.later(100);
      seen.hear({ member: 'primary', lsn: at, primary: 1 });
      seen.hear({ lsn: 100 });
    }
    assert.equal(judge(seen.shard, place, bounded(2_100)), 'open', 'it may have caught up since it was heard of');
    assert.equal(judge(seen.shard, place, bounded(1_500)), 'unmet');
    assert.equal(judge(seen.shard, place, bounded(3_100)), 'met');
  });

  test('is not served by who is further on a branch that was left, once the primary of the next epoch wrote', () => {
    const seen = new Observed();
    seen.together(100);
    seen.hear({ lsn: 120 });
    for (let at = 101; at <= 120; at++) {
      seen.later(100);
      seen.hear({ member: 'new', lsn: at, epoch: 2, primary: 2 });
    }
    assert.equal(judge(seen.shard, place, bounded(900)), 'unmet');
  });
});

describe('what may be lost', () => {
  const history = [
    { epoch: 1, timeline: 1, member: 'former', forkLsn: '0/0' },
    { epoch: 2, timeline: 2, member: 'primary', forkLsn: '0/64', parent: 1 },
  ];
  const { shard } = ((): Observed => {
    const seen = new Observed();
    seen.hear({ member: 'primary', lsn: 115, epoch: 2, primary: 2, keepers: [], acknowledgements: 1, history });
    return seen;
  })();
  const mayBeLost = true as const;

  test('is said only of what nobody had to acknowledge when it was seen, whatever holds now, and lies behind the fork (T2)', () => {
    assert.deepEqual(lossOf(shard, { epoch: 1, lsn: lsn(110), mayBeLost }, 2), { epoch: 1, lsn: lsn(100) });
    assert.equal(lossOf(shard, { epoch: 1, lsn: lsn(90), mayBeLost }, 2), undefined);
    assert.equal(lossOf(shard, { epoch: 2, lsn: lsn(110), mayBeLost }, 2), undefined);
    assert.equal(lossOf(shard, { epoch: 1, lsn: lsn(110) }, 2), undefined);
  });
});

describe('a causal read whose answer can be withheld', () => {
  const proven = (epoch: number, at: number): Demand => ({ ...causal(epoch, at), mayBeProven: true });
  const hearPrimary = (seen: Observed, at: number, acknowledged: number, epoch = 1): void =>
    seen.hear({
      member: 'primary',
      epoch,
      lsn: at,
      primary: epoch,
      keepers: ['follower', 'other'],
      acknowledgements: 2,
      acknowledged,
    });

  test('is tried at a follower where two have to acknowledge, and counts only up to what two have flushed (A17)', () => {
    const seen = new Observed();
    seen.hear({ lsn: 120 });
    hearPrimary(seen, 120, 110);
    assert.equal(judge(seen.shard, place, causal(1, 100)), 'unmet');
    assert.equal(judge(seen.shard, place, proven(1, 100)), 'met');
    assert.equal(seen.shard.provableAt(place), 1);
    assert.equal(seen.shard.isDurable({ epoch: 1, lsn: lsn(120) }), false, 'it alone may have that');
    assert.equal(seen.shard.isDurable({ epoch: 1, lsn: lsn(110) }), true);
    seen.later(10);
    hearPrimary(seen, 120, 120);
    assert.equal(seen.shard.isDurable({ epoch: 1, lsn: lsn(120) }), true);
  });

  test('is of no use where the follower is of another epoch than what was acknowledged (B7)', () => {
    const seen = new Observed();
    seen.hear({ lsn: 112 });
    hearPrimary(seen, 120, 120);
    assert.equal(seen.shard.provableAt(place), 1);
    seen.later(10);
    // It went on with what was lost, and the new epoch is further by now.
    hearPrimary(seen, 115, 115, 2);
    assert.equal(seen.shard.provableAt(place), undefined);
    assert.equal(judge(seen.shard, place, proven(1, 90)), 'unmet');
    assert.equal(seen.shard.isDurable({ epoch: 1, lsn: lsn(112) }), false);
  });

  test('is of no use once the primary may not be one any more', () => {
    const seen = new Observed();
    seen.hear({ lsn: 100 });
    hearPrimary(seen, 100, 100);
    seen.later(2_850);
    assert.equal(seen.shard.isDurable({ epoch: 1, lsn: lsn(100) }), false);
    assert.equal(seen.shard.provableAt(place), undefined);
  });
});
