/**
 * What the fake API server remembers: objects by collection, one revision for all, and a log of changes for watches.
 * As the real one: resourceVersion grows with every change, generation with every change that isn't of metadata or status,
 * an object with finalizers is only marked when deleted, a PUT never touches the status, and PUT /status nothing else.
 */
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { applyFields } from './apply.ts';

export interface JsonObject {
  [key: string]: unknown;
}

export interface FakeMeta {
  name: string;
  namespace?: string;
  uid: string;
  resourceVersion: string;
  generation: number;
  creationTimestamp: string;
  deletionTimestamp?: string;
  labels?: Record<string, string>;
  finalizers?: string[];
}

export interface FakeObject extends JsonObject {
  metadata: FakeMeta;
}

export interface LoggedChange {
  readonly revision: number;
  readonly collection: string;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: FakeObject;
}

export class Refusal extends Error {
  readonly status: number;
  readonly reason: string;
  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

const copy = <T>(value: T): T => structuredClone(value);

export class Storage {
  readonly #collections = new Map<string, Map<string, FakeObject>>();
  /** What each manager applied last: collection, key, manager. */
  readonly #applied = new Map<string, JsonObject>();
  readonly log: LoggedChange[] = [];
  readonly #listeners = new Set<(change: LoggedChange) => void>();
  revision = 100;
  /** Watches from below this get 410. */
  compactedTo = 0;

