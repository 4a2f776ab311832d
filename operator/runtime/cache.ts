/**
 * The kinds that controllers watch, each kept in memory by one reflector that all controllers share.
 * Built-in kinds are narrowed to Meridian's own objects, so that an operator for a whole cluster doesn't hold everybody's Secrets;
 * where one controller asks for more, all get more.
 */
import { apiGroup, labels as labelNames, managedByValue } from '#core/names.ts';
import type { KubeApi } from '#kube/client.ts';
import { apiVersionOf, type ResourceType } from '#kube/kinds.ts';
import { type KubeObject, keyOf, type Stored } from '#kube/objects.ts';
import { Reflector } from '#kube/reflector.ts';
import type { ChangeListener } from '#kube/store.ts';
import type { Cache, ObjectReferenceLike } from './controller.ts';

export interface SharedCacheOptions {
  readonly api: KubeApi;
  /** All namespaces when absent. */
  readonly namespace?: string | undefined;
  readonly onTrouble?: (type: ResourceType, error: unknown, failures: number) => void;
}

interface Watched {
  readonly type: ResourceType;
  labelSelector: string;
  readonly listeners: ChangeListener<KubeObject>[];
  reflector: Reflector<KubeObject> | undefined;
}

const idOf = (type: ResourceType): string => `${apiVersionOf(type)}/${type.plural}`;

const ownObjects = `${labelNames.managedBy}=${managedByValue}`;

export class SharedCache implements Cache {
  readonly #options: SharedCacheOptions;
  readonly #watched = new Map<string, Watched>();

  constructor(options: SharedCacheOptions) {
    this.#options = options;
  }

  /** Before `run`. An empty selector means all objects of the kind. */
  add<T extends KubeObject>(
    type: ResourceType<T>,
    labelSelector: string | undefined,
    listener: ChangeListener<T>,
  ): void {
    const selector = labelSelector ?? (type.group === apiGroup || !type.namespaced ? '' : ownObjects);
    const present = this.#watched.get(idOf(type));
    if (present === undefined) {
      this.#watched.set(idOf(type), {
        type,
        labelSelector: selector,
        listeners: [listener as unknown as ChangeListener<KubeObject>],
        reflector: undefined,
      });
      return;
    }
    if (present.labelSelector !== selector) present.labelSelector = '';
    present.listeners.push(listener as unknown as ChangeListener<KubeObject>);
  }

  /** Keeps everything up to date until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { api, namespace, onTrouble } = this.#options;
    const runs: Promise<void>[] = [];
    for (const watched of this.#watched.values()) {
      const reflector = new Reflector<KubeObject>({
        api,
        type: watched.type,
        namespace: watched.type.namespaced ? namespace : undefined,
        labelSelector: watched.labelSelector === '' ? undefined : watched.labelSelector,
        onTrouble: (error, failures) => onTrouble?.(watched.type, error, failures),
      });
      for (const listener of watched.listeners) reflector.store.onChange(listener);
      watched.reflector = reflector;
      runs.push(reflector.run(signal));
    }
    await Promise.all(runs);
  }

  get hasSynced(): boolean {
    return this.unsynced.length === 0;
  }

  /** Kinds that could not be listed yet. */
  get unsynced(): readonly string[] {
    return [...this.#watched.values()]
      .filter((watched) => watched.reflector?.hasSynced !== true)
      .map(({ type }) => type.kind);
  }

  /** Fulfilled when every kind was listed once. Only after `run` was called. */
  async synced(): Promise<void> {
    for (const { reflector } of this.#watched.values()) await reflector?.synced;
  }

  get<T extends KubeObject>(type: ResourceType<T>, reference: ObjectReferenceLike): Stored<T> | undefined {
    return this.#store(type).get(keyOf(reference)) as Stored<T> | undefined;
  }

  list<T extends KubeObject>(
    type: ResourceType<T>,
    options: { readonly namespace?: string | undefined; readonly labels?: Readonly<Record<string, string>> } = {},
  ): readonly Stored<T>[] {
    const wanted = Object.entries(options.labels ?? {});
    const objects = this.#store(type).list(options.namespace) as readonly Stored<T>[];
    if (wanted.length === 0) return objects;
    return objects.filter(({ metadata }) => wanted.every(([name, value]) => metadata.labels?.[name] === value));
  }

  #store(type: ResourceType): Reflector<KubeObject>['store'] {
    const reflector = this.#watched.get(idOf(type))?.reflector;
    if (reflector === undefined) throw new Error(`${type.kind} is not watched: name it in a controller's watches`);
    return reflector.store;
  }
}
