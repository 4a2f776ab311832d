/**
 * The shape of Kubernetes objects as they travel: plain JSON, times as RFC 3339 text.
 * The types of built-in kinds come from @kubernetes/client-node (types only); `Wire` undoes what that library does to them
 * when it deserialises (Dates, `_from` for `from`), since here nothing is ever deserialised into classes.
 */

/** Where an object is. `namespace` is absent for cluster-wide kinds. */
export interface ObjectReference {
  readonly namespace?: string | undefined;
  readonly name: string;
}

/** `namespace/name`, or only `name` for cluster-wide kinds: what work queues and stores are keyed by. */
export type ObjectKey = string;

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean | undefined;
  readonly blockOwnerDeletion?: boolean | undefined;
}

/** Metadata that a writer gives. What only the server sets is in `StoredMeta`. */
export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
  readonly ownerReferences?: readonly OwnerReference[] | undefined;
  readonly finalizers?: readonly string[] | undefined;
  readonly uid?: string | undefined;
  readonly resourceVersion?: string | undefined;
  readonly generation?: number | undefined;
  readonly creationTimestamp?: string | undefined;
  readonly deletionTimestamp?: string | undefined;
}

export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
}

/** A custom object with a spec, and the status that its one controller writes. */
export interface CustomObject<Spec, Status> extends KubeObject {
  readonly spec: Spec;
  readonly status?: Status | undefined;
}

export interface StoredMeta {
  readonly uid: string;
  readonly resourceVersion: string;
  readonly creationTimestamp: string;
}

/** An object as the server gave it back. */
export type Stored<T extends KubeObject> = T & { readonly metadata: StoredMeta };

type WireKey<K> = K extends `_${infer Name}` ? Name : K;

/** A client-node class as it is in JSON: `Date` is text, `_from` is `from`, everything readonly. */
export type Wire<T> = T extends Date
  ? string
  : T extends readonly (infer Item)[]
    ? readonly Wire<Item>[]
    : T extends object
      ? { readonly [K in keyof T as WireKey<K>]: Wire<T[K]> }
      : T;

/** A built-in kind, for example `BuiltIn<V1StatefulSet>`. */
export type BuiltIn<T> = Omit<Wire<T>, 'apiVersion' | 'kind' | 'metadata'> & KubeObject;

export function keyOf(object: { readonly metadata: ObjectMeta } | ObjectReference): ObjectKey {
  const { namespace, name } = 'metadata' in object ? object.metadata : object;
  return namespace === undefined ? name : `${namespace}/${name}`;
}

export function referenceOf(key: ObjectKey): ObjectReference {
  const slash = key.indexOf('/');
  return slash < 0 ? { name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

/** Makes `owner` the controller of an object: it is deleted with its owner, and its changes wake the owner's controller. */
export function controllerReference(owner: Stored<KubeObject>): OwnerReference {
  return {
    apiVersion: owner.apiVersion,
    kind: owner.kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid,
    controller: true,
    blockOwnerDeletion: true,
  };
}
