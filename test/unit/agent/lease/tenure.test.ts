/** A primary's lease over time, on a clock of its own and with a file in the place of process 1. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import { DeadMansHandle } from '#agent/lease/handle.ts';
import { LeaseMemory } from '#agent/lease/memory.ts';
import type { ServeWish } from '#agent/lease/messages.ts';
import { Tenure } from '#agent/lease/tenure.ts';
import { leaseMarginMs, leaseMs, quitBeforeMs } from '#core/authority/timing.ts';
import { type MemberIdentity, replicationName } from '#core/identity.ts';
import { a, b, c, serving } from './keepers.ts';

const EFFECTIVE_MS = leaseMs - leaseMarginMs;
/** What the clock's coarseness takes off every reading. */
const COARSE_MS = 10;
const LOST_BEFORE_MS = quitBeforeMs + 50;

class Lab {
  nowMs = 1_000_000;
  readonly memory = new LeaseMemory(undefined, () => this.nowMs);
  readonly lost: string[] = [];
  readonly tenure: Tenure;
  #n = 0;
  #rest = '';
  readonly #reading: number;

  constructor(reading: number, writing: number | undefined) {
    this.#reading = reading;
    this.tenure = new Tenure({
      memory: this.memory,
      handle: new DeadMansHandle(writing),
      now: () => this.nowMs,
      onLost: (reason) => this.lost.push(reason),
      log: { info: () => {}, warn: () => {}, error: () => {} },
    });
  }

