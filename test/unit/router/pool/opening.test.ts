/** Connections are opened a few at a time, and a full member is given the time to notice that one was closed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemberRefusal, type OpenedConnection } from '#router/pool/connect.ts';
import { maxOpening, openConnection } from '#router/pool/opening.ts';
import { Pool } from '#router/pool/pool.ts';
import { Tally } from '#router/pool/tally.ts';

const full = (): MemberRefusal => new MemberRefusal(new Map([['C', '53300']]));
const opened = {} as OpenedConnection;

/** A member that answers `53300` so often, by a clock of its own. */
function fullMember({ refusals, idle, msEach = 25 }: { refusals: number; idle: number; msEach?: number }) {
  const seen = { asked: 0, closed: 0, nowMs: 5_000 };
  return {
    seen,
    connect: async () => {
      seen.asked += 1;
      seen.nowMs += msEach;
      if (seen.asked <= refusals) throw full();
      return opened;
    },
    makeRoom: () => {
      if (seen.closed === idle) return false;
      seen.closed += 1;
      return true;
    },
    isWanted: () => true,
    now: () => seen.nowMs,
  };
}

test('one connection gives way for one, however often the member has to be asked until it has noticed', async () => {
  const member = fullMember({ refusals: 8, idle: 3 });
  assert.equal(await openConnection(member), opened);
  assert.deepEqual([member.seen.asked, member.seen.closed], [9, 1]);
});

test('another gives way when somebody else seems to have got the first one’s place', async () => {
  const member = fullMember({ refusals: 5, idle: 3, msEach: 600 });
  assert.equal(await openConnection(member), opened);
  assert.deepEqual([member.seen.asked, member.seen.closed], [6, 3]);
});

test('a full member is an error where no connection is idle', async () => {
  const member = fullMember({ refusals: 1, idle: 0 });
  await assert.rejects(openConnection(member), { sqlstate: '53300' });
  assert.equal(member.seen.asked, 1);
});

test('nothing is opened any more when nobody waits', async () => {
  const member = { ...fullMember({ refusals: 9, idle: 1 }), isWanted: () => false };
  assert.equal(await openConnection(member), undefined);
  assert.equal(member.seen.asked, 1);
});

test('any other refusal is said at once', async () => {
  const connect = (): Promise<never> => Promise.reject(new MemberRefusal(new Map([['C', '28000']])));
  const member = { ...fullMember({ refusals: 0, idle: 1 }), connect };
  await assert.rejects(openConnection(member), { sqlstate: '28000' });
  assert.equal(member.seen.closed, 0);
});

test('a pool that many want connections of opens a few at a time', async () => {
  const pending: ((error: Error) => void)[] = [];
  const pool = new Pool({
    member: 'one-eu-0',
    role: 'app',
    connect: () => new Promise((_resolve, reject) => pending.push(reject)),
    limits: () => ({ size: 150, waitMs: 60_000, idleMs: 1_000, lifetimeMs: 1_000 }),
    generation: () => 'one',
    primaryEpoch: () => 1,
    reached: () => undefined,
    now: () => 0,
    tally: new Tally(),
    isPaused: false,
  });
  const failed: Error[] = [];
  for (let index = 0; index < 100; index++)
    pool.take({ give: () => assert.fail(), fail: (error) => failed.push(error) }, { settings: '', pin: 'acme' });
  assert.equal(pending.length, maxOpening);
  // A refusal is one client's; the next connection is opened in its place.
  pending[0]?.(new MemberRefusal(new Map([['C', '28000']])));
  await new Promise(setImmediate);
  assert.equal(failed.length, 1);
  assert.equal(pending.length, maxOpening + 1);
  pool.close();
});
