/**
 * The router's program: reads the environment, starts one worker, or several in threads, serves probes, and drains on SIGTERM. Wiring only.
 */
import { pino } from 'pino';
import { assembleWorker } from './assemble.ts';
import { serveHttp } from './http.ts';
import { type Metrics, renderMetrics } from './metrics.ts';
import { readSettings } from './settings.ts';
import { Threads } from './threads.ts';

/** One worker in this thread, or all of those in others. */
interface Running {
  readonly isReady: boolean;
  readonly counters: readonly Metrics[];
  readonly gauges: Readonly<Record<string, number>>;
  start(): Promise<unknown>;
  stop(): Promise<void>;
}

const settings = readSettings(process.env);
const log = pino({ level: settings.logLevel, base: { router: settings.podName, keyspace: settings.keyspace } });
const stopped = new AbortController();

async function running(): Promise<Running> {
  const { workers = 1 } = settings;
  if (workers > 1) {
    const threads = new Threads(workers, log);
    return Object.assign(threads, { start: () => Promise.resolve() });
  }
  const worker = await assembleWorker(settings, log, stopped.signal);
  return {
    get isReady() {
      return worker.isReady;
    },
    counters: [worker.metrics],
    get gauges() {
      return worker.gauges;
    },
    start: () => worker.start(),
    stop: () => worker.stop(settings.drainMs),
  };
}

const router = await running();
const http = await serveHttp(settings.address, settings.httpPort, {
  isReady: () => router.isReady,
  metrics: () => renderMetrics(router.counters, router.gauges),
});

let isStopping = false;
async function stop(signal: string): Promise<void> {
  if (isStopping) return;
  isStopping = true;
  log.info({ signal, drainMs: settings.drainMs }, 'draining');
  await router.stop();
  stopped.abort();
  http.close();
  log.info('stopped');
}
process.on('SIGTERM', () => void stop('SIGTERM'));
process.on('SIGINT', () => void stop('SIGINT'));

await router.start();