  grant(member: MemberIdentity, { epoch = 1, generation = 1, sentAtMs = this.nowMs, lengthMs = leaseMs } = {}): void {
    this.#n += 1;
    this.tenure.granted(member, { type: 'grant', epoch, generation, n: this.#n, leaseMs: lengthMs }, sentAtMs);
  }

  pass(ms: number): void {
    this.nowMs += ms;
    this.tenure.tick();
  }

  get remainingMs(): number | null {
    return this.memory.remainingMs(this.memory.lease().untilMs);
  }

  get exactMs(): number | null {
    return this.memory.remainingMs(this.memory.lease().exactUntilMs);
  }

  /** The lines that process 1 would have read since the last look. */
  told(): string[] {
    const buffer = Buffer.alloc(65_536);
    this.#rest += buffer.toString('latin1', 0, readSync(this.#reading, buffer));
    const lines = this.#rest.split('\n');
    this.#rest = lines.pop() ?? '';
    return lines;
  }
}

/** Whether it has resolved by now. */
async function isDone(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  void promise.then(() => {
    done = true;
  });
  for (let turn = 0; turn < 5; turn++) await Promise.resolve();
  return done;
}

const lease = (
  members: readonly MemberIdentity[],
  required = 1,
  wish: Partial<ServeWish> & { kubernetes?: boolean } = {},
): ServeWish => {
  const { kubernetes = false, ...rest } = wish;
  return serving([a, b, c], { lease: { members: [...members], required, kubernetes }, ...rest });
};

describe('the tenure of a primary', () => {
  let folder: string;
  let reading: number;
  let writing: number;
  let lab: Lab;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'meridian-tenure-'));
    writing = openSync(join(folder, 'told'), 'a');
    reading = openSync(join(folder, 'told'), 'r');
  });
  beforeEach(() => {
    lab = new Lab(reading, writing);
    lab.told();
  });
  after(() => {
    closeSync(reading);
    closeSync(writing);
    rmSync(folder, { recursive: true });
  });

  it('counts a grant from when its question was sent', async () => {
    await lab.tenure.serve(lease([b]));
    assert.equal(lab.remainingMs, 0);
    lab.grant(b, { sentAtMs: lab.nowMs - 700 });
    assert.equal(lab.remainingMs, EFFECTIVE_MS - 700 - COARSE_MS);
    lab.grant(b, { sentAtMs: lab.nowMs - 900 });
    assert.equal(lab.remainingMs, EFFECTIVE_MS - 700 - COARSE_MS, 'an older answer that comes late takes nothing away');
  });

  it('shows whose grants it has, how old they are, and what is left of them', async () => {
    await lab.tenure.serve(lease([b, c]));
    lab.grant(b, { sentAtMs: lab.nowMs - 700 });
    lab.grant(c);
    lab.pass(EFFECTIVE_MS - 700);
    assert.deepEqual(lab.tenure.grantsSeen, [
      { from: replicationName(b), ageMs: EFFECTIVE_MS, remainingMs: 0 },
      { from: replicationName(c), ageMs: EFFECTIVE_MS - 700, remainingMs: 700 },
    ]);
  });

  it('takes the shorter of the two where the follower means another length', async () => {
    await lab.tenure.serve(lease([b]));
    lab.grant(b, { lengthMs: 60_000 });
    assert.equal(lab.remainingMs, EFFECTIVE_MS - COARSE_MS);
    lab.pass(10);
    lab.grant(b, { lengthMs: 500 });
    assert.equal(lab.remainingMs, EFFECTIVE_MS - COARSE_MS - 10);
  });

  it('counts nobody whom the settings do not list, and no other epoch, generation or incarnation', async () => {
    await lab.tenure.serve(lease([b], 1, { epoch: 3, generation: 7 }));
    lab.grant(c, { epoch: 3, generation: 7 });
    lab.grant(b, { epoch: 2, generation: 7 });
    lab.grant(b, { epoch: 3, generation: 6 });
    lab.grant({ ...b, incarnation: 'dddddddddddddddd' }, { epoch: 3, generation: 7 });
    assert.equal(lab.remainingMs, 0);
    lab.grant(b, { epoch: 3, generation: 7 });
    assert.notEqual(lab.remainingMs, 0);
  });

  it('needs as many as are required: the k-th latest counts', async () => {
    await lab.tenure.serve(lease([b, c], 2));
    lab.grant(b);
    assert.equal(lab.remainingMs, 0);
    lab.pass(1_000);
    lab.grant(c);
    assert.equal(lab.remainingMs, EFFECTIVE_MS - 1_000 - COARSE_MS);
  });

  it('needs nothing where nobody else could take over', async () => {
    await lab.tenure.serve(lease([], 0));
    assert.equal(lab.remainingMs, null);
    await lab.tenure.serve(lease([], 0, { generation: 2 }));
    assert.equal(lab.memory.lease().generation, 2);
    lab.tenure.end();
    assert.equal(lab.remainingMs, 0);
  });

  it('with k = 0 stands by the Kubernetes Lease, or by all the others together', async () => {
    await lab.tenure.serve(lease([b, c], 0, { kubernetes: true }));
    assert.equal(lab.remainingMs, 0);
    lab.grant(b);
    assert.equal(lab.remainingMs, 0, 'one of them is not all');
    lab.grant(c);
    assert.equal(lab.remainingMs, EFFECTIVE_MS - COARSE_MS);
    lab.tenure.kubernetesHeldUntil(lab.nowMs + 14_000);
    assert.equal(lab.remainingMs, 14_000 - COARSE_MS);
    lab.tenure.kubernetesHeldUntil(0);
    assert.equal(lab.remainingMs, EFFECTIVE_MS - COARSE_MS);
  });

  describe('while the membership changes', () => {
    it('stays with the old settings until the new ones are fulfilled', async () => {
      await lab.tenure.serve(lease([b]));
      lab.grant(b);
      const both = lab.tenure.serve(lease([b, c], 2, { generation: 2 }));
      assert.equal(await isDone(both), false);
      lab.pass(100);
      lab.grant(b, { generation: 2 });
      assert.equal(await isDone(both), false);
      assert.equal(lab.remainingMs, EFFECTIVE_MS - COARSE_MS, 'and is fed by the answers to the new questions');
      assert.equal(lab.memory.lease().generation, 1);
      lab.grant(c, { generation: 2 });
      assert.equal(await isDone(both), true);
      assert.equal(lab.memory.lease().generation, 2);
      assert.equal(lab.exactMs, EFFECTIVE_MS - COARSE_MS);
    });

    it('has dropped the grants of whoever is listed no more when it says so (A8)', async () => {
      await lab.tenure.serve(lease([b, c]));
      lab.pass(100);
      lab.grant(c);
      const removed = lab.tenure.serve(lease([b], 1, { generation: 2 }));
      assert.equal(await isDone(removed), false, 'without the one that is removed nothing holds');
      lab.pass(100);
      lab.grant(c);
      lab.grant(b, { generation: 2, sentAtMs: lab.nowMs - 50 });
      assert.equal(await isDone(removed), true);
      assert.equal(lab.remainingMs, EFFECTIVE_MS - 50 - COARSE_MS, 'by b alone, though c has granted later');
      lab.pass(10);
      lab.grant(c, { generation: 2 });
      assert.equal(lab.remainingMs, EFFECTIVE_MS - 60 - COARSE_MS);
    });

    it('is in force only by answers to questions that were asked since', async () => {
      await lab.tenure.serve(lease([b, c]));
      lab.grant(b);
      const sent = lab.nowMs;
      lab.pass(50);
      const next = lab.tenure.serve(lease([b], 1, { generation: 2 }));
      assert.equal(await isDone(next), false);
      assert.notEqual(lab.remainingMs, 0);
      lab.grant(b, { generation: 2, sentAtMs: sent });
      assert.equal(await isDone(next), false);
      lab.grant(b, { generation: 2 });
      assert.equal(await isDone(next), true);
      assert.notEqual(lab.exactMs, 0);
    });

    it('is lost with the old settings where the new ones were never fulfilled', async () => {
      await lab.tenure.serve(lease([b]));
      lab.grant(b);
      lab.tenure.arm(77);
      void lab.tenure.serve(lease([c], 1, { generation: 2 }));
      for (let turn = 0; turn < 50; turn++) {
        lab.pass(300);
        lab.grant(b, { generation: 2 });
      }
      assert.equal(lab.lost.length, 0, 'a change of settings never ends a primary');
      assert.equal(lab.memory.lease().generation, 1);
      lab.pass(EFFECTIVE_MS);
      assert.equal(lab.lost.length, 1);
    });

    it('keeps a primary that needed nobody until the first of those that it will need has granted', async () => {
      await lab.tenure.serve(lease([], 0));
      lab.tenure.arm(77);
      const next = lab.tenure.serve(lease([b], 1, { generation: 2 }));
      lab.pass(60_000);
      assert.equal(await isDone(next), false);
      assert.equal(lab.remainingMs, null);
      lab.grant(b, { generation: 2 });
      assert.equal(await isDone(next), true);
      assert.equal(lab.told().at(-1), `arm ${lab.nowMs + EFFECTIVE_MS} 77`);
    });

    it('takes the new settings at once where it holds nothing, and when the old ones have run out', async () => {
      assert.equal(await isDone(lab.tenure.serve(lease([b]))), true);
      lab.grant(b);
      const next = lab.tenure.serve(lease([c], 1, { generation: 2 }));
      lab.pass(EFFECTIVE_MS);
      assert.equal(await isDone(next), true);
      assert.equal(lab.remainingMs, 0);
    });

    it('goes back to settings that are ordered again', async () => {
      await lab.tenure.serve(lease([b]));
      lab.grant(b);
      const never = lab.tenure.serve(lease([c], 1, { generation: 2 }));
      assert.equal(await isDone(lab.tenure.serve(lease([b]))), true);
      assert.equal(await isDone(never), false);
      assert.equal(lab.memory.lease().generation, 1);
    });

    it('goes from one epoch to the next without a gap, each by its own grants', async () => {
      await lab.tenure.serve(lease([b]));
      lab.grant(b);
      const next = lab.tenure.serve(lease([b], 1, { epoch: 2, generation: 2 }));
      assert.equal(await isDone(next), false, 'a grant at the old epoch is none at the new one');
      lab.grant(b, { epoch: 2, generation: 2 });
      assert.equal(await isDone(next), true);
      assert.equal(lab.memory.lease().number, 0);
    });
  });

  describe('with the handle armed', () => {
    it('tells process 1 every deadline, and none before the lease is held', async () => {
      await lab.tenure.serve(lease([b]));
      lab.tenure.arm(0);
      lab.grant(b);
      lab.tenure.setPostmaster(77);
      lab.pass(300);
      lab.grant(b);
      const first = 1_000_000 + EFFECTIVE_MS;
      assert.deepEqual(lab.told(), ['arm 0 0', `arm ${first} 0`, `arm ${first} 77`, `arm ${first + 300} 77`]);
    });

    it('gives up before process 1 does, says so once, and stays lost until it is disarmed', async () => {
      await lab.tenure.serve(lease([b]));
      lab.grant(b);
      lab.tenure.arm(77);
      lab.pass(EFFECTIVE_MS - LOST_BEFORE_MS - 1);
      assert.deepEqual(lab.lost, []);
      assert.equal(lab.remainingMs, LOST_BEFORE_MS + 1 - COARSE_MS);
      lab.pass(1);
      assert.equal(lab.lost.length, 1);
      assert.equal(lab.remainingMs, 0);
      lab.told();
      lab.grant(b);
      lab.pass(10);
      assert.equal(lab.remainingMs, 0);
      assert.deepEqual(lab.told(), [], 'a deadline that has fired is not renewed');
      assert.throws(() => lab.tenure.arm(78), /disarmed first/);
      lab.tenure.disarm();
      assert.notEqual(lab.remainingMs, 0, 'the grants are there all the same');
      assert.equal(lab.memory.lease().number, 1);
      lab.tenure.arm(78);
      assert.match(lab.told().at(-1) ?? '', /^arm \d{7} 78$/);
      assert.equal(lab.lost.length, 1);
    });

    it('looks at the clock before it takes a grant that waited while it was paused', async () => {
      await lab.tenure.serve(lease([b]));
      lab.grant(b);
      lab.tenure.arm(77);
      lab.nowMs += EFFECTIVE_MS - 100;
      lab.grant(b, { sentAtMs: lab.nowMs - 200 });
      assert.equal(lab.lost.length, 1);
      assert.equal(lab.remainingMs, 0);
    });

    it('leaves the deadline as it is when the lease is given up', async () => {
      await lab.tenure.serve(lease([b]));
      lab.grant(b);
      lab.tenure.arm(77);
      lab.told();
      lab.tenure.end();
      assert.deepEqual(lab.told(), []);
      assert.equal(lab.lost.length, 1);
      assert.equal(lab.remainingMs, 0);
    });

    it('says of a lease that needs nothing that there is no deadline', async () => {
      await lab.tenure.serve(lease([], 0));
      lab.tenure.arm(77);
      assert.deepEqual(lab.told(), ['arm 0 77']);
      assert.equal(lab.remainingMs, null);
    });

    it('publishes no lease that process 1 was not told of', async () => {
      const broken = new Lab(reading, 999_999);
      await broken.tenure.serve(lease([b]));
      broken.grant(b);
      assert.throws(() => broken.tenure.arm(77), /EBADF/);

      // One that worked, then doesn't, then works again: the descriptor's number leads to a full device meanwhile.
      const descriptor = openSync(join(folder, 'told'), 'a');
      const troubled = new Lab(reading, descriptor);
      await troubled.tenure.serve(lease([b]));
      troubled.grant(b);
      troubled.tenure.arm(77);
      closeSync(descriptor);
      assert.equal(openSync('/dev/full', 'w'), descriptor);
      troubled.pass(300);
      troubled.grant(b);
      assert.equal(troubled.remainingMs, EFFECTIVE_MS - 300 - COARSE_MS, 'as long as it was told last');
      closeSync(descriptor);
      assert.equal(openSync(join(folder, 'told'), 'a'), descriptor);
      troubled.pass(1);
      assert.equal(troubled.remainingMs, EFFECTIVE_MS - 1 - COARSE_MS);
      closeSync(descriptor);
    });
  });

  it('whatever happens: no lease without the grants for it, and none later than process 1 was told', () => {
    const members = [a, b, c];
    const step = fc.oneof(
      fc.record({ kind: fc.constant('pass'), ms: fc.integer({ min: 0, max: 900 }) }),
      fc.record({
        kind: fc.constant('grant'),
        member: fc.nat(2),
        late: fc.nat(1_000),
        generation: fc.integer({ min: 1, max: 3 }),
      }),
      fc.record({
        kind: fc.constant('serve'),
        listed: fc.subarray([0, 1, 2]),
        required: fc.nat(2),
        generation: fc.integer({ min: 1, max: 3 }),
      }),
      fc.record({ kind: fc.constantFrom('arm', 'disarm', 'end') }),
    ) as fc.Arbitrary<{
      kind: string;
      ms?: number;
      member?: number;
      late?: number;
      generation?: number;
      listed?: number[];
      required?: number;
    }>;
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const tried = new Lab(reading, writing);
        tried.told();
        /** When each member's newest granted question was sent. */
        const granted = new Map<MemberIdentity, number>();
        const wishes: ServeWish[] = [];
        let deadlineMs = 0;
        let isArmed = false;
        for (const { kind, ms = 0, member = 0, late = 0, generation = 1, listed = [], required = 0 } of steps) {
          if (kind === 'pass') tried.pass(ms);
          if (kind === 'grant') {
            const who = members[member] ?? a;
            const sentAtMs = tried.nowMs - late;
            granted.set(who, Math.max(granted.get(who) ?? 0, sentAtMs));
            tried.grant(who, { generation, sentAtMs });
          }
          if (kind === 'serve') {
            const chosen = listed.map((index) => members[index] ?? a);
            const wish = lease(chosen, Math.min(required, chosen.length), { generation });
            wishes.push(wish);
            void tried.tenure.serve(wish);
          }
          if (kind === 'end') tried.tenure.end();
          if (kind === 'disarm') tried.tenure.disarm();
          if (kind === 'arm') {
            try {
              tried.tenure.arm(5);
            } catch {
              // Lost, and not disarmed yet.
            }
          }
          for (const line of tried.told()) {
            isArmed = line.startsWith('arm');
            deadlineMs = isArmed ? Number(line.split(' ')[1]) : 0;
          }
          const { untilMs, generation: inForce } = tried.memory.lease();
          if (untilMs === null || untilMs === 0) continue;
          if (isArmed) assert.equal(untilMs, deadlineMs);
          const enough = wishes
            .filter((wish) => wish.generation === inForce)
            .some(({ lease: { members: counted, required: needed } }) => {
              const latest = counted
                .map((who) => members.find(({ name }) => name === who.name) ?? a)
                .map((who) => (granted.get(who) ?? -leaseMs) + EFFECTIVE_MS)
                .toSorted((x, y) => y - x);
              return needed > 0 && (latest[needed - 1] ?? 0) >= untilMs;
            });
          assert.ok(enough, `held until ${untilMs} without the grants for it`);
        }
      }),
      { numRuns: 300 },
    );
  });
});
