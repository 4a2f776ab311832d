/** The dead man's handle of the init, with real processes on the real clock, outside a container. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { bootTimeMs } from '#clock/boot-time.ts';
import { killBeforeMs, quitBeforeMs } from '#core/authority/timing.ts';
import { buildInit } from '../../../../images/build.ts';

/** Ends 0 at SIGQUIT, unless it is `stubborn`; in a session of its own, as every child of Postgres is. */
const postmaster = (stubborn: boolean): string => `
  process.on('SIGQUIT', () => { console.log('quit'); ${stubborn ? '' : 'process.exit(0)'} });
  setInterval(() => {}, 1000);
  console.log('postmaster ' + process.pid);`;

/** In the agent's place: starts a postmaster, and writes what it is told to the handle. */
const program = (stubborn: boolean): string => `
  const { spawn } = require('node:child_process');
  const { writeSync, closeSync } = require('node:fs');
  spawn(process.execPath, ['-e', ${JSON.stringify(postmaster(stubborn))}], { detached: true, stdio: ['ignore', 'inherit', 'inherit'] });
  process.on('SIGTERM', () => { console.log('terminated'); process.exit(0); });
  process.stdin.on('data', (said) => {
    if (String(said) === 'spin\\n') for (;;);
    if (String(said) === 'close\\n') closeSync(Number(process.env.MERIDIAN_HANDLE));
    else writeSync(Number(process.env.MERIDIAN_HANDLE), said);
    console.log('done');
  });
  console.log('program ' + process.pid);`;

/**
 * What a machine that is busy with other tests is allowed. How well the times are kept on one that isn't is measured by
 * test/integration/lease-kill.test.ts.
 */
const LATE_MS = 2_000;

class Container {
  readonly init: ChildProcess;
  readonly ended: Promise<unknown>;
  stdout = '';
  stderr = '';
  quitAtMs = 0;

  constructor(path: string, stubborn: boolean) {
    this.init = spawn(path, ['--', process.execPath, '-e', program(stubborn)], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.ended = once(this.init, 'close');
    this.init.stdout?.on('data', (chunk: Buffer) => {
      if (chunk.includes('quit')) this.quitAtMs = bootTimeMs();
      this.stdout += chunk.toString();
    });
    this.init.stderr?.on('data', (chunk: Buffer) => {
      this.stderr += chunk.toString();
    });
  }

  async started(): Promise<this> {
    await this.until(() => /program/.test(this.stdout) && /postmaster/.test(this.stdout));
    return this;
  }

  get postmaster(): number {
    return Number(/postmaster (\d+)/.exec(this.stdout)?.[1]);
  }

  get program(): number {
    return Number(/program (\d+)/.exec(this.stdout)?.[1]);
  }

  /** Resolves when the program has done it, or is gone. */
  async say(line: string): Promise<void> {
    const done = (): number => this.stdout.split('done\n').length;
    const before = done();
    this.init.stdin?.write(line);
    await this.until(() => done() > before || !this.isAlive(this.program));
  }

  /** Resolves to the deadline. */
  async arm(inMs: number, pid = this.postmaster): Promise<number> {
    const deadlineMs = bootTimeMs() + inMs;
    await this.say(`arm ${deadlineMs} ${pid}\n`);
    return deadlineMs;
  }

  /** Resolves when the init has taken in all that it was told: what has something to read is not asleep. */
  async heard(): Promise<void> {
    const folder = `/proc/${this.init.pid}/task`;
    await this.until(() =>
      readdirSync(folder).every((id) => /\) S /.test(readFileSync(`${folder}/${id}/stat`, 'utf8'))),
    );
  }

  /** A zombie runs nothing. */
  isAlive(pid: number): boolean {
    try {
      return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
    } catch {
      return false;
    }
  }

  async until(isSo: () => boolean, timeoutMs = 60_000): Promise<void> {
    for (const giveUpAt = Date.now() + timeoutMs; !isSo(); await sleep(2)) {
      if (Date.now() > giveUpAt) assert.fail(`never; said:\n${this.stdout}${this.stderr}`);
    }
  }

  /** When the postmaster and the program were gone. */
  async goneAtMs(): Promise<number> {
    const pids = [this.postmaster, this.program];
    await this.until(() => !pids.some((pid) => this.isAlive(pid)));
    return bootTimeMs();
  }

