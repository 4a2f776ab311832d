// Where everything that outlives a command is kept: one folder outside the checkout, so that a second checkout starts
// warm. Also the locks that let two commands (a demo and a test run, say) ask for the same thing at once.
import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:net';
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
 * Runs `work` while no other process of this machine runs under the same name for the same cache. The lock is a socket
 * in Linux' abstract namespace (unix(7)): only one process can be bound to a name, and the kernel lets go of it when
 * that process ends, however it ends. Elsewhere there is no such thing, and no lock. Not re-entrant.
 */
export async function withLock<T>(name: string, work: () => Promise<T>): Promise<T> {
  if (process.platform !== 'linux') return work();
  let lock = await tryLock(name);
  if (lock === undefined) note(`waits for another process that is busy with: ${name}`);
  while (lock === undefined) {
    await sleep(LOCK_POLL_MS);
    lock = await tryLock(name);
  }
  try {
    return await work();
  } finally {
    lock.close();
  }
}

function tryLock(name: string): Promise<Server | undefined> {
  // Names of sockets are short, paths of folders may not be.
  const folder = createHash('sha256').update(cacheFolder()).digest('hex').slice(0, 16);
  const server = createServer((socket) => socket.destroy());
  server.unref();
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(undefined);
      else reject(error);
    });
    server.listen(`\0meridian/${folder}/${name}`, () => resolve(server));
  });
}
