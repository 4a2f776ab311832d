/** The router's program as it is shipped (one bundle), on whatever runtime is to be measured. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { nodeOptions } from '#operator/resources/router/deployment.ts';
import { bundleProgram, copyParser } from '../../../images/build.ts';
import { type BenchSite, ports } from './keyspace.ts';

export interface RouterOptions {
  /** Path of node or bun, and arguments for it. */
  readonly runtime: readonly string[];
  readonly tls: boolean;
  readonly environment?: Readonly<Record<string, string>>;
}

export class RouterProgram {
  readonly #process: ChildProcess;

  private constructor(program: ChildProcess) {
    this.#process = program;
  }

  get processId(): number {
    return this.#process.pid as number;
  }

  static async start(site: BenchSite, { runtime, tls, environment }: RouterOptions): Promise<RouterProgram> {
    const folder = join(site.folder, 'router');
    await mkdir(folder, { recursive: true });
    const bundle = join(folder, 'router.mjs');
    await bundleProgram(join(import.meta.dirname, '../../../router/main.ts'), bundle);
    await bundleProgram(join(import.meta.dirname, '../../../router/thread.ts'), join(folder, 'router-thread.mjs'));
    await copyParser(folder);
    const [program = process.execPath, ...more] = runtime;
    const shipped = basename(program).startsWith('node') ? nodeOptions : [];
    const child = spawn(program, [...shipped, ...more, bundle], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        PATH: process.env['PATH'],
        NODE_ENV: 'production',
        MERIDIAN_KEYSPACE: 'bench',
        MERIDIAN_REGION: 'eu',
        MERIDIAN_TLS_DIR: site.folder,
        MERIDIAN_MAP_FILE: await site.writeMap(!tls),
        MERIDIAN_ADDRESS: '127.0.0.1',
        MERIDIAN_PORT: String(ports.router),
        MERIDIAN_HTTP_PORT: String(ports.routerHttp),
        MERIDIAN_ALLOW_PLAINTEXT: tls ? '' : '1',
        MERIDIAN_DRAIN_SECONDS: '1',
        ...environment,
      },
    });
    child.stdout?.pipe(createWriteStream(join(site.folder, 'router.log')));
    const started = new RouterProgram(child);
    const deadline = performance.now() + 60_000;
    while (!(await isReady())) {
      if (child.exitCode !== null || performance.now() > deadline) throw new Error('the router does not get ready');
      await sleep(100);
    }
    return started;
  }

  async metrics(): Promise<ReadonlyMap<string, number>> {
    const text = await (await fetch(`http://127.0.0.1:${ports.routerHttp}/metrics`)).text();
    return new Map(
      text
        .split('\n')
        .filter((line) => line !== '' && !line.startsWith('#'))
        .map((line) => line.split(' '))
        .map(([name = '', value]) => [name.replace('meridian_router_', ''), Number(value)]),
    );
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null) return;
    const exit = once(this.#process, 'exit');
    this.#process.kill('SIGTERM');
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), 10_000);
    await exit;
    clearTimeout(timer);
  }
}

const isReady = (): Promise<boolean> =>
  fetch(`http://127.0.0.1:${ports.routerHttp}/readyz`).then(
    (response) => response.status === 200,
    () => false,
  );
