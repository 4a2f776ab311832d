/**
 * Reads and writes of objects of any kind, built-in or custom, as the API server has them.
 * One object per call and no retries on conflict: whoever meets a conflict must read and decide again.
 * Source: Kubernetes documentation, "Kubernetes API Concepts", "Server-Side Apply".
 */

import { fieldManager } from '#core/names.ts';
import type { Configuration } from './configuration.ts';
import { ApiError, isNotFound } from './errors.ts';
import { apiVersionOf, type ResourceType } from './kinds.ts';
import { type KubeObject, type ObjectReference, referenceOf, type Stored } from './objects.ts';
import { Transport, type TransportOptions } from './transport.ts';
import { readWatch, type WatchEvent } from './watch.ts';

export interface ListOptions {
  /** All namespaces when absent. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  /** Objects per request; default 500. */
  readonly pageSize?: number;
  readonly signal?: AbortSignal;
}

export interface Listed<T extends KubeObject> {
  readonly items: readonly Stored<T>[];
  /** Where a watch may begin. */
  readonly resourceVersion: string;
}

export interface WatchOptions {
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  readonly resourceVersion: string;
  /** The server ends the watch after this long; default 5 min. */
  readonly timeoutSeconds?: number;
  readonly signal: AbortSignal;
}

export interface WriteOptions {
  readonly fieldManager?: string;
  /** Checks and answers as if written, and writes nothing. */
  readonly dryRun?: boolean;
}

export interface ApplyOptions extends WriteOptions {
  /** Takes fields over from other managers; default true, as controllers should. */
  readonly force?: boolean;
}

export interface DeleteOptions {
  readonly propagation?: 'Foreground' | 'Background' | 'Orphan';
  /** Refused with a conflict when the object is no longer this one. */
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string };
  readonly gracePeriodSeconds?: number;
}

/** What server-side apply takes: only the fields that the applier has an opinion on. */
export type Applied<T extends KubeObject> = { readonly metadata: T['metadata'] } & DeepPartial<
  Omit<T, 'metadata' | 'status'>
>;

export type DeepPartial<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { readonly [K in keyof T]?: DeepPartial<T[K]> }
    : T;

export type Subresource = 'status' | 'scale';

/** Access to one kind. Every method throws ApiError. */
export class ResourceClient<T extends KubeObject> {
  readonly type: ResourceType<T>;
  readonly #transport: Transport;
  readonly #fieldManager: string;

  constructor(transport: Transport, type: ResourceType<T>, fieldManager: string) {
    this.#transport = transport;
    this.type = type;
    this.#fieldManager = fieldManager;
  }

  async get(reference: ObjectReference): Promise<Stored<T>> {
    return this.#transport.json<Stored<T>>({ method: 'GET', path: this.#path(reference) });
  }

  /** Like `get`; undefined when there is no such object. */
  async find(reference: ObjectReference): Promise<Stored<T> | undefined> {
    try {
      return await this.get(reference);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  /** All objects, read in pages of one consistent snapshot. `Expired` when the snapshot is forgotten meanwhile: begin again. */
  async list(options: ListOptions = {}): Promise<Listed<T>> {
    const items: Stored<T>[] = [];
    let next: string | undefined;
    for (;;) {
      const page: Page<T> = await this.#transport.json<Page<T>>({
        method: 'GET',
        path: this.#collection(options.namespace),
        query: {
          limit: options.pageSize ?? 500,
          continue: next,
          labelSelector: options.labelSelector,
          fieldSelector: options.fieldSelector,
        },
        timeoutMs: 30_000,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      });
      // Items of a list come without apiVersion and kind.
      const apiVersion = apiVersionOf(this.type);
      for (const item of page.items ?? []) items.push({ ...item, apiVersion, kind: this.type.kind });
      next = page.metadata.continue;
      if (next === undefined || next === '') return { items, resourceVersion: page.metadata.resourceVersion };
    }
  }

