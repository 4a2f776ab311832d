import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { cacheFolder, withLock } from '#cluster/cache.ts';

test('the cache folder is MERIDIAN_CACHE, else under XDG_CACHE_HOME, else under ~/.cache', () => {
  assert.equal(cacheFolder({ MERIDIAN_CACHE: '/own', XDG_CACHE_HOME: '/xdg' }, '/home/me'), '/own');
  assert.equal(cacheFolder({ MERIDIAN_CACHE: '', XDG_CACHE_HOME: '/xdg' }, '/home/me'), '/xdg/meridian');
  assert.equal(cacheFolder({}, '/home/me'), '/home/me/.cache/meridian');
});

test('what runs under one lock runs one after another', async () => {
  const seen: string[] = [];
  const work = (name: string) => async (): Promise<void> => {
    seen.push(`${name} starts`);
    await sleep(20);
    seen.push(`${name} ends`);
  };
  await Promise.all([withLock('unit-a', work('first')), withLock('unit-a', work('second'))]);
  assert.deepEqual(seen, ['first starts', 'first ends', 'second starts', 'second ends']);
});

test('a failure lets go of the lock', async () => {
  await assert.rejects(
    withLock('unit-b', () => Promise.reject(new Error('no'))),
    /no/,
  );
  assert.equal(await withLock('unit-b', async () => 'yes'), 'yes');
});

test('a process that is killed lets go of its lock', async () => {
  const module = join(import.meta.dirname, '../../cluster/cache.ts');
  const script = `import { withLock } from ${JSON.stringify(module)};
    await withLock('unit-c', () => new Promise(() => { console.log('held'); setInterval(() => {}, 1000); }));`;
  const holder = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(holder.stdout, 'data');
  let taken = false;
  const waiting = withLock('unit-c', async () => {
    taken = true;
  });
  await sleep(300);
  assert.equal(taken, false);
  holder.kill('SIGKILL');
  await waiting;
  assert.equal(taken, true);
});
