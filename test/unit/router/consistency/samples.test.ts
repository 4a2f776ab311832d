/** Where the primary was when: never too late, and bounded. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Samples } from '#router/consistency/samples.ts';
import { lsn } from './fixture.ts';

const sample = (ms: number, at: number) => ({ position: { epoch: 1, lsn: lsn(at) }, atMs: ms, askedMs: ms });

test('who has seen a sample is as young as the newest of those that he has seen, or looks older', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(3), { minLength: 1, maxLength: 1_500 }), fc.nat(), (steps, pick) => {
      const samples = new Samples();
      const all: { ms: number; at: number }[] = [];
      let at = 0;
      for (const [index, step] of steps.entries()) {
        at += step;
        all.push({ ms: index * 100, at });
        samples.add(sample(index * 100, at));
      }
      const position = { epoch: 1, lsn: lsn(pick % (at + 1)) };
      const youngest = all.findLast((one) => BigInt(one.at) <= position.lsn)?.ms ?? Number.NEGATIVE_INFINITY;
      const said = samples.newestSeenBy(position, [])?.atMs ?? Number.NEGATIVE_INFINITY;
      assert.ok(said <= youngest);
      // Of the last ones nothing is left out.
      const isRecent = youngest >= (all.at(-1)?.ms ?? 0) - 5_000;
      if (isRecent) assert.equal(said, youngest);
    }),
    { numRuns: 100 },
  );
});

test('a day at ten a second takes no more room than a minute', () => {
  const samples = new Samples();
  for (let index = 0; index < 20_000; index++) samples.add(sample(index * 100, index));
  let count = 0;
  for (let at = 0; at < 20_000; at++)
    if (samples.newestSeenBy({ epoch: 1, lsn: lsn(at) }, [])?.position.lsn === lsn(at)) count += 1;
  assert.ok(count <= 400, `${count}`);
});

test('an answer that was overtaken by a later one, or is of an older epoch, changes nothing', () => {
  const samples = new Samples();
  samples.add({ ...sample(200, 20), position: { epoch: 2, lsn: lsn(20) } });
  samples.add(sample(100, 10));
  samples.add(sample(300, 30));
  assert.equal(samples.newest?.askedMs, 200);
});

test('where the primary was since a time is said by the first that was asked since', () => {
  const samples = new Samples();
  for (const ms of [100, 200, 300]) samples.add(sample(ms, ms));
  assert.equal(samples.firstAskedSince(150)?.askedMs, 200);
  assert.equal(samples.firstAskedSince(200)?.askedMs, 200);
  assert.equal(samples.firstAskedSince(301), undefined);
});
