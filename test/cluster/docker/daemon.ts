// A Docker daemon that answers. As root on Debian what is missing is installed and the daemon is started in the
// background (there may be no systemd); anywhere else the error says exactly what to install or start. What was
// started here is left running.
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { cachePath, withLock } from '../cache.ts';
import { lastLines, run, succeeds } from '../process.ts';
import { step } from '../progress.ts';

const DAEMON = 'dockerd';
const DAEMON_START_TIMEOUT_MS = 30_000;

/** Debian packages this project's cluster needs on the machine itself, by the program that shows they are there. */
export const NEEDED_PROGRAMS = {
  docker: 'docker.io',
  dockerd: 'docker.io',
  iptables: 'iptables',
  ip: 'iproute2',
  debootstrap: 'debootstrap',
} as const;

export type NeededProgram = keyof typeof NEEDED_PROGRAMS;

/** Debian 13 packs Docker's client apart from the daemon; in Debian 12 there is no such package. */
const LATER_PACKAGES: Partial<Record<NeededProgram, string>> = { docker: 'docker-cli' };

export async function ensureDocker(): Promise<void> {
  if (await daemonAnswers()) return;
  await withLock('docker', async () => {
    if (await daemonAnswers()) return;
    await ensurePrograms(['docker']);
    if (await daemonAnswers()) return;
    if (process.env['DOCKER_HOST'] !== undefined) {
      throw new Error(`no Docker daemon answers at DOCKER_HOST=${process.env['DOCKER_HOST']}`);
    }
    if (process.getuid?.() !== 0) {
      throw new Error(
        'no Docker daemon answers to this user. Start it (`sudo systemctl start docker`) and make sure that this user may use it (`sudo usermod -aG docker $USER`, then log in again).',
      );
    }
    await ensurePrograms(['dockerd', 'iptables']);
    await step('start dockerd', startDaemon);
  });
}

/** Installs what is missing where that can be done (root, apt-get); otherwise says what to install. */
export async function ensurePrograms(programs: readonly NeededProgram[]): Promise<void> {
  const missing = programs.filter((program) => !isInstalled(program));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((program) => NEEDED_PROGRAMS[program]))];
  if (process.getuid?.() !== 0 || !isInstalled('apt-get')) {
    throw new Error(missingPrograms(missing, packages));
  }
  await step(`install ${packages.join(', ')}`, async () => {
    const logFile = cachePath('logs', 'apt.log');
    const env = { DEBIAN_FRONTEND: 'noninteractive' };
    await run(['apt-get', 'update', '-q'], { logFile, env });
    const install = (names: readonly string[]): Promise<string> =>
      run(['apt-get', 'install', '-q', '-y', '--no-install-recommends', ...names], { logFile, env });
    await install(packages);
    const later = missing.filter((program) => !isInstalled(program)).map((program) => LATER_PACKAGES[program]);
    await install(later.filter((name) => name !== undefined));
  });
}

export function missingPrograms(missing: readonly string[], packages: readonly string[]): string {
  return `not installed here: ${missing.join(', ')}. On Debian or Ubuntu: sudo apt-get install ${packages.join(' ')}`;
}

/** Debian keeps daemons in sbin folders, which the PATH of a plain user leaves out. */
export function isInstalled(program: string): boolean {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/local/sbin', '/usr/sbin', '/sbin'];
  return program !== '' && folders.some((folder) => folder !== '' && existsSync(`${folder}/${program}`));
}

function daemonAnswers(): Promise<boolean> {
  return succeeds(run, ['docker', 'version', '--format', '{{.Server.Version}}'], { timeoutMs: 10_000 });
}

async function startDaemon(): Promise<void> {
  const logPath = cachePath('logs', 'dockerd.log');
  mkdirSync(cachePath('logs'), { recursive: true });
  const giveUpAt = Date.now() + DAEMON_START_TIMEOUT_MS;
  let daemon = spawnDaemon(logPath);
  while (!(await daemonAnswers())) {
    const ending = daemon.ending();
    const tail = lastLines(await readFile(logPath, 'utf8').catch(() => ''), 20);
    const isLate = Date.now() > giveUpAt;
    // A daemon that was told to stop a moment ago takes its time, and the next one won't start before.
    const predecessorLives = ending !== undefined && tail.endsWith('is still running');
    if (isLate || (ending !== undefined && !predecessorLives)) {
      const what = ending === undefined ? 'did not answer in time' : `ended (${ending})`;
      throw new Error(`dockerd ${what} (log: ${logPath})\n${tail}`);
    }
    await sleep(predecessorLives ? 1000 : 250);
    if (predecessorLives) daemon = spawnDaemon(logPath);
  }
}

function spawnDaemon(logPath: string): { ending(): string | undefined } {
  const log = openSync(logPath, 'a');
  const daemon = spawn(DAEMON, [], { detached: true, stdio: ['ignore', log, log] });
  closeSync(log);
  let ending: string | undefined;
  daemon.on('exit', (code, signal) => {
    ending = String(code ?? signal);
  });
  daemon.on('error', (error) => {
    ending = error.message;
  });
  daemon.unref();
  return { ending: () => ending };
}
