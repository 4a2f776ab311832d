/**
 * Gathers what the keyspace controller decides upon. Reads only: the cache for what is watched, the API server for Secrets of roles
 * (a password must never be made twice because a cache lagged) and for ConfigMaps.
 */
import { labels } from '#core/names.ts';
import type { KubeApi } from '#kube/client.ts';
import {
  type ConfigMap,
  configMaps,
  type Deployment,
  deployments,
  type Service,
  secrets,
  services,
} from '#kube/kinds.ts';
import { type Keyspace, regionalReplicas, regions, shards } from '#kube/meridian.ts';
import type { KubeObject, Stored } from '#kube/objects.ts';
import { findPrimary } from '#operator/postgres/primary.ts';
import { selectorText } from '#operator/resources/member-labels.ts';
import { routerLabels } from '#operator/resources/router/wish.ts';
import type { Cache, ObserveContext } from '#operator/runtime/controller.ts';
import { roleSecretLabels } from './role-secret.ts';
import type { KeyspaceSnapshot, MigrationSource, ShardView } from './snapshot.ts';

export async function observeKeyspace(
  kube: KubeApi,
  routerImage: string,
  keyspace: Stored<Keyspace>,
  { cache }: ObserveContext,
): Promise<KeyspaceSnapshot> {
  const { namespace = '', name } = keyspace.metadata;
  const [migrations, roleSecrets] = await Promise.all([
    readMigrations(kube, keyspace),
    kube.of(secrets).list({ namespace, labelSelector: selectorText(roleSecretLabels(name)) }),
  ]);
  return {
    keyspace,
    shards: shardsOf(cache, namespace, name),
    regions: new Map(cache.list(regions, { namespace }).map((region) => [region.metadata.name, region])),
    migrations,
    deployments: byRegion<Deployment>(cache.list(deployments, { namespace, labels: routerLabels(name) })),
    services: byRegion<Service>(cache.list(services, { namespace, labels: routerLabels(name) })),
    roleSecrets: byLabel(roleSecrets.items, labels.role),
    routerImage,
  };
}

export function shardsOf(cache: Cache, namespace: string, keyspace: string): readonly ShardView[] {
  const replicas = cache.list(regionalReplicas, { namespace });
  return cache
    .list(shards, { namespace })
    .filter((shard) => shard.spec.keyspace === keyspace)
    .map((shard) => ({
      name: shard.metadata.name,
      uid: shard.metadata.uid,
      deleting: shard.metadata.deletionTimestamp !== undefined,
      primary: findPrimary(shard, replicas),
    }))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

const byRegion = <T extends KubeObject>(objects: readonly Stored<T>[]): ReadonlyMap<string, Stored<T>> =>
  byLabel(objects, labels.region);

function byLabel<T extends KubeObject>(objects: readonly Stored<T>[], label: string): ReadonlyMap<string, Stored<T>> {
  return new Map(
    objects.flatMap((object) => {
      const value = object.metadata.labels?.[label];
      return value === undefined ? [] : [[value, object] as const];
    }),
  );
}

async function readMigrations(kube: KubeApi, keyspace: Stored<Keyspace>): Promise<readonly MigrationSource[]> {
  const { namespace = '' } = keyspace.metadata;
  const names = new Set(
    keyspace.spec.migrations.flatMap(({ configMapKeyRef }) =>
      configMapKeyRef === undefined ? [] : [configMapKeyRef.name],
    ),
  );
  const found = new Map<string, Stored<ConfigMap> | undefined>();
  for (const name of names) found.set(name, await kube.of(configMaps).find({ namespace, name }));
  return keyspace.spec.migrations.map((migration): MigrationSource => {
    if (migration.configMapKeyRef === undefined)
      return { name: migration.name, kind: 'found', sql: migration.sql ?? '' };
    return fromConfigMap(migration.name, migration.configMapKeyRef, found.get(migration.configMapKeyRef.name));
  });
}

/** What a ConfigMap gives for a migration. */
export function fromConfigMap(
  migration: string,
  reference: { readonly name: string; readonly key: string },
  configMap: ConfigMap | undefined,
): MigrationSource {
  const missing = (reason: string, message: string): MigrationSource => ({
    name: migration,
    kind: 'missing',
    reason,
    message: `migration ${migration} and those after it wait: ${message}`,
  });
  if (configMap === undefined) return missing('ConfigMapMissing', `there is no ConfigMap ${reference.name}`);
  const sql = configMap.data?.[reference.key];
  if (sql === undefined)
    return missing('ConfigMapMissing', `ConfigMap ${reference.name} has no key ${reference.key} in its data`);
  return { name: migration, kind: 'found', sql };
}