  /** Changes after `resourceVersion`, until the server ends the watch or `signal` aborts. `Reflector` keeps one going for ever. */
  async *watch(options: WatchOptions): AsyncGenerator<WatchEvent<T>, void, undefined> {
    const path = this.#collection(options.namespace);
    const chunks = await this.#transport.stream({
      method: 'GET',
      path,
      query: {
        watch: true,
        allowWatchBookmarks: true,
        resourceVersion: options.resourceVersion,
        timeoutSeconds: options.timeoutSeconds ?? 300,
        labelSelector: options.labelSelector,
        fieldSelector: options.fieldSelector,
      },
      signal: options.signal,
    });
    yield* readWatch<T>(chunks, `GET ${path}?watch=true`);
  }

  async create(object: T, options: WriteOptions = {}): Promise<Stored<T>> {
    return this.#transport.json<Stored<T>>({
      method: 'POST',
      path: this.#collection(object.metadata.namespace),
      query: this.#writeQuery(options),
      body: object,
    });
  }

  /** Replaces the whole object; a compare-and-swap when `metadata.resourceVersion` is given. */
  async update(object: T, options: WriteOptions = {}): Promise<Stored<T>> {
    return this.#put(object, this.#path(object.metadata), options);
  }

  /** Replaces the status only. Always a compare-and-swap: refuses to run without the resourceVersion that was read. */
  async updateStatus(object: T, options: WriteOptions = {}): Promise<Stored<T>> {
    const path = this.#path(object.metadata, 'status');
    if (object.metadata.resourceVersion === undefined)
      throw new ApiError(400, `PUT ${path}`, {
        message: 'a status is only written with the resourceVersion that was read',
      });
    return this.#put(object, path, options);
  }

  /** Server-side apply: makes the object where there is none; owns exactly the fields given. */
  async apply(object: Applied<T>, options: ApplyOptions = {}): Promise<Stored<T>> {
    return this.#apply(object, undefined, options);
  }

  async applyStatus(object: T, options: ApplyOptions = {}): Promise<Stored<T>> {
    return this.#apply(object, 'status', options);
  }

  /** Merge patch (RFC 7386): null removes a field, lists are replaced whole. A compare-and-swap when it has a resourceVersion. */
  async patch(
    reference: ObjectReference,
    change: object,
    options: WriteOptions & { readonly subresource?: Subresource } = {},
  ): Promise<Stored<T>> {
    return this.#transport.json<Stored<T>>({
      method: 'PATCH',
      path: this.#path(reference, options.subresource),
      query: this.#writeQuery(options),
      contentType: 'application/merge-patch+json',
      body: change,
    });
  }

  /** `absent`: there was none. `accepted`: it is gone, or goes once its finalizers are done. */
  async delete(reference: ObjectReference, options: DeleteOptions = {}): Promise<'absent' | 'accepted'> {
    try {
      await this.#transport.json({
        method: 'DELETE',
        path: this.#path(reference),
        body: {
          kind: 'DeleteOptions',
          apiVersion: 'v1',
          propagationPolicy: options.propagation ?? 'Background',
          ...(options.preconditions === undefined ? {} : { preconditions: options.preconditions }),
          ...(options.gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds: options.gracePeriodSeconds }),
        },
      });
      return 'accepted';
    } catch (error) {
      if (isNotFound(error)) return 'absent';
      throw error;
    }
  }

  async #put(object: T, path: string, options: WriteOptions): Promise<Stored<T>> {
    return this.#transport.json<Stored<T>>({ method: 'PUT', path, query: this.#writeQuery(options), body: object });
  }

  async #apply(object: object, subresource: Subresource | undefined, options: ApplyOptions): Promise<Stored<T>> {
    const { metadata } = object as KubeObject;
    return this.#transport.json<Stored<T>>({
      method: 'PATCH',
      path: this.#path(metadata, subresource),
      query: { ...this.#writeQuery(options), force: options.force ?? true },
      // JSON is YAML: the server takes it as it is.
      contentType: 'application/apply-patch+yaml',
      body: { ...object, apiVersion: apiVersionOf(this.type), kind: this.type.kind },
    });
  }

  #writeQuery(options: WriteOptions): Record<string, string | undefined> {
    return {
      fieldManager: options.fieldManager ?? this.#fieldManager,
      dryRun: options.dryRun === true ? 'All' : undefined,
    };
  }

  #collection(namespace: string | undefined): string {
    const { group, version, plural, namespaced } = this.type;
    const root = group === '' ? `/api/${version}` : `/apis/${group}/${version}`;
    return namespaced && namespace !== undefined
      ? `${root}/namespaces/${encodeURIComponent(namespace)}/${plural}`
      : `${root}/${plural}`;
  }

  #path(reference: ObjectReference, subresource?: Subresource): string {
    if (this.type.namespaced && reference.namespace === undefined)
      throw new ApiError(400, `${this.type.plural}/${reference.name}`, {
        message: `a ${this.type.kind} needs a namespace`,
      });
    const object = `${this.#collection(reference.namespace)}/${encodeURIComponent(reference.name)}`;
    return subresource === undefined ? object : `${object}/${subresource}`;
  }
}

interface Page<T extends KubeObject> {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items: readonly Stored<T>[] | null;
}

export interface KubeApiOptions extends TransportOptions {
  /** Who owns the fields that are written; default `meridian-operator`. */
  readonly fieldManager?: string;
}

/** One API server. `new KubeApi(await loadConfiguration())`, then `api.of(pods).list(...)`. */
export class KubeApi {
  readonly configuration: Configuration;
  readonly transport: Transport;
  readonly #fieldManager: string;
  readonly #clients = new Map<ResourceType, unknown>();

  constructor(configuration: Configuration, options: KubeApiOptions = {}) {
    this.configuration = configuration;
    this.transport = new Transport(configuration, options);
    this.#fieldManager = options.fieldManager ?? fieldManager;
  }

  of<T extends KubeObject>(type: ResourceType<T>): ResourceClient<T> {
    let client = this.#clients.get(type);
    if (client === undefined) {
      client = new ResourceClient<T>(this.transport, type, this.#fieldManager);
      this.#clients.set(type, client);
    }
    return client as ResourceClient<T>;
  }

  /** By `namespace/name`. */
  async findByKey<T extends KubeObject>(type: ResourceType<T>, key: string): Promise<Stored<T> | undefined> {
    return this.of(type).find(referenceOf(key));
  }

  async close(): Promise<void> {
    await this.transport.close();
  }
}
