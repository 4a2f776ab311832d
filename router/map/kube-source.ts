/**
 * Maps from the API server: watches the five kinds of the namespace and says a new map when any of them has changed. While the
 * API server is away the last map stays in force: the data plane does not need the control plane.
 */
import type { Logger } from 'pino';
import type { KubeApi } from '#kube/client.ts';
import type { ResourceType } from '#kube/kinds.ts';
import { keyspaces, regionalReplicas, regions, shards, tenants } from '#kube/meridian.ts';
import type { KubeObject } from '#kube/objects.ts';
import { Reflector } from '#kube/reflector.ts';
import type { ClusterMap } from './map.ts';
import { mapOfObjects } from './objects.ts';
import type { MapSource } from './source.ts';

/** Changes that come together make one map. */
const gatherMs = 10;

export interface KubeMapOptions {
  readonly api: KubeApi;
  readonly namespace: string;
  readonly keyspace: string;
  readonly log: Logger;
}

export class KubeMapSource implements MapSource {
  readonly #options: KubeMapOptions;

  constructor(options: KubeMapOptions) {
    this.#options = options;
  }

  async start(onMap: (map: ClusterMap) => void, signal: AbortSignal): Promise<void> {
    const { namespace, keyspace } = this.#options;
    const first = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => first.resolve(), { once: true });
    const watched = {
      keyspaces: this.#watch(keyspaces, signal),
      shards: this.#watch(shards, signal),
      regionalReplicas: this.#watch(regionalReplicas, signal),
      tenants: this.#watch(tenants, signal),
      regions: this.#watch(regions, signal),
    };
    const reflectors = Object.values(watched);
    let timer: NodeJS.Timeout | undefined;
    const gather = (): void => {
      timer ??= setTimeout(() => {
        timer = undefined;
        // Half a picture could look like the loss of half the keyspace.
        if (!reflectors.every((reflector) => reflector.hasSynced)) return;
        const map = mapOfObjects(keyspace, {
          keyspace: watched.keyspaces.store.get(`${namespace}/${keyspace}`),
          shards: watched.shards.store.list(),
          regionalReplicas: watched.regionalReplicas.store.list(),
          tenants: watched.tenants.store.list(),
          regions: watched.regions.store.list(),
        });
        if (map === undefined) return this.#options.log.warn({ namespace, keyspace }, 'there is no such keyspace');
        onMap(map);
        first.resolve();
      }, gatherMs);
    };
    for (const reflector of reflectors) {
      reflector.store.onChange(gather);
      void reflector.synced.then(gather);
    }
    await first.promise;
  }

  #watch<T extends KubeObject>(type: ResourceType<T>, signal: AbortSignal): Reflector<T> {
    const { api, namespace, log } = this.#options;
    const reflector = new Reflector({
      api,
      type,
      namespace,
      onTrouble: (error, failures) => log.warn({ err: error, kind: type.plural, failures }, 'watch broken'),
    });
    void reflector.run(signal);
    return reflector;
  }
}
