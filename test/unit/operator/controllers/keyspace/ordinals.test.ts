import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { assignOrdinals, maxOrdinal, type OrdinalRecord } from '#operator/controllers/keyspace/ordinals.ts';

const none: OrdinalRecord = { shards: [], nextOrdinal: 0 };
const ordinals = (record: OrdinalRecord): Record<string, number> =>
  Object.fromEntries(record.shards.map(({ name, ordinal }) => [name, ordinal]));

describe('ordinals of shards', () => {
  test('new shards get the next ones, by name', () => {
    const given = assignOrdinals(none, ['b', 'a']);
    assert.deepEqual(ordinals(given), { a: 0, b: 1 });
    assert.equal(given.nextOrdinal, 2);
    assert.equal(given.changed, true);
  });

  test('what is given stays, whatever is added', () => {
    const first = assignOrdinals(none, ['m']);
    assert.deepEqual(ordinals(assignOrdinals(first, ['a', 'm', 'z'])), { m: 0, a: 1, z: 2 });
  });

  test('an ordinal of a shard that is gone is not given again', () => {
    const gone = assignOrdinals(assignOrdinals(none, ['a', 'b']), ['a']);
    assert.deepEqual(ordinals(gone), { a: 0 });
    assert.equal(gone.changed, true);
    assert.deepEqual(ordinals(assignOrdinals(gone, ['a', 'b'])), { a: 0, b: 2 });
  });

  test('nothing new changes nothing', () => {
    const given = assignOrdinals(none, ['a', 'b']);
    assert.equal(assignOrdinals(given, ['b', 'a']).changed, false);
  });

  test('a lost counter is made up from the entries', () => {
    const shards = [{ name: 'a', ordinal: 4, migrations: 2, ready: true }];
    assert.deepEqual(ordinals(assignOrdinals({ shards, nextOrdinal: 0 }, ['a', 'b'])), { a: 4, b: 5 });
  });

  test('when all are used up a shard gets none, and is named', () => {
    const given = assignOrdinals({ shards: [], nextOrdinal: maxOrdinal }, ['a', 'b']);
    assert.deepEqual(ordinals(given), { a: maxOrdinal });
    assert.deepEqual(given.without, ['b']);
  });

  test('however shards come and go, no ordinal is ever given to two', () => {
    const names = fc.subarray(['a', 'b', 'c', 'd', 'e']);
    fc.assert(
      fc.property(fc.array(names, { maxLength: 15 }), (history) => {
        let record: OrdinalRecord = none;
        // A shard that went and came again is another one.
        let lives = new Map<string, number>();
        const owner = new Map<number, string>();
        let births = 0;
        for (const present of history) {
          record = assignOrdinals(record, present);
          lives = new Map(present.map((name) => [name, lives.get(name) ?? births++]));
          for (const { name, ordinal } of record.shards) {
            const life = `${name}/${lives.get(name)}`;
            assert.equal(owner.get(ordinal) ?? life, life);
            owner.set(ordinal, life);
          }
          assert.equal(record.shards.length, present.length);
        }
      }),
    );
  });
});
