// The image that every other image of this project starts from, under the name it has in the public registry. Where
// that can't be reached, the same content is made with debootstrap from Debian's package mirrors (about 40 s, once).
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cachePath, withLock } from '../cache.ts';
import { run, succeeds } from '../process.ts';
import { note, step } from '../progress.ts';
import { ensureDocker, ensurePrograms } from './daemon.ts';

export const BASE_IMAGE = 'debian:trixie-slim';
const SUITE = 'trixie';
const PULL_TIMEOUT_MS = 120_000;

export async function ensureBaseImage(): Promise<void> {
  await ensureDocker();
  if (await exists()) return;
  await withLock('base-image', async () => {
    if (await exists()) return;
    const pulled = await step(`try to pull ${BASE_IMAGE}`, () =>
      succeeds(run, ['docker', 'pull', '-q', BASE_IMAGE], { timeoutMs: PULL_TIMEOUT_MS }),
    );
    if (pulled) return;
    note(`${BASE_IMAGE} can't be pulled here: it is made with debootstrap`);
    if (process.getuid?.() !== 0) {
      throw new Error(
        `${BASE_IMAGE} can't be pulled, and making it with debootstrap takes root. Run this command once as root, or: sudo debootstrap --variant=minbase ${SUITE} /tmp/base && sudo tar -C /tmp/base -c . | docker import - ${BASE_IMAGE}`,
      );
    }
    await ensurePrograms(['debootstrap']);
    await step(`make ${BASE_IMAGE} with debootstrap`, bootstrap);
  });
}

function exists(): Promise<boolean> {
  return succeeds(run, ['docker', 'image', 'inspect', BASE_IMAGE]);
}

async function bootstrap(): Promise<void> {
  await mkdir(cachePath(), { recursive: true });
  const folder = await mkdtemp(cachePath('debootstrap-'));
  try {
    const root = join(folder, 'root');
    const logFile = cachePath('logs', 'debootstrap.log');
    await run(['debootstrap', '--variant=minbase', SUITE, root], { logFile });
    // Packages' archives and indexes would only make every later image larger.
    await run(['sh', '-c', 'rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/*', 'sh', root]);
    await run(['sh', '-c', 'tar -C "$1" -c . | docker import -c "CMD [\\"bash\\"]" - "$2"', 'sh', root, BASE_IMAGE]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
