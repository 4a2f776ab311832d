/**
 * The objects of one kind as last seen, with indexes and listeners. Filled by a `Reflector`; read by controllers and the router's map.
 * Objects in it are frozen in meaning: nobody may change them. An object that comes again at the same resourceVersion is no change.
 */
import { type KubeObject, keyOf, type ObjectKey, type Stored } from './objects.ts';

export interface Change<T extends KubeObject> {
  readonly key: ObjectKey;
  /** Undefined: the object is new. */
  readonly before: Stored<T> | undefined;
  /** Undefined: the object is gone. */
  readonly after: Stored<T> | undefined;
}

export type ChangeListener<T extends KubeObject> = (change: Change<T>) => void;

/** Under which values an object is found in an index; none when it isn't in it. */
export type IndexValues<T extends KubeObject> = (object: Stored<T>) => readonly string[];

const byNamespace = 'namespace';

export class Store<T extends KubeObject> {
  readonly #objects = new Map<ObjectKey, Stored<T>>();
  readonly #indexes = new Map<
    string,
    { readonly values: IndexValues<T>; readonly found: Map<string, Set<ObjectKey>> }
  >();
  readonly #listeners = new Set<ChangeListener<T>>();

  constructor(indexes: Readonly<Record<string, IndexValues<T>>> = {}) {
    const all: Record<string, IndexValues<T>> = {
      ...indexes,
      [byNamespace]: (object) => [object.metadata.namespace ?? ''],
    };
    for (const [name, values] of Object.entries(all)) this.#indexes.set(name, { values, found: new Map() });
  }

  get size(): number {
    return this.#objects.size;
  }

  get(key: ObjectKey): Stored<T> | undefined {
    return this.#objects.get(key);
  }

  /** All objects, or those of one namespace, in no order that means anything. */
  list(namespace?: string): readonly Stored<T>[] {
    return namespace === undefined ? [...this.#objects.values()] : this.indexed(byNamespace, namespace);
  }

  /** The objects that index `name` has under `value`. @throws RangeError when there is no such index. */
  indexed(name: string, value: string): readonly Stored<T>[] {
    const index = this.#indexes.get(name);
    if (index === undefined) throw new RangeError(`no index ${name}`);
    const objects: Stored<T>[] = [];
    for (const key of index.found.get(value) ?? []) {
      const object = this.#objects.get(key);
      if (object !== undefined) objects.push(object);
    }
    return objects;
  }

  /** Calls `listener` after every change from now on; call what it gives back to stop. */
  onChange(listener: ChangeListener<T>): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  put(object: Stored<T>): void {
    this.#change(keyOf(object), object);
  }

  remove(key: ObjectKey): void {
    this.#change(key, undefined);
  }

  /** Makes the store hold exactly these: what a list says. Listeners hear only of what differs. */
  replace(objects: readonly Stored<T>[]): void {
    const present = new Set(objects.map((object) => keyOf(object)));
    for (const key of this.#objects.keys()) if (!present.has(key)) this.#change(key, undefined);
    for (const object of objects) this.#change(keyOf(object), object);
  }

  #change(key: ObjectKey, after: Stored<T> | undefined): void {
    const before = this.#objects.get(key);
    if (before === after) return;
    if (before !== undefined && after !== undefined && sameVersion(before, after)) return;
    if (before !== undefined) this.#unindex(key, before);
    if (after === undefined) this.#objects.delete(key);
    else {
      this.#objects.set(key, after);
      this.#index(key, after);
    }
    for (const listener of this.#listeners) listener({ key, before, after });
  }

  #index(key: ObjectKey, object: Stored<T>): void {
    for (const { values, found } of this.#indexes.values())
      for (const value of values(object)) {
        const keys = found.get(value);
        if (keys === undefined) found.set(value, new Set([key]));
        else keys.add(key);
      }
  }

  #unindex(key: ObjectKey, object: Stored<T>): void {
    for (const { values, found } of this.#indexes.values())
      for (const value of values(object)) {
        const keys = found.get(value);
        keys?.delete(key);
        if (keys?.size === 0) found.delete(value);
      }
  }
}

/** The uid too: a new object of the same name never counts as the old one, whatever its resourceVersion. */
const sameVersion = (one: Stored<KubeObject>, other: Stored<KubeObject>): boolean =>
  one.metadata.resourceVersion === other.metadata.resourceVersion && one.metadata.uid === other.metadata.uid;
