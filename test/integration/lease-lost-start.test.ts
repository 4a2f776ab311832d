/**
 * A lease that is lost while Postgres is about to be started as primary: the handle was armed for that start, and is let go
 * because nothing of Postgres runs; what was about to begin must not begin then. The start is held at the last file that it
 * writes before (a pipe that nobody reads).
 */
import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { memberPaths } from '#core/names.ts';
import { type ThreeRegions, threeRegions } from './three-regions.ts';

let all: ThreeRegions;

before(async () => {
  all = await threeRegions('begun');
  await all.shard.bringUp();
});
after(() => all?.keyspace.stop());

it('a primary is not started by a handle that was let go meanwhile, and opens once it has a lease again', async () => {
  const { eu, us, ap } = all;
  const inData = async (script: string): Promise<string> =>
    (await eu.exec('sh', '-c', `cd ${memberPaths.pgdata} && ${script}`)).output;
  const until = async (isSo: () => Promise<boolean>): Promise<void> => {
    const giveUpAt = performance.now() + 20_000;
    while (!(await isSo())) {
      assert.ok(performance.now() < giveUpAt, await eu.log());
      await sleep(50);
    }
  };
  await inData('rm pg_ident.conf && mkfifo pg_ident.conf && : > pg_hba.conf');
  await inData('kill -KILL $(head -n 1 postmaster.pid)');
  await until(async () => (await inData('test -s pg_hba.conf && echo written')).includes('written'));
  // Armed, and with a lease: all that is left is to begin.
  assert.ok(((await eu.authority()).primary?.leaseRemainingMs ?? 0) > 0);

  await Promise.all([us.kill(), ap.kill()]);
  await until(async () => (await eu.log(400)).includes('lease lost: Postgres is stopped'));
  // Past the deadline that it had: process 1 was told in time that there is nothing to end.
  await sleep(1_000);
  assert.equal((await eu.authority()).primary?.leaseRemainingMs, 0);
  await inData('timeout 5 cat pg_ident.conf; rm -f pg_ident.conf');
  await sleep(1_500);
  assert.doesNotMatch(await eu.log(400), /handle is not armed/, 'it was started, and nobody would have ended it');
  assert.equal((await eu.status()).postgres?.open ?? false, false);

  await Promise.all([us.startAgain(), ap.startAgain()]);
  await eu.until('open', ({ phase, postgres }) => phase === 'Primary' && postgres?.open === true);
});
