/**
 * The life of the operator's process: watches, election, takeovers, probes, and an end that finishes what is under way and
 * hands the Lease over. Which controllers there are is `operator/main.ts`'s business.
 */
import type { Logger } from 'pino';
import { Registry } from 'prom-client';
import { KubeApi } from '#kube/client.ts';
import type { Configuration } from '#kube/configuration.ts';
import { EventRecorder } from '#kube/events.ts';
import { LeaderElection } from '#kube/lease.ts';
import { createTakeovers } from '../takeover/create.ts';
import { countApiRequests } from './api-metrics.ts';
import type { ControllerDeps } from './controller.ts';
import { serveProbes } from './http.ts';
import { ControllerRuntime } from './runtime.ts';
import type { OperatorSettings } from './settings.ts';

export interface ProgramOptions {
  readonly configuration: Configuration;
  readonly settings: OperatorSettings;
  readonly log: Logger;
  /** Makes the controllers and registers each with the runtime. */
  readonly registerControllers: (runtime: ControllerRuntime, deps: ControllerDeps) => void;
}

/** Runs until `signal` aborts and everything under way has ended. */
export async function runOperator(options: ProgramOptions, signal: AbortSignal): Promise<void> {
  const { settings, log } = options;
  const metrics = new Registry();
  const kube = new KubeApi(options.configuration, {
    userAgent: 'meridian-operator',
    onAnswer: countApiRequests(metrics),
  });
  const recorder = new EventRecorder({
    api: kube,
    controller: 'meridian.db/operator',
    instance: settings.podName,
    onTrouble: (error) => log.debug({ err: error }, 'an Event could not be recorded'),
  });
  const runtime = new ControllerRuntime({ kube, recorder, log, metrics, namespace: settings.watchNamespace });
  const election = new LeaderElection({
    api: kube,
    namespace: settings.podNamespace,
    name: settings.leaseName,
    instance: settings.podName,
    onTrouble: (error) => log.warn({ err: error }, 'lease'),
    onNewLeader: (holder) => log.info({ holder }, 'leader'),
  });
  const takeovers = createTakeovers({
    kube,
    cache: runtime.cache,
    recorder,
    log,
    metrics,
    settings,
    leader: () => election.leader,
    resign: (standAsideMs) => runtime.resign(standAsideMs),
    signal,
  });
  options.registerControllers(runtime, {
    kube,
    takeovers: takeovers.service,
    images: settings.images,
    leaderTerm: () => runtime.leaderTerm(),
    operatorNamespace: settings.podNamespace,
    log,
    metrics,
  });
  const probes = await serveProbes({
    port: settings.port,
    metrics,
    notReady: () => (signal.aborted ? 'ending' : unsyncedReason(runtime)),
  });
  log.info({ server: options.configuration.server, namespace: settings.watchNamespace ?? '(all)' }, 'operator started');

  // The watches outlive the election: rounds that are ending still read the cache.
  const watching = new AbortController();
  const watches = runtime.watch(watching.signal);
  // In every replica, leading or not.
  const takingOver = takeovers.run();
  try {
    await election.run(signal, (leadership) => runtime.lead(leadership));
  } finally {
    await takingOver;
    watching.abort();
    await watches;
    await recorder.close();
    await probes.close();
    await kube.close();
  }
  log.info('operator ended');
}

function unsyncedReason(runtime: ControllerRuntime): string {
  const { unsynced } = runtime.cache;
  return unsynced.length === 0 ? '' : `not listed yet: ${unsynced.join(', ')}`;
}
