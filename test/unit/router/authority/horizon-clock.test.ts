import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { HorizonClock } from '#router/authority/horizon-clock.ts';

/** A machine: the boot-time clock is read in steps of 10 ms, downwards, as /proc/uptime shows it. */
class Machine {
  boot = 1_000_000;
  monotonic = 5_000;
  wall = 1_700_000_000_000;
  readings = 0;

  readonly clock = new HorizonClock({
    bootMs: () => {
      this.readings += 1;
      return Math.floor(this.boot / 10) * 10;
    },
    monotonicMs: () => this.monotonic,
    wallMs: () => Math.floor(this.wall),
  });

  run(ms: number): void {
    this.boot += ms;
    this.monotonic += ms;
    this.wall += ms;
  }

  /** The machine sleeps: only the monotonic clock stands still. */
  suspend(ms: number): void {
    this.boot += ms;
    this.wall += ms;
  }
}

describe('the clock of the horizon', () => {
  test('reads the boot-time clock once for many questions that are far from the limit', () => {
    const machine = new Machine();
    const limit = machine.boot + 2_000;
    for (let index = 0; index < 1_000; index++) {
      machine.run(0.04);
      assert.ok(machine.clock.isBefore(limit));
    }
    assert.ok(machine.readings <= 2, `${machine.readings} readings`);
  });

  test('sees a suspension at once, though the monotonic clock shows nothing of it', () => {
    const machine = new Machine();
    const limit = machine.boot + 2_000;
    assert.ok(machine.clock.isBefore(limit));
    machine.suspend(3_000);
    assert.ok(!machine.clock.isBefore(limit));
  });

  test('does not trust a wall clock that was set back', () => {
    const machine = new Machine();
    const limit = machine.boot + 2_000;
    assert.ok(machine.clock.isBefore(limit));
    const before = machine.readings;
    machine.wall -= 10_000;
    machine.run(1);
    assert.ok(machine.clock.isBefore(limit));
    assert.equal(machine.readings, before + 1);
  });

  test('never says before when it is not, whatever runs and sleeps', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({ run: fc.double({ min: 0, max: 120, noNaN: true }), sleep: fc.constantFrom(0, 0, 0, 7, 300) }),
          {
            maxLength: 60,
          },
        ),
        fc.integer({ min: 0, max: 3_000 }),
        (steps, horizon) => {
          const machine = new Machine();
          const limit = machine.boot + horizon;
          for (const { run, sleep } of steps) {
            machine.run(run);
            machine.suspend(sleep);
            if (machine.clock.isBefore(limit)) assert.ok(machine.boot < limit, `${machine.boot} < ${limit}`);
            // Within what the clock can tell it isn't too careful, either.
            else assert.ok(machine.boot + 25 > limit, `${machine.boot} + 25 > ${limit}`);
          }
        },
      ),
    );
  });

  test('says a time of sending that is not ahead, and one of receiving that is not behind', () => {
    const machine = new Machine();
    machine.run(7.5);
    assert.ok(machine.clock.earliestMs() <= machine.boot);
    assert.ok(machine.clock.latestMs() >= machine.boot);
  });
});
