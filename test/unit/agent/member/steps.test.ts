/** The start of Postgres, with what may happen while it is prepared. What it does to Postgres is integration's to show. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LeaseDuty, type LeaseThread } from '#agent/member/lease-duty.ts';
import type { MemberParts } from '#agent/member/parts.ts';
import { Steps } from '#agent/member/steps.ts';
import type { Orders } from '#core/protocol/orders.ts';
import { ordersWith } from '../orders/orders-fixture.ts';

const primary = ordersWith({ role: 'Primary' });
const follower = ordersWith({ role: 'Follower' });
const nothing = (): void => {};
const soon = (): Promise<void> => Promise.resolve();

interface Standing {
  inForce: Orders | undefined;
  former: Orders | undefined;
}

/** `during` happens while Postgres is prepared, right before it is asked whether it is still wanted. */
async function startedAs(
  as: 'primary' | 'standby',
  standing: Standing,
  during: (lease: LeaseDuty) => Promise<void> | void,
): Promise<boolean> {
  const thread = { arm: soon, disarm: soon, setPostmaster: nothing } as unknown as LeaseThread;
  const lease = new LeaseDuty(thread, nothing);
  let isStarted = false;
  const postgres = {
    pid: undefined,
    start: async (_orders: Orders, _as: string, isStillWanted: () => boolean): Promise<boolean> => {
      await during(lease);
      isStarted = isStillWanted();
      return isStarted;
    },
  };
  const parts = {
    postgres,
    lease,
    standing,
    making: { rememberSystemIdentifier: soon },
    rejoining: { isBegun: () => Promise.resolve(false), view: nothing },
    commits: { end: nothing },
    options: { log: { info: nothing }, upstream: { aim: nothing } },
  } as unknown as MemberParts;
  const steps = new Steps({
    parts,
    exclusively: (work) => work(),
    onRenewed: nothing,
    isStopping: () => false,
  });
  const orders = standing.inForce ?? standing.former;
  await steps.take({ kind: 'start', phase: 'Starting', as }, orders, new AbortController().signal);
  return isStarted;
}

describe('the start of Postgres as primary', () => {
  it('goes through when nothing happens meanwhile', async () => {
    assert.equal(await startedAs('primary', { inForce: primary, former: undefined }, nothing), true);
  });

  it('does not happen when the lease was lost and the handle let go while it was prepared', async () => {
    const started = startedAs('primary', { inForce: primary, former: undefined }, (lease) => lease.disarm());
    assert.equal(await started, false);
  });

  it('does not happen when the end of the lease has only begun', async () => {
    const started = startedAs('primary', { inForce: primary, former: undefined }, (lease) => void lease.condemn());
    assert.equal(await started, false);
  });

  it('does not happen when a fence was answered while it was prepared', async () => {
    const standing: Standing = { inForce: primary, former: undefined };
    const started = await startedAs('primary', standing, () => {
      standing.inForce = undefined;
      standing.former = primary;
    });
    assert.equal(started, false);
  });
});

describe('the start of Postgres as standby', () => {
  it('needs no handle, and happens by former orders while the member is fenced', async () => {
    const fenced = startedAs('standby', { inForce: undefined, former: follower }, nothing);
    assert.equal(await fenced, true);
  });
});
