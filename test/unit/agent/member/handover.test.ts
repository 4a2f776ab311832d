import assert from 'node:assert/strict';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { HandOver } from '#agent/member/handover.ts';

const handOver = (wish: { areDrained: () => boolean; quietMs?: number; stopMs?: number }) => {
  const events: string[] = [];
  const begunAt = performance.now();
  const made = new HandOver({
    routers: { areDrained: wish.areDrained },
    endCommits: () => events.push('commits end'),
    closeTunnels: () => events.push('tunnels close'),
    stopPostgres: async (_fastMs, onShutdown) => {
      events.push('stop');
      if (wish.quietMs !== undefined) await sleep(wish.quietMs);
      onShutdown();
      events.push('shutdown');
      await sleep(wish.stopMs ?? 0);
      events.push('down');
    },
    log: { info: () => {} },
  });
  return { made, events, elapsedMs: () => performance.now() - begunAt };
};
const done = async (made: HandOver): Promise<void> => {
  while (made.isRunning) await sleep(5);
};

it('a handover waits for the routers, and stops once however often it is asked for', async () => {
  let drained = false;
  const { made, events } = handOver({ areDrained: () => drained });
  made.begin(1);
  made.begin(1);
  await sleep(50);
  assert.deepEqual([made.isRunning, events], [true, []]);
  drained = true;
  await done(made);
  assert.deepEqual(events, ['commits end', 'stop', 'shutdown', 'down']);
});

it('a router that does not finish holds it up for 1.5 s, and a follower that does not take the log for 2 s more', async () => {
  const { made, events, elapsedMs } = handOver({ areDrained: () => false, stopMs: 2_300 });
  made.begin(1);
  await done(made);
  assert.deepEqual(events, ['commits end', 'stop', 'shutdown', 'tunnels close', 'down']);
  assert.ok(elapsedMs() >= 3_700 && elapsedMs() < 20_000);
});

it('what comes before the shutdown takes nothing from the time that followers have for the log', async () => {
  const { made, events } = handOver({ areDrained: () => true, quietMs: 2_200 });
  made.begin(1);
  await done(made);
  assert.deepEqual(events, ['commits end', 'stop', 'shutdown', 'down']);
});