  end(): void {
    // Its children's standard input ends with it; whatever is left is ours to end.
    this.init.kill('SIGKILL');
    for (const pid of [this.program, this.postmaster]) {
      try {
        if (pid > 1) process.kill(pid, 'SIGKILL');
      } catch {
        // Gone, as it should be.
      }
    }
  }
}

describe("the dead man's handle", { concurrency: 4 }, () => {
  let folder: string;
  let path: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'meridian-handle-'));
    path = join(folder, 'meridian-init');
    await buildInit(path);
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const start = async (t: TestContext, { stubborn = false } = {}): Promise<Container> => {
    const container = new Container(path, stubborn);
    t.after(() => container.end());
    return container.started();
  };
  /** Everything is gone, not before its time, and the init says so and ends. */
  const assertEnds = async (container: Container, deadlineMs: number): Promise<void> => {
    const leftMs = deadlineMs - (await container.goneAtMs());
    assert.ok(leftMs <= killBeforeMs + 10, `not before its time, and not ${leftMs} ms before the deadline`);
    assert.ok(leftMs > -LATE_MS, `gone ${-leftMs} ms after the deadline`);
    assert.deepEqual(await container.ended, [75, null]);
    assert.match(container.stderr, /the lease wasn't renewed: SIGKILL to everything -?\d+ ms .*, all gone \d+ ms /);
  };

  it('stops the postmaster 600 ms before the deadline, and kills everything 200 ms before it', async (t) => {
    const container = await start(t);
    const deadlineMs = await container.arm(1_500);
    await container.until(() => container.quitAtMs > 0 || container.init.exitCode !== null);
    if (container.quitAtMs === 0) await container.ended;
    // On a busy machine the postmaster may come to hear of it when all is over: then the init's own word counts.
    const [, said] = /it runs out in (-?\d+) ms .*: SIGQUIT to the postmaster/.exec(container.stderr) ?? [];
    const leftMs = container.quitAtMs > 0 ? deadlineMs - container.quitAtMs : Number(said);
    assert.ok(
      leftMs <= quitBeforeMs + 10 && leftMs > quitBeforeMs - LATE_MS,
      `SIGQUIT ${leftMs} ms before; ${container.stderr}`,
    );
    await assertEnds(container, deadlineMs);
  });

  it('kills a postmaster that does not stop, in a session of its own', async (t) => {
    const container = await start(t, { stubborn: true });
    await assertEnds(container, await container.arm(1_200));
  });

  it('does nothing while the deadline is renewed, nor after it is disarmed', async (t) => {
    const container = await start(t);
    for (let n = 0; n < 15; n++) {
      await container.arm(5_000);
      await sleep(400);
    }
    await container.say('disarm\n');
    await sleep(5_100);
    assert.ok(container.isAlive(container.postmaster) && container.isAlive(container.program));
    assert.equal(container.stderr, '');
  });

  it('lets the rest live where it is disarmed after the postmaster was stopped, and can be armed anew', async (t) => {
    // On a busy machine 400 ms may be too short for a word between processes: then it is tried again.
    for (let attempt = 0; attempt < 15; attempt++) {
      const container = await start(t);
      await container.arm(1_500);
      await Promise.race([container.until(() => container.quitAtMs > 0), container.ended]);
      await container.say('disarm\n');
      await Promise.race([sleep(1_500), container.ended]);
      if (!container.stderr.includes('disarmed in time')) continue;
      assert.ok(container.isAlive(container.program));
      await assertEnds(container, await container.arm(900, 0));
      return;
    }
    assert.fail('never disarmed in time');
  });

  it('hears no renewal any more once the postmaster was told to stop', async (t) => {
    const container = await start(t, { stubborn: true });
    const deadlineMs = await container.arm(1_000);
    await container.until(() => container.quitAtMs > 0);
    await container.arm(60_000);
    await assertEnds(container, deadlineMs);
  });

  it('takes a deadline that is earlier than the one before, and one that has passed already', async (t) => {
    const container = await start(t, { stubborn: true });
    await container.arm(60_000);
    const since = bootTimeMs();
    await container.arm(-5_000);
    await container.goneAtMs();
    assert.ok(bootTimeMs() - since < LATE_MS);
    assert.deepEqual(await container.ended, [75, null]);
    assert.match(container.stderr, /ms AFTER it ran out/);
  });

  it('armed without a deadline ends nothing, also when the pipe is closed', async (t) => {
    const container = await start(t);
    await container.arm(4_000);
    await container.say(`arm 0 ${container.postmaster}\n`);
    await sleep(300);
    await container.say('close\n');
    await sleep(4_000);
    assert.ok(container.isAlive(container.postmaster) && container.isAlive(container.program));
    assert.match(container.stderr, /the program has closed its end/);
  });

  it('keeps its deadline when the pipe is closed', async (t) => {
    const container = await start(t);
    const deadlineMs = await container.arm(4_000);
    await container.say('close\n');
    await assertEnds(container, deadlineMs);
  });

  it('skips lines that mean nothing, and keeps its deadline', async (t) => {
    const container = await start(t);
    const deadlineMs = await container.arm(5_000);
    const nothing = ['', 'arm', 'arm 1', 'arm x 2', 'arm 99999999 -4', 'arm -1 2', 'arm 1 2 3', 'disarm ', 'DISARM'];
    for (const line of [...nothing, 'x'.repeat(5_000), `arm ${'9'.repeat(40)} 1`]) {
      await container.say(`${line}\n`);
      await sleep(10);
    }
    // Half a line, and never its end.
    await container.say('disarm');
    await assertEnds(container, deadlineMs);
    assert.match(container.stderr, /means nothing/);
    assert.ok(container.stderr.split('\n').length < 12, 'not every line is spoken of');
  });

  it('ends a program that is stopped, and what it started', async (t) => {
    const container = await start(t);
    const deadlineMs = await container.arm(4_000);
    process.kill(container.program, 'SIGSTOP');
    await assertEnds(container, deadlineMs);
  });

  it('ends a program that is busy for ever, and what it started', async (t) => {
    const container = await start(t);
    const deadlineMs = await container.arm(4_000);
    // It never says that it has.
    container.init.stdin?.write('spin\n');
    await assertEnds(container, deadlineMs);
  });

  it('ends at once what is left when the program is killed while armed', async (t) => {
    const container = await start(t);
    await container.arm(30_000);
    await sleep(50);
    const since = bootTimeMs();
    process.kill(container.program, 'SIGKILL');
    await container.goneAtMs();
    assert.ok(bootTimeMs() - since < LATE_MS);
    assert.deepEqual(await container.ended, [137, null]);
    assert.match(container.stderr, /ended while armed/);
  });

  it('looks at the clock before anything else when it was paused itself', async (t) => {
    const container = await start(t, { stubborn: true });
    await container.arm(4_000);
    await container.heard();
    container.init.kill('SIGSTOP');
    await sleep(4_200);
    // Both wait for it: a renewal in the pipe, and a signal to be handed on.
    await container.arm(60_000);
    container.init.kill('SIGTERM');
    await sleep(100);
    const since = bootTimeMs();
    container.init.kill('SIGCONT');
    await container.goneAtMs();
    assert.ok(bootTimeMs() - since < LATE_MS);
    assert.deepEqual(await container.ended, [75, null]);
    assert.doesNotMatch(container.stdout, /quit|terminated/);
  });

  it('gives the program the descriptor it names, with and without a lock, and nothing beside', async () => {
    const script = 'echo $MERIDIAN_HANDLE; ls /proc/$$/fd';
    for (const [options, expected] of [
      [[], ['4', '0', '1', '2', '4']],
      [
        ['--lock', join(folder, 'lock')],
        ['4', '0', '1', '2', '3', '4'],
      ],
    ] as const) {
      const child = spawn(path, [...options, '--', 'sh', '-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
      let stdout = '';
      child.stdout.on('data', (chunk: Buffer) => {
        stdout += chunk.toString();
      });
      await once(child, 'close');
      // Our own parent may leave others open to us, far above.
      const low = stdout
        .trim()
        .split('\n')
        .filter((number) => number.length === 1);
      assert.deepEqual(low, expected);
    }
  });

  it('never holds up a program that says more than is read', async () => {
    const script = `console.log('ready');
      setTimeout(() => {
        let n = 0;
        try { for (;; n += 1) require('node:fs').writeSync(4, 'arm 0 0\\n'); }
        catch (error) { console.log(n > 1000 ? error.code : n); }
      }, 300);`;
    const child = spawn(path, ['--', process.execPath, '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    child.kill('SIGSTOP');
    try {
      assert.equal(String(await once(child.stdout, 'data', { signal: AbortSignal.timeout(60_000) })), 'EAGAIN\n');
    } finally {
      child.kill('SIGCONT');
      await once(child, 'close');
    }
  });
});
