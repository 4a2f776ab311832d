/**
 * Keeps a `Store` equal to what the API server has: lists, watches from there, and on any trouble lists again, for ever.
 * Invariants: it never ends before its signal aborts; a watch over which nothing came for the idle deadline counts as broken
 * (bookmarks come about once a minute, so silence means a dead connection); until the next list succeeds the store keeps what
 * it had, so readers go on with old facts, not with none.
 * Source: Kubernetes documentation, "Kubernetes API Concepts", "Watch bookmarks", "410 Gone".
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type BackoffLimits, backoffMs } from './backoff.ts';
import type { KubeApi, ResourceClient } from './client.ts';
import { ApiError } from './errors.ts';
import type { ResourceType } from './kinds.ts';
import { type KubeObject, keyOf, type Stored } from './objects.ts';
import { type IndexValues, Store } from './store.ts';

export interface ReflectorOptions<T extends KubeObject> {
  readonly api: KubeApi;
  readonly type: ResourceType<T>;
  /** All namespaces when absent. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly indexes?: Readonly<Record<string, IndexValues<T>>>;
  /** Default 90 s. */
  readonly idleDeadlineMs?: number;
  /** How long one watch may last before the server ends it; default 300 s. */
  readonly watchSeconds?: number;
  readonly pageSize?: number;
  /** Pauses after failures; default 250 ms to 15 s. */
  readonly backoff?: BackoffLimits;
  /** Told of every failure, for a log line and a counter; the reflector goes on by itself. */
  readonly onTrouble?: (error: unknown, failures: number) => void;
}

export class Reflector<T extends KubeObject> {
  readonly store: Store<T>;
  readonly type: ResourceType<T>;
  readonly #options: ReflectorOptions<T>;
  readonly #client: ResourceClient<T>;
  #synced = Promise.withResolvers<void>();
  #hasSynced = false;
  #failures = 0;
  #lastContactAtMs: number | undefined;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.type = options.type;
    this.#client = options.api.of(options.type);
    this.store = new Store<T>(options.indexes);
  }

  /** Whether the store was filled at least once. */
  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  /** Fulfilled by the first complete list. */
  get synced(): Promise<void> {
    return this.#synced.promise;
  }

  /** Tries that failed since the last success; 0 while all is well. */
  get failures(): number {
    return this.#failures;
  }

  /** Milliseconds since the API server last said anything about this kind. */
  get silentMs(): number {
    return this.#lastContactAtMs === undefined ? Infinity : performance.now() - this.#lastContactAtMs;
  }

  /** Runs until `signal` aborts; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#listAndWatch(signal);
      } catch (error) {
        if (signal.aborted) return;
        await this.#pause(error, signal);
      }
    }
  }

  async #listAndWatch(signal: AbortSignal): Promise<void> {
    const { namespace, labelSelector, pageSize } = this.#options;
    const listed = await this.#client.list({
      namespace,
      labelSelector,
      signal,
      ...(pageSize === undefined ? {} : { pageSize }),
    });
    this.#contact();
    this.store.replace(listed.items.map(withoutManagedFields));
    if (!this.#hasSynced) {
      this.#hasSynced = true;
      this.#synced.resolve();
    }
    let resourceVersion = listed.resourceVersion;
    // A watch that ended in order is continued where it stopped, without listing.
    while (!signal.aborted) resourceVersion = await this.#watchFrom(resourceVersion, signal);
  }

  async #watchFrom(from: string, signal: AbortSignal): Promise<string> {
    const { namespace, labelSelector, idleDeadlineMs = 90_000, watchSeconds = 300 } = this.#options;
    const idle = new AbortController();
    const timer = setTimeout(() => idle.abort(), idleDeadlineMs);
    const startedAtMs = performance.now();
    let resourceVersion = from;
    try {
      const events = this.#client.watch({
        namespace,
        labelSelector,
        resourceVersion,
        // Spread, so that many watches don't end together.
        timeoutSeconds: Math.ceil(watchSeconds * (0.8 + Math.random() * 0.4)),
        signal: AbortSignal.any([signal, idle.signal]),
      });
      for await (const event of events) {
        timer.refresh();
        this.#contact();
        if (event.type === 'BOOKMARK') {
          resourceVersion = event.resourceVersion;
          continue;
        }
        ({ resourceVersion } = event.object.metadata);
        if (event.type === 'DELETED') this.store.remove(keyOf(event.object));
        else this.store.put(withoutManagedFields(event.object));
      }
    } catch (error) {
      if (idle.signal.aborted && !signal.aborted)
        throw new ApiError(0, `watch of ${this.type.plural}`, {
          reason: 'Idle',
          message: `silent for ${idleDeadlineMs} ms`,
        });
      throw error;
    } finally {
      clearTimeout(timer);
    }
    // Ended in order, but at once and with nothing: a server that is going down does that. Don't spin.
    if (performance.now() - startedAtMs < 1_000 && resourceVersion === from)
      throw new ApiError(0, `watch of ${this.type.plural}`, { reason: 'Ended', message: 'ended at once' });
    return resourceVersion;
  }

  #contact(): void {
    this.#failures = 0;
    this.#lastContactAtMs = performance.now();
  }

  async #pause(error: unknown, signal: AbortSignal): Promise<void> {
    this.#failures += 1;
    this.#options.onTrouble?.(error, this.#failures);
    const asked = error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0;
    const pauseMs = Math.max(asked, backoffMs(this.#failures, this.#options.backoff ?? { baseMs: 250, maxMs: 15_000 }));
    await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
  }
}

/**
 * Who owns which field is about half of an object's bytes and read by nobody here. An object written back without it keeps it.
 * Source: Kubernetes documentation, "Server-Side Apply", "Clearing managedFields".
 */
function withoutManagedFields<T extends KubeObject>(object: Stored<T>): Stored<T> {
  const { managedFields: _unused, ...metadata } = object.metadata as Stored<T>['metadata'] & {
    managedFields?: unknown;
  };
  return { ...object, metadata };
}
