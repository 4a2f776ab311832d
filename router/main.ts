/**
 * The router's program: reads the environment, starts the worker, serves probes, and drains on SIGTERM. Wiring only.
 */
import { type Logger, pino } from 'pino';
import { KubeApi } from '#kube/client.ts';
import { loadConfiguration } from '#kube/load-configuration.ts';
import { serveHttp } from './http.ts';
import { FileMapSource } from './map/file-source.ts';
import { KubeMapSource } from './map/kube-source.ts';
import type { MapSource } from './map/source.ts';
import { renderMetrics } from './metrics.ts';
import { createPlanner } from './plan/planner.ts';
import { type RouterSettings, readSettings } from './settings.ts';
import { TlsFiles } from './tls.ts';
import { RouterWorker } from './worker.ts';

async function mapSource(settings: RouterSettings, log: Logger): Promise<MapSource> {
  if (settings.mapFile !== undefined) return new FileMapSource(settings.mapFile);
  const { namespace, keyspace } = settings;
  return new KubeMapSource({ api: new KubeApi(await loadConfiguration()), namespace, keyspace, log });
}

const settings = readSettings(process.env);
const log = pino({ level: settings.logLevel, base: { router: settings.podName, keyspace: settings.keyspace } });
const stopped = new AbortController();
const tls = new TlsFiles(settings.tlsFolder);
await tls.start((error) => {
  if (error === undefined) log.info('certificates reloaded');
  else log.warn({ err: error }, 'certificates not reloaded');
}, stopped.signal);
const worker = new RouterWorker({
  settings,
  source: await mapSource(settings, log),
  tls,
  planner: await createPlanner(),
  log,
});
const http = await serveHttp(settings.address, settings.httpPort, {
  isReady: () => worker.isReady,
  metrics: () => renderMetrics([worker.metrics], worker.gauges),
});

let isStopping = false;
async function stop(signal: string): Promise<void> {
  if (isStopping) return;
  isStopping = true;
  log.info({ signal, drainMs: settings.drainMs }, 'draining');
  await worker.stop(settings.drainMs);
  stopped.abort();
  http.close();
  log.info('stopped');
}
process.on('SIGTERM', () => void stop('SIGTERM'));
process.on('SIGINT', () => void stop('SIGINT'));

await worker.start();
