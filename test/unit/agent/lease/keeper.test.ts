/** Keepers of several members against each other: real threads, real TLS, the real clock. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { a, b, following, Keepers, serving, until } from './keepers.ts';

describe('a lease', () => {
  let keepers: Keepers;
  before(async () => {
    keepers = await Keepers.make();
  });
  afterEach(() => keepers.closeAll());
  after(() => keepers.closeAll());

  it('is held while a follower grants it, and for its length after the last question', async () => {
    const primary = await keepers.start(a);
    const follower = await keepers.start(b);
    await primary.serve(serving([b]));
    assert.equal(primary.remainingMs(), 0);
    await follower.follow(following(a, primary.port));
    await until(() => (primary.remainingMs() ?? 0) > 2_500, 'held');
    assert.ok(primary.isHeldFor(1, 1));
    assert.ok(!primary.isHeldFor(1, 2) && !primary.isHeldFor(2, 1));
    await sleep(3_500);
    assert.ok((primary.remainingMs() ?? 0) > 2_300, 'renewed all the time');
    assert.equal(primary.leaseNumber(), 0);

    const { grantRemainingMs } = await follower.stop();
    const heldMs = primary.remainingMs() ?? 0;
    assert.ok(grantRemainingMs > 2_500 && grantRemainingMs <= 3_100, `${grantRemainingMs}`);
    assert.ok(heldMs <= grantRemainingMs, 'the holder never thinks that it has longer than the grantor does');
    const tookMs = await until(() => primary.remainingMs() === 0, 'run out');
    assert.ok(tookMs <= grantRemainingMs, `ran out after ${tookMs} of ${grantRemainingMs} ms`);
    assert.ok(!primary.isHeldFor(1, 1));
    await until(() => primary.leaseNumber() === 1, 'counted as lost');
  });
});
