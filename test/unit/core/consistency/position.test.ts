/** Positions across epochs, with the interleavings of docs/design-traps.md (T1, T2, B7) as cases. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { covers, cutTo, type Fork, laterOf, type Position } from '#core/consistency/position.ts';
import type { Lsn } from '#core/lsn.ts';

const at = (epoch: number, lsn: number): Position => ({ epoch, lsn: BigInt(lsn) as Lsn });
const fork = (epoch: number, timeline: number, lsn: number): Fork => ({ epoch, timeline, forkLsn: BigInt(lsn) as Lsn });

/** Epoch 2 left epoch 1 at 100. */
const forks = [fork(1, 1, 0), fork(2, 2, 100)];

test('a follower that is further on a lost branch has not seen a token of the new epoch (T1)', () => {
  assert.equal(covers(at(1, 120), at(2, 115), forks), false);
  assert.equal(covers(at(2, 115), at(2, 115), forks), true);
  assert.equal(covers(at(2, 114), at(2, 115), forks), false);
});

test('a token that lies beyond the fork of the next epoch is cut to it (T2)', () => {
  assert.equal(covers(at(2, 101), at(1, 115), forks), true);
  assert.equal(
    covers(at(2, 99), at(1, 115), forks),
    false,
    'an epoch row can not be seen before its fork, but a bound may say so',
  );
  assert.deepEqual(cutTo(at(1, 115), 2, forks), { lsn: 100n, isKnown: true });
  assert.deepEqual(cutTo(at(1, 90), 2, forks), { lsn: 90n, isKnown: true });
});

test('an epoch whose fork is not known cuts nothing', () => {
  assert.deepEqual(cutTo(at(1, 115), 3, forks), { lsn: 100n, isKnown: false });
  assert.deepEqual(cutTo(at(1, 115), 2, [fork(1, 1, 0)]), { lsn: 115n, isKnown: false });
  assert.equal(covers(at(2, 101), at(1, 115), [fork(1, 1, 0)]), false);
  assert.deepEqual(cutTo(at(1, 115), 2, [fork(2, 1, 100)]), { lsn: 115n, isKnown: false }, 'its timeline may go on');
});

test('the lowest of several forks counts: an epoch whose primary never opened leaves nothing behind', () => {
  const three = [...forks, fork(3, 3, 95)];
  assert.deepEqual(cutTo(at(1, 115), 3, three), { lsn: 95n, isKnown: true });
  assert.deepEqual(cutTo(at(2, 105), 3, three), { lsn: 95n, isKnown: true });
});

test('a primary that only got a new epoch has left nothing: tokens of a moment when a router did not know yet are whole', () => {
  const renewed = [fork(1, 1, 0), fork(2, 1, 100), fork(3, 2, 130)];
  assert.deepEqual(cutTo(at(1, 115), 2, renewed), { lsn: 115n, isKnown: true });
  assert.deepEqual(cutTo(at(1, 115), 3, renewed), { lsn: 115n, isKnown: true });
  assert.deepEqual(cutTo(at(1, 140), 3, renewed), { lsn: 130n, isKnown: true });
});

test('epochs that were passed over leave no entry', () => {
  assert.deepEqual(cutTo(at(1, 115), 5, [fork(1, 1, 0), fork(5, 2, 100)]), { lsn: 100n, isKnown: true });
});

/** A history: each epoch begins at a fork not beyond what the one before reached. */
const historyArbitrary = fc
  .array(fc.record({ grows: fc.nat(50), left: fc.nat(60), renewed: fc.boolean() }), { minLength: 1, maxLength: 6 })
  .map((steps) => {
    const epochs: { fork: Fork; end: number }[] = [];
    let [end, timeline] = [10, 1];
    for (const [index, { grows, left, renewed }] of steps.entries()) {
      const isFirst = index === 0;
      if (!isFirst && !renewed) timeline += 1;
      const from = isFirst ? 0 : renewed ? end : Math.max(0, end - left);
      end = from + grows;
      epochs.push({ fork: fork(index + 1, timeline, from), end });
    }
    return epochs;
  });

test('who covers a position has every record of it that is left in his epoch', () => {
  fc.assert(
    fc.property(historyArbitrary, fc.nat(), fc.nat(), fc.nat(), fc.nat(), (epochs, a, b, c, d) => {
      /** Records as (timeline, LSN), as who is at that position has them. */
      const recordsOf = (position: Position): Set<string> => {
        const records = new Map<number, number>();
        for (const { fork: each, end } of epochs.filter((one) => one.fork.epoch <= position.epoch)) {
          for (const lsn of records.keys()) if (lsn > Number(each.forkLsn)) records.delete(lsn);
          const upTo = each.epoch === position.epoch ? Number(position.lsn) : end;
          for (let lsn = Number(each.forkLsn) + 1; lsn <= upTo; lsn++) records.set(lsn, each.timeline);
        }
        for (const lsn of records.keys()) if (lsn > Number(position.lsn)) records.delete(lsn);
        return new Set([...records].map(([lsn, timeline]) => `${timeline}/${lsn}`));
      };
      const pick = (epochSeed: number, lsnSeed: number): Position => {
        const chosen = epochs[epochSeed % epochs.length] as (typeof epochs)[number];
        const from = Number(chosen.fork.forkLsn);
        return at(chosen.fork.epoch, from + (lsnSeed % (chosen.end - from + 1)));
      };
      const [needed, has] = [pick(a, b), pick(c, d)];
      const history = epochs.map((one) => one.fork);
      if (!covers(has, needed, history)) return;
      const survives = recordsOf({ epoch: has.epoch, lsn: BigInt(10_000) as Lsn });
      const present = recordsOf(has);
      for (const record of recordsOf(needed)) if (survives.has(record)) assert.ok(present.has(record), record);
    }),
    { numRuns: 300 },
  );
});

test('the later of two positions covers both', () => {
  fc.assert(
    fc.property(fc.nat(3), fc.nat(50), fc.nat(3), fc.nat(50), (e1, l1, e2, l2) => {
      const history = [fork(1, 1, 0), fork(2, 2, 100), fork(3, 3, 200)];
      const position = (epoch: number, lsn: number): Position => at(epoch + 1, epoch * 100 + lsn);
      const [one, other] = [position(Math.min(e1, 2), l1), position(Math.min(e2, 2), l2)];
      const later = laterOf(one, other);
      assert.ok(covers(later, one, history) && covers(later, other, history));
    }),
  );
});
