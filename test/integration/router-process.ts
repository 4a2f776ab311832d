/** The router as its program is run: a process of its own, with what it needs in its environment, in front of a test's keyspace. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { nodeOptions } from '#operator/resources/router/deployment.ts';
import type { RouterKeyspace } from './router-keyspace.ts';

export interface ProcessOptions {
  readonly port: number;
  readonly httpPort: number;
  readonly environment?: Readonly<Record<string, string>>;
}

export class RouterProcess {
  readonly port: number;
  readonly #httpPort: number;
  readonly #program: ChildProcess;
  /** What it has said, for people. */
  log = '';

  private constructor({ port, httpPort }: ProcessOptions, program: ChildProcess) {
    this.port = port;
    this.#httpPort = httpPort;
    this.#program = program;
    for (const stream of [program.stdout, program.stderr])
      stream?.on('data', (chunk: Buffer) => (this.log += chunk.toString()));
  }

  /** Resolves when it is ready. */
  static async start(keyspace: RouterKeyspace, options: ProcessOptions): Promise<RouterProcess> {
    const program = spawn(process.execPath, [...nodeOptions, 'router/main.ts'], {
      cwd: new URL('../..', import.meta.url),
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env['PATH'],
        POD_NAMESPACE: 'test',
        POD_NAME: 'router-0',
        MERIDIAN_KEYSPACE: 'shop',
        MERIDIAN_REGION: 'eu',
        MERIDIAN_TLS_DIR: keyspace.folder,
        MERIDIAN_MAP_FILE: keyspace.mapPath,
        MERIDIAN_PORT: String(options.port),
        MERIDIAN_HTTP_PORT: String(options.httpPort),
        MERIDIAN_DRAIN_SECONDS: '20',
        ...options.environment,
      },
    });
    const started = new RouterProcess(options, program);
    const deadline = performance.now() + 90_000;
    while ((await started.status('/readyz')) !== 200) {
      assert.ok(performance.now() < deadline && program.exitCode === null, started.log);
      await sleep(100);
    }
    return started;
  }

  /** Of its probes; 0 where nobody answers. */
  status(path: string): Promise<number> {
    return fetch(`http://127.0.0.1:${this.#httpPort}${path}`).then(
      (response) => response.status,
      () => 0,
    );
  }

  async metricsText(): Promise<string> {
    return (await fetch(`http://127.0.0.1:${this.#httpPort}/metrics`)).text();
  }

  /** One value, by its name without the prefix. */
  async metric(name: string): Promise<number> {
    const line = (await this.metricsText()).split('\n').find((one) => one.startsWith(`meridian_router_${name} `));
    return Number(line?.split(' ')[1] ?? Number.NaN);
  }

  get processId(): number {
    return this.#program.pid ?? 0;
  }

  terminate(): void {
    this.#program.kill('SIGTERM');
  }

  /** Its exit code. */
  async ended(timeoutMs = 60_000): Promise<unknown> {
    if (this.#program.exitCode !== null) return this.#program.exitCode;
    const [exitCode] = (await Promise.race([
      once(this.#program, 'exit'),
      sleep(timeoutMs, ['still running'], { ref: false }),
    ])) as [unknown];
    return exitCode;
  }

  kill(): void {
    this.#program.kill('SIGKILL');
  }
}
