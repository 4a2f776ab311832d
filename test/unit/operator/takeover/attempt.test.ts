/** One attempt by itself, at what a whole shard can't be brought to do: a turn that comes late. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WatchedLease } from '#core/authority/fence.ts';
import { primaryOf } from '#core/authority/record.ts';
import { type MemberIdentity, replicationName } from '#core/identity.ts';
import { ApiError } from '#kube/errors.ts';
import { type AttemptMeans, runAttempt } from '#operator/takeover/attempt.ts';
import { World } from './world.ts';

class Bench {
  readonly world = new World(2, { durability: { acknowledgements: 0, scope: 'AnyMember', onLoss: 'Block' } });
  readonly handed: string[] = [];
  /** As it is; `seen`: as a watch shows it, that was last looked at when it was handed over. */
  holder = '';
  seen = '';
  whileWaiting: () => void = () => undefined;
  isAway = false;

  async run(): Promise<string> {
    const { world } = this;
    world.kill('a-eu-0');
    await world.time.run(3_000, () => false);
    const lease = (holder: string): WatchedLease => ({ holder, unchangedSinceMs: world.time.nowMs - 60_000 });
    const means: AttemptMeans = {
      nowMs: () => world.time.nowMs,
      wallClock: () => new Date(world.time.nowMs),
      signal: new AbortController().signal,
      read: async () => world.read(),
      write: async (shard) => world.write(shard),
      ping: async (record) =>
        new Map(
          record.membership.members.map((member) => {
            const answer = world.answer(member.name);
            const atMs = world.time.nowMs;
            return [
              replicationName(member),
              answer === undefined ? { kind: 'Silent', sinceMs: atMs - 5_000 } : { kind: 'Answered', answer, atMs },
            ];
          }),
        ),
      fence: async (member, epoch) => world.fence(member.name, member, epoch),
      ship: async () => undefined,
      watchLease: async () => lease(this.seen),
      lookAtLease: async () => {
        if (this.isAway) throw new ApiError(0, 'GET', { reason: 'Timeout', message: 'no answer' });
        this.seen = this.holder;
        return lease(this.seen);
      },
      handLease: async (holder: MemberIdentity, epoch: number) => {
        this.handed.push(`${holder.name} ${epoch}`);
        this.holder = replicationName(holder);
        this.seen = this.holder;
      },
      candidates: () => [...world.members.values()],
      regions: () => ['eu', 'us'],
      heard: () => undefined,
      distrust: () => undefined,
      takeTurn: async () => this.whileWaiting(),
      pause: (ms) => world.time.sleep(ms),
      tell: () => undefined,
    };
    let outcome = '';
    void runAttempt({ kind: 'Recover' }, 'it is silent', means).then(({ kind }) => {
      outcome = kind;
    });
    await world.time.run(30_000, () => outcome !== '');
    return outcome;
  }
}

test('a Lease that was taken back while a turn was waited for is handed over again before anything is decided', async () => {
  const bench = new Bench();
  const old = replicationName(primaryOf(bench.world.record));
  bench.whileWaiting = () => {
    bench.holder = old;
  };
  assert.equal(await bench.run(), 'Decided');
  assert.deepEqual(bench.handed, ['a-us-0 2', 'a-us-0 2']);
  assert.equal(bench.holder, replicationName(primaryOf(bench.world.record)));
});

test('where the Lease cannot be looked at right before, nothing is decided', async () => {
  const bench = new Bench();
  bench.whileWaiting = () => {
    bench.isAway = true;
  };
  assert.equal(await bench.run(), 'Stopped');
  assert.equal(bench.world.record.authority.epoch, 1);
});