  onChange(listener: (change: LoggedChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  compact(): void {
    this.revision += 1;
    this.compactedTo = this.revision;
    this.log.length = 0;
  }

  list(collection: string, namespace: string | undefined): readonly FakeObject[] {
    const objects = [...(this.#collections.get(collection)?.entries() ?? [])];
    return objects
      .filter(([key]) => namespace === undefined || key.startsWith(`${namespace}/`))
      .toSorted(([one], [other]) => (one < other ? -1 : 1))
      .map(([, object]) => copy(object));
  }

  get(collection: string, key: string): FakeObject {
    const object = this.#collections.get(collection)?.get(key);
    if (object === undefined) throw new Refusal(404, 'NotFound', `${collection} "${key}" not found`);
    return copy(object);
  }

  create(collection: string, namespace: string | undefined, given: JsonObject): FakeObject {
    const { name } = given['metadata'] as { name: string };
    const key = namespace === undefined ? name : `${namespace}/${name}`;
    if (this.#collections.get(collection)?.has(key) === true)
      throw new Refusal(409, 'AlreadyExists', `${collection} "${key}" already exists`);
    const object = {
      ...copy(given),
      metadata: {
        ...copy(given['metadata'] as FakeMeta),
        ...(namespace === undefined ? {} : { namespace }),
        uid: randomUUID(),
        generation: 1,
        creationTimestamp: new Date().toISOString(),
        resourceVersion: '',
      },
    };
    return this.#store(collection, key, object, 'ADDED');
  }

  /** `part`: what the request may change. */
  replace(collection: string, key: string, given: JsonObject, part: 'object' | 'status'): FakeObject {
    const before = this.get(collection, key);
    const wanted = (given['metadata'] as Partial<FakeMeta> | undefined) ?? {};
    if (wanted.resourceVersion !== undefined && wanted.resourceVersion !== before.metadata.resourceVersion)
      throw new Refusal(409, 'Conflict', `${collection} "${key}": the object has been modified`);
    if (wanted.uid !== undefined && wanted.uid !== before.metadata.uid)
      throw new Refusal(409, 'Conflict', `${collection} "${key}": another object of that name`);
    const after: FakeObject =
      part === 'status'
        ? { ...before, status: copy(given['status']) }
        : { ...copy(given), metadata: { ...copy(wanted), ...fixedMeta(before) } as FakeMeta };
    if (part === 'object') {
      if ('status' in before) after['status'] = before['status'];
      else delete after['status'];
    }
    return this.#update(collection, key, before, after);
  }

  merge(collection: string, key: string, change: JsonObject, part: 'object' | 'status'): FakeObject {
    const before = this.get(collection, key);
    const merged = mergePatch(before, change) as FakeObject;
    return this.replace(collection, key, merged, part);
  }

  apply(
    collection: string,
    key: string,
    namespace: string | undefined,
    given: JsonObject,
    options: { readonly manager: string; readonly force: boolean; readonly part: 'object' | 'status' },
  ): FakeObject {
    const id = `${collection} ${key} `;
    const exists = this.#collections.get(collection)?.has(key) === true;
    const others = [...this.#applied]
      .filter(([other]) => other.startsWith(id) && other !== id + options.manager)
      .map(([, fields]) => fields);
    if (!exists) {
      const made = this.create(collection, namespace, given);
      this.#applied.set(id + options.manager, copy(given));
      return made;
    }
    const before = this.get(collection, key);
    const result = applyFields(before, this.#applied.get(id + options.manager) ?? {}, given, others);
    if (result.conflicts.length > 0 && !options.force)
      throw new Refusal(
        409,
        'Conflict',
        `Apply failed with ${result.conflicts.length} conflict(s): ${result.conflicts.join()}`,
      );
    this.#applied.set(id + options.manager, copy(given));
    const after = result.object as FakeObject;
    after.metadata = { ...after.metadata, ...fixedMeta(before) };
    return this.#update(collection, key, before, after);
  }

  delete(
    collection: string,
    key: string,
    preconditions: { readonly uid?: string; readonly resourceVersion?: string } = {},
  ): FakeObject {
    const object = this.get(collection, key);
    for (const field of ['uid', 'resourceVersion'] as const)
      if (preconditions[field] !== undefined && preconditions[field] !== object.metadata[field])
        throw new Refusal(409, 'Conflict', `${collection} "${key}": the precondition on ${field} failed`);
    if ((object.metadata.finalizers ?? []).length === 0) return this.#remove(collection, key, object);
    if (object.metadata.deletionTimestamp !== undefined) return object;
    const marked = copy(object);
    marked.metadata.deletionTimestamp = new Date().toISOString();
    return this.#store(collection, key, marked, 'MODIFIED');
  }

  #update(collection: string, key: string, before: FakeObject, after: FakeObject): FakeObject {
    if (isDeepStrictEqual(before, after)) return before;
    const spec = (object: FakeObject): unknown => ({ ...object, metadata: undefined, status: undefined });
    if (!isDeepStrictEqual(spec(before), spec(after))) after.metadata.generation = before.metadata.generation + 1;
    if (after.metadata.deletionTimestamp !== undefined && (after.metadata.finalizers ?? []).length === 0)
      return this.#remove(collection, key, after);
    return this.#store(collection, key, after, 'MODIFIED');
  }

  #store(collection: string, key: string, object: FakeObject, type: 'ADDED' | 'MODIFIED'): FakeObject {
    this.revision += 1;
    object.metadata.resourceVersion = String(this.revision);
    const objects = this.#collections.get(collection) ?? new Map<string, FakeObject>();
    this.#collections.set(collection, objects.set(key, object));
    this.#tell({ revision: this.revision, collection, type, object: copy(object) });
    return copy(object);
  }

  #remove(collection: string, key: string, object: FakeObject): FakeObject {
    this.revision += 1;
    object.metadata.resourceVersion = String(this.revision);
    this.#collections.get(collection)?.delete(key);
    for (const id of this.#applied.keys()) if (id.startsWith(`${collection} ${key} `)) this.#applied.delete(id);
    this.#tell({ revision: this.revision, collection, type: 'DELETED', object: copy(object) });
    return object;
  }

  #tell(change: LoggedChange): void {
    this.log.push(change);
    for (const listener of this.#listeners) listener(change);
  }
}

const fixedMeta = ({ metadata }: FakeObject): Partial<FakeMeta> => ({
  name: metadata.name,
  ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }),
  uid: metadata.uid,
  generation: metadata.generation,
  creationTimestamp: metadata.creationTimestamp,
  resourceVersion: metadata.resourceVersion,
  ...(metadata.deletionTimestamp === undefined ? {} : { deletionTimestamp: metadata.deletionTimestamp }),
});

/** RFC 7386. */
function mergePatch(target: unknown, change: unknown): unknown {
  if (!isObject(change)) return change;
  const merged: JsonObject = isObject(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(change)) {
    if (value === null) delete merged[name];
    else merged[name] = mergePatch(merged[name], value);
  }
  return merged;
}

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
