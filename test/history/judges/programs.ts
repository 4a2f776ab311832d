/**
 * The two judges that others wrote, built once and kept in the cache folder: Porcupine in a small Go program of ours
 * (linearizability/), and adya from its crate. Cargo is taken where it is; as root on Debian it is installed.
 */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { cachePath, withLock } from '#cluster/cache.ts';
import { keyOf } from '#cluster/content-key.ts';
import { isInstalled } from '#cluster/docker/daemon.ts';
import { ensureGoProgram } from '#cluster/go-programs.ts';
import { run, succeeds } from '#cluster/process.ts';
import { step } from '#cluster/progress.ts';

const ADYA_VERSION = '0.1.0';
/** What the crate asks for. Debian 12 has 1.63 as `cargo` and a newer one as `cargo-web`; Debian 13 has 1.85 as `cargo`. */
const OLDEST_RUST = [1, 80] as const;
const DEBIAN_PACKAGES = ['cargo-web', 'cargo'] as const;

export async function ensureLinearizabilityJudge(): Promise<string> {
  return join(await ensureGoProgram('linearizability'), 'meridian-linearizability');
}

export async function ensureIsolationJudge(): Promise<string> {
  const arguments_ = ['--no-default-features', '--version', ADYA_VERSION, '--locked'];
  const folder = cachePath('programs', `adya-${keyOf(arguments_)}`);
  const program = join(folder, 'bin', 'adya');
  if (existsSync(program)) return program;
  return withLock('cargo-adya', async () => {
    if (existsSync(program)) return program;
    const cargo = await ensureCargo();
    await mkdir(cachePath('programs'), { recursive: true });
    const unfinished = await mkdtemp(cachePath('programs', '.building-'));
    try {
      await step(`build adya ${ADYA_VERSION} (about a minute the first time)`, () =>
        run([cargo, 'install', 'adya', ...arguments_, '--root', unfinished], {
          env: { CARGO_TARGET_DIR: join(unfinished, 'target') },
          logFile: cachePath('logs', 'cargo-adya.log'),
        }),
      );
      await rm(join(unfinished, 'target'), { recursive: true, force: true });
      await rename(unfinished, folder);
    } finally {
      await rm(unfinished, { recursive: true, force: true });
    }
    return program;
  });
}

/** A cargo that is new enough, installed where it is missing and that can be done. */
async function ensureCargo(): Promise<string> {
  const found = await findCargo();
  if (found !== undefined) return found;
  if (process.getuid?.() === 0 && isInstalled('apt-get')) {
    const logFile = cachePath('logs', 'apt-cargo.log');
    const env = { DEBIAN_FRONTEND: 'noninteractive' };
    await step('install cargo', async () => {
      await run(['apt-get', 'update', '-q'], { logFile, env });
      for (const name of DEBIAN_PACKAGES) {
        const install = ['apt-get', 'install', '-q', '-y', '--no-install-recommends', name, 'gcc', 'libc6-dev'];
        if ((await succeeds(run, install, { logFile, env })) && (await findCargo()) !== undefined) return;
      }
    });
    const installed = await findCargo();
    if (installed !== undefined) return installed;
  }
  throw new Error(
    `the judge of isolation (adya) needs cargo ${OLDEST_RUST.join('.')} or later, which isn't installed here and couldn't be installed. See https://rustup.rs, or Debian's package ${DEBIAN_PACKAGES.join(' or ')}.`,
  );
}

async function findCargo(): Promise<string | undefined> {
  for (const candidate of ['cargo', join(homedir(), '.cargo', 'bin', 'cargo')]) {
    const printed = await run([candidate, '--version']).catch(() => '');
    if (isNewEnough(printed)) return candidate;
  }
  return undefined;
}

/** Reads `cargo 1.85.0 (...)`. */
export function isNewEnough(versionLine: string): boolean {
  const [, major, minor] = /^cargo (\d+)\.(\d+)/.exec(versionLine) ?? [];
  if (major === undefined || minor === undefined) return false;
  const [oldestMajor, oldestMinor] = OLDEST_RUST;
  return Number(major) > oldestMajor || (Number(major) === oldestMajor && Number(minor) >= oldestMinor);
}
