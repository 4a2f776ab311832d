/**
 * The least that an object of each kind needs, with what a test adds to it, and the form of a wrong object's entry.
 */

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: Readonly<Record<string, unknown>>;
}

export interface WrongObject {
  /** What is wrong, as the name of a test. */
  readonly name: string;
  readonly object: Manifest;
  /** The object as it was, for changes that are refused. */
  readonly before?: Manifest;
  /** What the API server's message contains. */
  readonly message: string;
}

const manifest = (kind: string, name: string, spec: Record<string, unknown>): Manifest => ({
  apiVersion: 'meridian.db/v1alpha1',
  kind,
  metadata: { name },
  spec,
});

export const region = (spec: Record<string, unknown> = {}, name = 'eu') => manifest('Region', name, spec);
export const keyspace = (spec: Record<string, unknown> = {}, name = 'shop') => manifest('Keyspace', name, spec);
export const shard = (spec: Record<string, unknown> = {}, name = 'shop-a') =>
  manifest('Shard', name, { keyspace: 'shop', primaryRegion: 'eu', ...spec });
export const regionalReplica = (spec: Record<string, unknown> = {}, name = 'shop-a-eu') =>
  manifest('RegionalReplica', name, { shard: 'shop-a', region: 'eu', ...spec });
export const tenant = (spec: Record<string, unknown> = {}, name = 'acme') =>
  manifest('Tenant', name, { keyspace: 'shop', key: 'acme', ...spec });
