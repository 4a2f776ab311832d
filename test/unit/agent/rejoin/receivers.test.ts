/** With a folder in the place of /proc. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Receivers } from '#agent/rejoin/receivers.ts';

describe('what was received before', () => {
  let proc: string;
  let receivers: Receivers;

  const run = async (pid: number): Promise<void> => {
    await mkdir(join(proc, String(pid)));
    await writeFile(join(proc, String(pid), 'cmdline'), 'postgres: walreceiver streaming 0/3000000');
  };
  const end = (pid: number): Promise<void> => rm(join(proc, String(pid)), { recursive: true });
  const settled = async (wait: Promise<boolean>): Promise<boolean | undefined> =>
    Promise.race([wait, sleep(50, undefined)]);

  beforeEach(async () => {
    proc = await mkdtemp(join(tmpdir(), 'meridian-proc-'));
    receivers = new Receivers(proc);
  });
  afterEach(() => rm(proc, { recursive: true, force: true }));

  it('is waited for by everybody who asks, not by the first alone', async () => {
    await run(7);
    receivers.begin();
    const first = receivers.gone();
    const second = receivers.gone();
    assert.deepEqual([await settled(first), await settled(second)], [undefined, undefined]);
    await end(7);
    assert.deepEqual([await first, await second, await receivers.gone()], [true, true, true]);
  });

  it('is waited for again by who asks after it took too long', async () => {
    await run(7);
    receivers.begin();
    assert.equal(await receivers.gone(), false);
    const again = receivers.gone();
    assert.equal(await settled(again), undefined);
    await end(7);
    assert.equal(await again, true);
  });

  it('counts anew when something is received again, whoever waits already', async () => {
    await run(7);
    receivers.begin();
    const first = receivers.gone();
    await sleep(20);
    await run(8);
    receivers.begin();
    const second = receivers.gone();
    await sleep(20);
    await end(7);
    assert.equal(await first, true, 'the receiver that it asked about has gone');
    assert.equal(await settled(second), undefined);
    assert.equal(await settled(receivers.gone()), undefined, 'the end of the first wait says nothing of the other');
    await end(8);
    assert.equal(await second, true);
  });

  it('is nothing where nothing was ever followed', async () => {
    await run(7);
    assert.equal(await receivers.gone(), true);
  });
});
