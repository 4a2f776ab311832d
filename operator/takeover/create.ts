/** Puts the takeover service together: its connections, its watch, its heartbeat. Wiring only. */
import { once } from 'node:events';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import { bootTimeMs } from '#clock/boot-time.ts';
import type { KubeApi } from '#kube/client.ts';
import type { EventRecorder } from '#kube/events.ts';
import { persistentVolumeClaims, pods, type ResourceType, statefulSets } from '#kube/kinds.ts';
import { keyspaces, regionalReplicas, regions, shards } from '#kube/meridian.ts';
import { AgentClient } from '../agents/client.ts';
import { CredentialStore } from '../agents/credentials.ts';
import type { SharedCache } from '../runtime/cache.ts';
import type { OperatorSettings } from '../runtime/settings.ts';
import { AuthorityWatch } from './authority-watch.ts';
import { Heartbeats } from './heartbeat.ts';
import { ShardMeans } from './means.ts';
import { TakeoverService } from './service.ts';

export interface TakeoversWish {
  readonly kube: KubeApi;
  readonly cache: SharedCache;
  readonly recorder: EventRecorder;
  readonly log: Logger;
  readonly metrics: Registry;
  readonly settings: OperatorSettings;
  readonly leader: () => string | undefined;
  readonly resign: (standAsideMs: number) => boolean;
  readonly signal: AbortSignal;
}

const answerWithinMs = 800;
const standAsideMs = 30_000;
/** What is under way when the operator is told to end has so long; the pod's grace is 30 s. */
const endWithinMs = 20_000;

export function createTakeovers(wish: TakeoversWish): {
  readonly service: TakeoverService;
  /** Begins once the watches, which must have been started, have listed everything. */
  readonly run: () => Promise<void>;
} {
  const { kube, cache, recorder, log, metrics, settings, leader, resign, signal } = wish;
  const builtIn: readonly ResourceType[] = [pods, statefulSets, persistentVolumeClaims];
  for (const type of [...builtIn, shards, keyspaces, regionalReplicas, regions])
    cache.add(type, undefined, () => undefined);
  const client = new AgentClient({ timeoutMs: answerWithinMs });
  const nowMs = bootTimeMs;
  // A handover that stops in the middle would keep its shard waiting until somebody else ends it.
  const end = new AbortController();
  const watch: AuthorityWatch = new AuthorityWatch({
    ask: (member) => means.askAuthority(member),
    nowMs,
    timeoutMs: answerWithinMs,
    pause: (ms, sooner) => means.pause(ms, sooner),
  });
  const means: ShardMeans = new ShardMeans({
    kube,
    cache,
    client,
    credentials: new CredentialStore(kube, { issues: false }),
    watch,
    replica: settings.podName,
    nowMs,
    signal: end.signal,
  });
  const heartbeats = new Heartbeats({
    api: kube,
    namespace: settings.podNamespace,
    installation: settings.leaseName,
    pod: { name: settings.podName, uid: settings.podUid },
    leader,
    reaches: () => service.reaches,
    nowMs,
    onTrouble: (error) => log.debug({ err: error }, 'heartbeat'),
  });
  const service: TakeoverService = new TakeoverService({
    cache,
    watch,
    means,
    heartbeats,
    resign: () => resign(standAsideMs),
    recorder,
    log,
    metrics,
    nowMs,
    signal,
  });
  return {
    service,
    run: async () => {
      if (!signal.aborted) await Promise.race([cache.synced(), once(signal, 'abort')]);
      const late = (): void => void setTimeout(() => end.abort(), endWithinMs).unref();
      if (signal.aborted) late();
      else signal.addEventListener('abort', late, { once: true });
      await Promise.all([service.run(), heartbeats.run(signal)]);
      await client.close();
    },
  };
}
