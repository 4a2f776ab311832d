/** The init as a program: built, and run outside a container, where it asks for orphans itself. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildInit } from '../../../../images/build.ts';

describe('process 1', () => {
  let folder: string;
  let init: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'meridian-init-'));
    init = join(folder, 'meridian-init');
    await buildInit(init);
  });
  after(() => rm(folder, { recursive: true, force: true }));

  interface Ended {
    readonly code: number | null;
    readonly stdout: string;
    readonly stderr: string;
  }
  /** `onOutput` gets the init's process when the program has printed something. */
  const run = (argv: readonly string[], onOutput?: (pid: number) => void): Promise<Ended> =>
    new Promise((resolve, reject) => {
      const child = spawn(init, argv, { stdio: ['ignore', 'pipe', 'pipe'] });
      let stdout = '';
      let stderr = '';
      child.stdout.once('data', () => onOutput?.(child.pid ?? 0));
      child.stdout.on('data', (chunk: Buffer) => {
        stdout += chunk.toString();
      });
      child.stderr.on('data', (chunk: Buffer) => {
        stderr += chunk.toString();
      });
      child.on('error', reject);
      child.on('close', (code) => resolve({ code, stdout, stderr }));
    });

  it('ends with the status of its program', async () => {
    assert.equal((await run(['--', 'sh', '-c', 'exit 0'])).code, 0);
    assert.equal((await run(['sh', '-c', 'exit 42'])).code, 42);
  });

  it('ends with 128 + the signal that killed its program', async () => {
    assert.equal((await run(['sh', '-c', 'kill -KILL $$'])).code, 137);
  });

  it('says what it could not start', async () => {
    const missing = await run(['--', '/no/such/program']);
    assert.equal(missing.code, 127);
    assert.match(missing.stderr, /no such file/);
    assert.equal((await run([])).code, 64);
    assert.equal((await run(['/etc/passwd'])).code, 126);
  });

  for (const [name, number] of [
    ['SIGTERM', 15],
    ['SIGINT', 2],
    ['SIGHUP', 1],
    ['SIGUSR1', 10],
    ['SIGQUIT', 3],
  ] as const) {
    it(`hands ${name} on to its program`, async () => {
      const script = `trap 'echo got; exit ${number}' ${name.slice(3)}; echo ready; while :; do sleep 0.05; done`;
      const ended = await run(['sh', '-c', script], (pid) => process.kill(pid, name));
      assert.equal(ended.code, number);
      assert.match(ended.stdout, /got/);
    });
  }

  describe('given a lock', () => {
    const until = async (isThere: () => boolean): Promise<void> => {
      const giveUpAt = Date.now() + 60_000;
      while (!isThere()) {
        assert.ok(Date.now() < giveUpAt, 'not seen in time');
        await sleep(20);
      }
    };
    const start = (lock: string, script: string, options: readonly string[] = []) => {
      const child = spawn(init, ['--lock', lock, ...options, '--', 'sh', '-c', script], {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const seen = { child, stdout: '', stderr: '', ended: once(child, 'close') };
      child.stdout.on('data', (chunk: Buffer) => {
        seen.stdout += chunk.toString();
      });
      child.stderr.on('data', (chunk: Buffer) => {
        seen.stderr += chunk.toString();
      });
      return seen;
    };

    it('starts its program only when the one before has ended, says so, and answers the probes meanwhile', async () => {
      const lock = join(folder, 'taken');
      const first = start(lock, 'echo runs; exec sleep 30');
      await until(() => first.stdout === 'runs\n');
      const second = start(lock, 'echo runs too', ['--probes', '127.0.0.1:18422']);
      await until(() => second.stderr.includes(`waiting for the lock on ${lock}`));
      await sleep(500);
      assert.equal(second.stdout, '');
      assert.equal((await fetch('http://127.0.0.1:18422/livez')).status, 200);
      const readiness = await fetch('http://127.0.0.1:18422/readyz');
      assert.equal(readiness.status, 503);
      assert.match(await readiness.text(), /waiting for the lock/);
      first.child.kill('SIGTERM');
      await Promise.all([first.ended, second.ended]);
      assert.equal(second.stdout, 'runs too\n');
      await assert.rejects(fetch('http://127.0.0.1:18422/livez'));
    });

    it('lets nobody in while a child of its program is left, even when both are gone', async () => {
      const lock = join(folder, 'inherited');
      const first = start(lock, 'sleep 30 & echo $! $$; wait');
      await until(() => first.stdout.includes('\n'));
      const [left = 0, program = 0] = first.stdout.trim().split(' ').map(Number);
      first.child.kill('SIGKILL');
      process.kill(program, 'SIGKILL');
      await until(() => first.child.signalCode !== null);
      const second = start(lock, 'echo runs too');
      await until(() => second.stderr.includes('waiting for the lock'));
      await sleep(500);
      assert.equal(second.stdout, '');
      process.kill(left, 'SIGKILL');
      await second.ended;
      assert.equal(second.stdout, 'runs too\n');
    });

    it('ends on SIGTERM while it waits', async () => {
      const lock = join(folder, 'ended');
      const first = start(lock, 'echo runs; exec sleep 30');
      await until(() => first.stdout === 'runs\n');
      const second = start(lock, 'echo runs too');
      await until(() => second.stderr.includes('waiting for the lock'));
      second.child.kill('SIGTERM');
      assert.deepEqual(await second.ended, [143, null]);
      first.child.kill('SIGTERM');
      await first.ended;
    });

    it('starts nothing where the lock file can not be made', async () => {
      const ended = await run(['--lock', join(folder, 'no-such-folder', 'lock'), '--', 'echo', 'runs']);
      assert.equal(ended.code, 126);
      assert.equal(ended.stdout, '');
    });
  });

  it('reaps orphans while its program runs', async () => {
    // The inner shell ends at once and leaves a child behind, which becomes the init's; a zombie would show as Z.
    const script = [
      'sh -c "sleep 0.2 & echo \\$! > $0/orphan"',
      // A machine with much to do takes longer; one that nobody reaps stays there for good.
      'for _ in $(seq 300); do test -e /proc/$(cat $0/orphan) || { echo reaped; exit; }; sleep 0.1; done',
    ].join('; ');
    const ended = await run(['sh', '-c', script, folder]);
    assert.equal(ended.stdout.trim(), 'reaped');
  });
});
