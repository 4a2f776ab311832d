/** One of several workers, as a thread (threads.ts). Wiring only. */
import { parentPort, workerData } from 'node:worker_threads';
import { pino } from 'pino';
import { assembleWorker } from './assemble.ts';
import { Metrics } from './metrics.ts';
import { readSettings } from './settings.ts';
import type { ThreadStart, ThreadWord } from './threads.ts';

const sayMs = 200;

const { worker: index, counters } = workerData as ThreadStart;
const settings = readSettings(process.env);
const log = pino({
  level: settings.logLevel,
  base: { router: settings.podName, keyspace: settings.keyspace, worker: index },
});
const stopped = new AbortController();
const worker = await assembleWorker(settings, log, stopped.signal, {
  worker: index,
  counters: counters.map((memory) => new Metrics(memory)),
});
const timer = setInterval(() => {
  const word: ThreadWord = { isReady: worker.isReady, gauges: worker.gauges };
  parentPort?.postMessage(word);
}, sayMs);
parentPort?.on('message', () => {
  void (async () => {
    await worker.stop(settings.drainMs);
    stopped.abort();
    clearInterval(timer);
    parentPort?.close();
    process.exit(0);
  })();
});
await worker.start();
