/** Positions across epochs, with the interleavings of docs/design-traps.md (T1, T2, B7) as cases. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { HistoryEntry } from '#core/authority/record.ts';
import { covers, cutTo, laterOf, type Position } from '#core/consistency/position.ts';
import { formatLsn, type Lsn } from '#core/lsn.ts';

const at = (epoch: number, lsn: number): Position => ({ epoch, lsn: BigInt(lsn) as Lsn });
const fork = (epoch: number, timeline: number, lsn: number, parent = timeline - 1): HistoryEntry => ({
  epoch,
  timeline,
  member: `member-${epoch}`,
  forkLsn: formatLsn(BigInt(lsn) as Lsn),
  parent,
});

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

test('an epoch whose beginning is not known cuts nothing', () => {
  assert.deepEqual(cutTo(at(1, 115), 3, forks), { lsn: 115n, isKnown: false });
  assert.deepEqual(cutTo(at(1, 115), 2, [fork(1, 1, 0)]), { lsn: 115n, isKnown: false });
  assert.equal(covers(at(2, 101), at(1, 115), [fork(1, 1, 0)]), false);
  assert.deepEqual(cutTo(at(1, 115), 3, [fork(1, 1, 0), fork(3, 3, 120)]), { lsn: 115n, isKnown: false });
});

test('an epoch whose primary died alone is no ancestor: what was written in it is cut where it left the others', () => {
  const three = [...forks, fork(3, 3, 95, 1)];
  assert.deepEqual(cutTo(at(1, 115), 3, three), { lsn: 95n, isKnown: true });
  assert.deepEqual(cutTo(at(2, 105), 3, three), { lsn: 95n, isKnown: true });
  const further = [...forks, fork(3, 3, 110, 1)];
  assert.deepEqual(cutTo(at(1, 108), 3, further), { lsn: 108n, isKnown: true });
  assert.deepEqual(cutTo(at(2, 105), 3, further), { lsn: 100n, isKnown: true });
});

test('epochs that were passed over leave no entry', () => {
  assert.deepEqual(cutTo(at(1, 115), 5, [fork(1, 1, 0), fork(5, 2, 100)]), { lsn: 100n, isKnown: true });
});

/** A tree of timelines: each epoch continues one of those before, from somewhere on it. */
const treeArbitrary = fc
  .array(fc.record({ parent: fc.nat(), from: fc.nat(), grows: fc.nat(20) }), { minLength: 1, maxLength: 6 })
  .map((steps) => {
    const epochs: { readonly entry: HistoryEntry; readonly from: number; readonly end: number }[] = [];
    for (const [index, step] of steps.entries()) {
      const parent = epochs[index === 0 ? -1 : step.parent % index];
      const from = parent === undefined ? 0 : parent.from + (step.from % (parent.end - parent.from + 1));
      const entry = fork(index + 1, index + 1, from, parent?.entry.timeline ?? 0);
      epochs.push({ entry, from, end: from + 1 + step.grows });
    }
    return epochs;
  });

test('who covers a position has every record of it that is left in his epoch', () => {
  fc.assert(
    fc.property(treeArbitrary, fc.nat(), fc.nat(), fc.nat(), fc.nat(), (epochs, a, b, c, d) => {
      /** Which epoch wrote each LSN up to a position, by going down the tree: another way than the code's. */
      const writersOf = (position: Position): Map<number, number> => {
        const writers = new Map<number, number>();
        let [epoch, upTo] = [position.epoch, Number(position.lsn)];
        for (let each = epochs[epoch - 1]; each !== undefined; each = epochs[epoch - 1]) {
          for (let lsn = each.from + 1; lsn <= upTo; lsn++) writers.set(lsn, epoch);
          [epoch, upTo] = [each.entry.parent ?? 0, each.from];
        }
        return writers;
      };
      const pick = (epochSeed: number, lsnSeed: number): Position => {
        const { entry, from, end } = epochs[epochSeed % epochs.length] as (typeof epochs)[number];
        return at(entry.epoch, from + (lsnSeed % (end - from + 1)));
      };
      const [needed, has] = [pick(a, b), pick(c, d)];
      const history = epochs.map(({ entry }) => entry);
      if (!covers(has, needed, history)) return;
      const survives = writersOf(at(has.epoch, (epochs[has.epoch - 1] as (typeof epochs)[number]).end));
      const present = writersOf(has);
      for (const [lsn, writer] of writersOf(needed))
        if (survives.get(lsn) === writer) assert.equal(present.get(lsn), writer, `${lsn}`);
    }),
    { numRuns: 500 },
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
