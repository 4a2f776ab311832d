/** Puts one worker together from the environment: certificates, map, planner. The same in the only thread as in one of several. */
import type { Logger } from 'pino';
import { KubeApi } from '#kube/client.ts';
import { loadConfiguration } from '#kube/load-configuration.ts';
import { FileMapSource } from './map/file-source.ts';
import { KubeMapSource } from './map/kube-source.ts';
import type { MapSource } from './map/source.ts';
import type { Metrics } from './metrics.ts';
import { createPlanner } from './plan/planner.ts';
import type { RouterSettings } from './settings.ts';
import { TlsFiles } from './tls.ts';
import { RouterWorker } from './worker.ts';

async function mapSource(settings: RouterSettings, log: Logger): Promise<MapSource> {
  if (settings.mapFile !== undefined) return new FileMapSource(settings.mapFile);
  const { namespace, keyspace } = settings;
  return new KubeMapSource({ api: new KubeApi(await loadConfiguration()), namespace, keyspace, log });
}

/** Of several: which it is, from 0, and the counters of all. */
export interface AmongWorkers {
  readonly worker: number;
  readonly counters: readonly Metrics[];
}

/** `stopped` ends the watch on certificates. */
export async function assembleWorker(
  settings: RouterSettings,
  log: Logger,
  stopped: AbortSignal,
  among?: AmongWorkers,
): Promise<RouterWorker> {
  const tls = new TlsFiles(settings.tlsFolder);
  await tls.start((error) => {
    if (error === undefined) log.info('certificates reloaded');
    else log.warn({ err: error }, 'certificates not reloaded');
  }, stopped);
  const source = await mapSource(settings, log);
  return new RouterWorker({ settings, source, tls, planner: await createPlanner(), log, ...among });
}
