import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Patience, type PatienceView } from '#agent/member/patience.ts';

const well: PatienceView = { isAsked: true, isServing: true, isConfirmed: true, isLeaseHeld: true };
const silent: PatienceView = { ...well, isServing: false };
const leaseless: PatienceView = { ...silent, isLeaseHeld: false };

describe('the patience with a primary', () => {
  const begun = () => {
    let now = 100_000;
    const patience = new Patience(() => now);
    return {
      patience,
      after: (ms: number, view: PatienceView) => {
        now += ms;
        patience.look(view);
        return patience.release;
      },
    };
  };

  it('ends 10 s after it could have served', () => {
    const { after } = begun();
    assert.equal(after(0, well), 'none');
    assert.equal(after(100, silent), 'none');
    assert.equal(after(9_999, silent), 'none');
    assert.equal(after(1, silent), 'Postgres');
  });

  it('ends with the third start that fails, and a start that serves forgets those before', () => {
    const { patience, after } = begun();
    patience.startFailed();
    patience.startFailed();
    assert.equal(after(0, silent), 'none');
    after(0, well);
    patience.startFailed();
    patience.startFailed();
    assert.equal(after(0, silent), 'none');
    patience.startFailed();
    assert.equal(after(0, silent), 'Postgres');
  });

  it('ends 2 s after a lease it had is gone, and is back with the lease', () => {
    const { after } = begun();
    after(0, well);
    assert.equal(after(100, leaseless), 'none');
    assert.equal(after(1_999, leaseless), 'none');
    assert.equal(after(1, leaseless), 'Lease');
    assert.equal(after(1_000, silent), 'none');
  });

  it('never ends for a lease that it has not had yet, but is tired of waiting after a second', () => {
    const { patience, after } = begun();
    assert.equal(after(0, leaseless), 'none');
    assert.equal(patience.isTiredOfWaiting, false);
    assert.equal(after(1_000, leaseless), 'none');
    assert.equal(patience.isTiredOfWaiting, true);
    assert.equal(after(60_000, leaseless), 'none');
    after(0, well);
    assert.equal(patience.isTiredOfWaiting, false);
  });

  it('begins anew after a pause, and is longer each time', () => {
    const { after } = begun();
    after(0, silent);
    assert.equal(after(10_000, silent), 'Postgres');
    assert.equal(after(29_999, silent), 'Postgres');
    assert.equal(after(1, silent), 'none');
    assert.equal(after(0, silent), 'none');
    assert.equal(after(19_999, silent), 'none');
    assert.equal(after(1, silent), 'Postgres');
  });

  it('is nobody’s who is not asked to be primary', () => {
    const { patience, after } = begun();
    for (let start = 0; start < 5; start += 1) patience.startFailed();
    assert.equal(after(0, { ...silent, isAsked: false }), 'none');
    assert.equal(after(60_000, { ...leaseless, isAsked: false }), 'none');
  });
});
