// Where everything that outlives a command is kept: one folder outside the checkout, so that a second checkout starts
// warm. Also the locks that let two commands (a demo and a test run, say) ask for the same thing at once.
import { open, mkdir, readFile, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { note } from './progress.ts';

export function cacheFolder(env: NodeJS.ProcessEnv = process.env, home: string = homedir()): string {
  const own = env['MERIDIAN_CACHE'];
  if (own !== undefined && own !== '') return own;
  const xdg = env['XDG_CACHE_HOME'];
  return join(xdg !== undefined && xdg !== '' ? xdg : join(home, '.cache'), 'meridian');
}

export function cachePath(...parts: string[]): string {
  return join(cacheFolder(), ...parts);
}

const LOCK_POLL_MS = 200;

/**
 * Runs `work` while no other process of this machine runs under the same name. A lock left by a process that is no
 * longer there is taken over. Not re-entrant.
 */
export async function withLock<T>(name: string, work: () => Promise<T>): Promise<T> {
  const folder = cachePath('locks');
  const path = join(folder, name);
  await mkdir(folder, { recursive: true });
  let told = false;
  while (!(await tryLock(path))) {
    const owner = Number.parseInt(await readFile(path, 'utf8').catch(() => ''), 10);
    if (Number.isInteger(owner) && !isAlive(owner)) {
      await rm(path, { force: true });
      continue;
    }
    if (!told) {
      note(`waits for process ${owner} (it holds ${path})`);
      told = true;
    }
    await sleep(LOCK_POLL_MS);
  }
  try {
    return await work();
  } finally {
    await rm(path, { force: true });
  }
}

async function tryLock(path: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx');
    await file.writeFile(String(process.pid));
    await file.close();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
