import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LeaseNotInForce } from '#agent/lease/keeper.ts';
import { LeaseDuty, type LeaseThread, leaseWishOf } from '#agent/member/lease-duty.ts';
import { ordersWith, other, source } from '../orders/orders-fixture.ts';

const serving = ordersWith({ role: 'Primary', lease: { members: [other], required: 1, kubernetes: false } });

const threadWith = (wish: Partial<LeaseThread> = {}) => {
  const calls: string[] = [];
  const note = (name: string) => (): Promise<void> => {
    calls.push(name);
    return Promise.resolve();
  };
  const thread: LeaseThread = {
    serve: note('serve'),
    follow: note('follow'),
    stop: () => note('stop')().then(() => ({ grantRemainingMs: 0 })),
    setServing: () => {},
    remainingMs: () => 2_000,
    leaseNumber: () => 0,
    heardMs: () => ({ servingMs: null }),
    grantRemainingMs: () => 0,
    grants: () => Promise.resolve([{ from: 'b-0/b', ageMs: 10, remainingMs: 2_800 }]),
    isHeldFor: () => true,
    arm: note('arm'),
    setPostmaster: () => {},
    disarm: note('disarm'),
    onLost: () => {},
    renewIdentity: () => {},
    close: () => Promise.resolve(),
    ...wish,
  };
  return { thread, calls };
};

describe('what a member does about leases', () => {
  it('follows from its orders', () => {
    assert.equal(leaseWishOf(undefined, false).kind, 'none');
    assert.equal(leaseWishOf(ordersWith({ role: 'Hold' }), false).kind, 'none');
    assert.equal(leaseWishOf(serving, false).kind, 'serve');
    assert.equal(leaseWishOf(serving, true).kind, 'none', 'whoever has given up asks for nothing');
    assert.equal(leaseWishOf(ordersWith({ source }), false).kind, 'follow');
    assert.equal(leaseWishOf(ordersWith({ source, ship: true }), false).kind, 'none', 'who ships is no primary');
  });

  it('is shown as it is', async () => {
    const { thread } = threadWith();
    const duty = new LeaseDuty(thread, () => {});
    assert.equal((await duty.seen()).remainingMs, null, 'no primary, no lease');
    await duty.keep(leaseWishOf(serving, false));
    const before = await duty.seen();
    assert.deepEqual([before.remainingMs, before.isArmed, before.grants.length], [2_000, false, 1]);
    await duty.arm();
    assert.equal((await duty.seen()).isArmed, true);
  });

  it('is told once, and ended before another part begins', async () => {
    const { thread, calls } = threadWith();
    const duty = new LeaseDuty(thread, () => {});
    const follow = leaseWishOf(ordersWith({ source }), false);
    await duty.keep(follow);
    await duty.keep(leaseWishOf(ordersWith({ source }), false));
    await duty.keep(leaseWishOf(serving, false));
    await duty.keep({ kind: 'none' });
    assert.deepEqual(calls, ['follow', 'stop', 'serve', 'stop']);
  });

  it('is done anew after a failure, also when the same is wished again', async () => {
    const { calls } = threadWith();
    let fails = true;
    const noteOf = (name: string) => (): Promise<{ grantRemainingMs: number }> => {
      calls.push(name);
      return fails ? Promise.reject(new Error('no answer')) : Promise.resolve({ grantRemainingMs: 0 });
    };
    const thread = threadWith({ stop: noteOf('stop'), follow: () => noteOf('follow')().then(() => undefined) }).thread;
    const duty = new LeaseDuty(thread, () => {});
    const follow = leaseWishOf(ordersWith({ source }), false);
    await assert.rejects(duty.keep(follow), /no answer/);
    await assert.rejects(duty.keep({ kind: 'none' }), /no answer/);
    await assert.rejects(duty.keep({ kind: 'none' }), /no answer/, 'a fence that is asked again shows the stop again');
    fails = false;
    await duty.keep({ kind: 'none' });
    await duty.keep({ kind: 'none' });
    await duty.keep(follow);
    assert.deepEqual(calls, ['follow', 'stop', 'stop', 'stop', 'follow']);
    assert.equal(duty.isInForce, true);
  });

  it('holds a lease only under the settings that are in force, and with enough of it left', async () => {
    let remainingMs: number | null = 2_000;
    let fulfil = (): void => {};
    let tries = 0;
    const serve = (): Promise<void> => {
      tries += 1;
      if (tries === 1) return Promise.reject(new LeaseNotInForce('not yet'));
      return new Promise((resolve) => {
        fulfil = resolve;
      });
    };
    const duty = new LeaseDuty(threadWith({ serve, remainingMs: () => remainingMs }).thread, () => {});
    assert.equal(duty.isHeld, false);
    await duty.keep(leaseWishOf(serving, false));
    await new Promise(setImmediate);
    assert.deepEqual([tries, duty.isHeld, duty.isInForce], [2, false, false]);
    fulfil();
    await new Promise(setImmediate);
    assert.deepEqual([duty.isHeld, duty.isInForce], [true, true]);
    remainingMs = 900;
    assert.equal(duty.isHeld, false);
    remainingMs = null;
    assert.equal(duty.isHeld, true);
  });

  it('confirms an authority by grants only where grants are required', () => {
    const duty = new LeaseDuty(threadWith().thread, () => {});
    assert.equal(duty.isHeldFor(serving), true);
    assert.equal(duty.isHeldFor(ordersWith({ role: 'Primary' })), false);
  });

  it('begins nothing by a handle that is about to be let go, or was armed anew', async () => {
    let disarmed = (): void => {};
    const { thread } = threadWith({ disarm: () => new Promise((resolve) => (disarmed = resolve)) });
    const duty = new LeaseDuty(thread, () => {});
    const first = await duty.arm();
    assert.equal(duty.standsBy(first), true);
    assert.equal(duty.condemn(), first);
    assert.deepEqual([duty.standsBy(first), duty.isArmed], [false, true], 'from the moment that the end is begun');
    const second = await duty.arm();
    assert.deepEqual([duty.standsBy(first), duty.standsBy(second)], [false, true]);
    const disarming = duty.disarm();
    assert.equal(duty.standsBy(second), false, 'while process 1 is still being told');
    disarmed();
    await disarming;
    assert.deepEqual([duty.standsBy(second), duty.isArmed], [false, false]);
  });

  it('does not stand by a handle that was let go while it was being armed', async () => {
    let armed = (): void => {};
    const { thread } = threadWith({ arm: () => new Promise((resolve) => (armed = resolve)) });
    const duty = new LeaseDuty(thread, () => {});
    const arming = duty.arm();
    await duty.disarm(duty.condemn());
    armed();
    assert.equal(duty.standsBy(await arming), false);
  });

  it('lets only the handle go that it was asked to let go', async () => {
    const { thread, calls } = threadWith();
    const duty = new LeaseDuty(thread, () => {});
    await duty.disarm();
    const arming = await duty.arm(1);
    await duty.arm(2);
    await duty.disarm(arming);
    assert.deepEqual([duty.isArmed, calls], [true, ['arm', 'arm']]);
    await duty.disarm();
    assert.deepEqual([duty.isArmed, calls], [false, ['arm', 'arm', 'disarm']]);
  });
});
