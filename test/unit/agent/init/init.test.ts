/** The init as a program: built, and run outside a container, where it asks for orphans itself. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
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

  it('reaps orphans while its program runs', async () => {
    // The inner shell ends at once and leaves a child behind, which becomes the init's; a zombie would show as Z.
    const script = [
      'sh -c "sleep 0.2 & echo \\$! > $0/orphan"',
      'sleep 0.6',
      'test ! -e /proc/$(cat $0/orphan) && echo reaped',
    ].join('; ');
    const ended = await run(['sh', '-c', script, folder]);
    assert.equal(ended.stdout.trim(), 'reaped');
  });
});
