import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { neverSeen, Observations } from '#agent/postgres/observations.ts';
import type { PostgresSeen } from '#agent/postgres/observe.ts';

const seenAt = (flushed: string): PostgresSeen => ({
  inRecovery: false,
  version: '17',
  timeline: 1,
  written: flushed,
  flushed,
  replayed: flushed,
  replayAgeMs: undefined,
  pendingRestart: false,
  receiver: undefined,
  standbys: [],
  slots: [],
});

/** A Postgres whose position grows with every look; a look shows the position that it began with. */
function growing(tookMs: () => number) {
  let count = 0;
  const observations = new Observations(async () => {
    count += 1;
    const seen = seenAt(`0/${count}`);
    await sleep(tookMs());
    return seen;
  });
  return { observations, count: () => count };
}

describe('a look at Postgres', () => {
  it('serves those who ask soon after', async () => {
    const { observations, count } = growing(() => 0);
    const first = await observations.latest();
    assert.equal(await observations.latest(), first);
    assert.equal(count(), 1);
  });

  it('is shared by those who ask at once', async () => {
    const { observations, count } = growing(() => 20);
    const [first, second] = await Promise.all([observations.latest(), observations.latest()]);
    assert.equal(first, second);
    assert.equal(count(), 1);
  });

  it('is taken anew for who needs what held after an event, however fresh the last one', async () => {
    const { observations } = growing(() => 0);
    await observations.latest();
    const event = performance.now();
    const after = await observations.latest(event);
    assert.equal(after.seen?.flushed, '0/2');
    assert.ok(after.begunAt >= event);
  });

  it('that began before the event does not serve, though it ends after it', async () => {
    const { observations } = growing(() => 50);
    const early = observations.latest();
    await sleep(10);
    const event = performance.now();
    assert.equal((await observations.latest(event)).seen?.flushed, '0/2');
    assert.ok((await early).begunAt < event);
  });

  it('that takes too long gives the last one, which says from when it is', async () => {
    let tookMs = 0;
    const { observations } = growing(() => tookMs);
    const first = await observations.latest();
    tookMs = 3_000;
    const event = performance.now();
    const late = await observations.latest(event);
    assert.equal(late, first);
    assert.ok(late.begunAt < event);
  });

  it('is forgotten with the Postgres that it was of, also when it was on its way', async () => {
    const { observations } = growing(() => 30);
    const early = observations.latest();
    observations.forget();
    await early;
    assert.equal((await observations.latest()).seen?.flushed, '0/2');
    assert.equal(neverSeen.seen, undefined);
  });
});
