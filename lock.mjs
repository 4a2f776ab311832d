// Makes package-lock.json (`npm run lock`, after a change of dependencies): no registry addresses in it, and an entry for
// every platform's optional package, also those that the registry at hand doesn't carry. Without these `npm ci` calls the
// lock file out of sync; with them it skips what another platform needs.
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';

rmSync('package-lock.json', { force: true });
const npm = spawnSync('npm', ['install', '--package-lock-only', '--omit-lockfile-registry-resolved=false'], {
  stdio: 'inherit',
});
if (npm.status !== 0) process.exit(1);
const lock = JSON.parse(readFileSync('package-lock.json', 'utf8'));
for (const entry of Object.values(lock.packages)) {
  delete entry.resolved;
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const path = `node_modules/${name}`;
    const words = name.match(
      /(aix|android|darwin|freebsd|linux|netbsd|openbsd|openharmony|sunos|win32)[-/]([a-z0-9]+)/,
    );
    if (path in lock.packages || words === null || !/^[0-9]/.test(version)) continue;
    lock.packages[path] = {
      version,
      cpu: [words[2]],
      ...(entry.dev ? { dev: true } : {}),
      optional: true,
      os: [words[1]],
    };
    const libc = name.match(/linux-.*(musl|gnu)/);
    if (libc !== null) lock.packages[path].libc = [libc[1] === 'musl' ? 'musl' : 'glibc'];
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).toSorted(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync('package-lock.json', `${JSON.stringify(lock, null, 2)}\n`);
