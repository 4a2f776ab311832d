// What must hold before any of our TypeScript can run: `node_modules` is what the lock file says, so that `node` on the
// PATH of an npm script is the pinned Node 24. Runs on any Node from 20 on and needs nothing but npm. Safe to run twice;
// when nothing changed it costs a few milliseconds.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(fileURLToPath(import.meta.url));
const stampFile = join(root, 'node_modules', '.meridian-setup');
const wanted = createHash('sha256')
  .update(readFileSync(join(root, 'package-lock.json')))
  .digest('hex');
const installed = existsSync(stampFile) ? readFileSync(stampFile, 'utf8') : '';

if (installed !== wanted) {
  const startedAt = Date.now();
  process.stdout.write('setup: npm ci (the lock file is newer than node_modules)\n');
  const npm = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: root, stdio: 'inherit' });
  if (npm.status !== 0) {
    process.stderr.write(`setup: npm ci failed (exit ${npm.status ?? npm.signal}). Is the npm registry reachable?\n`);
    process.exit(1);
  }
  writeFileSync(stampFile, wanted);
  process.stdout.write(`setup: done in ${((Date.now() - startedAt) / 1000).toFixed(1)} s\n`);
}
