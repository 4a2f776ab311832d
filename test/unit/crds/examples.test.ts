/** The example that newcomers apply: every object is accepted, and the objects fit together. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import {
  type KeyspaceManifest,
  kinds,
  type RegionalReplicaManifest,
  type RegionManifest,
  type ShardManifest,
  type TenantManifest,
} from '#crds/index.ts';

type Manifest = KeyspaceManifest | RegionManifest | ShardManifest | RegionalReplicaManifest | TenantManifest;

const folder = join(import.meta.dirname, '..', '..', '..', 'examples', 'commerce');
const manifests = readdirSync(folder)
  .filter((file) => file.endsWith('.yaml'))
  .flatMap((file) => parseAllDocuments(readFileSync(join(folder, file), 'utf8')).map((one) => one.toJS() as Manifest));

const of = <K extends Manifest['kind']>(kind: K): Extract<Manifest, { kind: K }>[] =>
  manifests.filter((manifest): manifest is Extract<Manifest, { kind: K }> => manifest.kind === kind);
const names = (kind: Manifest['kind']): string[] => of(kind).map(({ metadata }) => metadata.name);

for (const manifest of manifests) {
  test(`${manifest.kind} ${manifest.metadata.name} of the commerce example is accepted`, () => {
    const kind = kinds.find((one) => one.kind === manifest.kind);
    assert.ok(kind, `no kind ${manifest.kind}`);
    kind.manifest.parse(manifest);
    assert.equal(manifest.metadata.namespace, undefined, 'goes into whatever namespace it is applied to');
  });
}

test('the commerce example has two shards in three regions, and six tenants', () => {
  assert.deepEqual(names('Region').toSorted(), ['ap', 'eu', 'us']);
  assert.deepEqual(
    of('Shard').map(({ metadata, spec }) => [metadata.name, spec.primaryRegion]),
    [
      ['shop-a', 'eu'],
      ['shop-b', 'us'],
    ],
  );
  assert.equal(of('RegionalReplica').length, 6);
  assert.equal(of('Tenant').length, 6);
});

test('every object that the commerce example names is in it', () => {
  const regions = new Set(names('Region'));
  const shards = new Set(names('Shard'));
  const [keyspace] = of('Keyspace');
  assert.ok(keyspace);
  const keys = new Set(of('Tenant').map(({ spec }) => spec.key));
  const missing = [
    ...of('Region').flatMap(({ spec }) => spec.proximity ?? []),
    ...of('Shard').map(({ spec }) => spec.primaryRegion),
    ...of('RegionalReplica').map(({ spec }) => spec.region),
    ...of('Tenant').flatMap(({ spec }) => spec.allowedRegions ?? []),
    ...(keyspace.spec.routers?.regions ?? []).map(({ region }) => region),
  ].filter((region) => !regions.has(region));
  assert.deepEqual(missing, []);
  for (const { spec } of of('RegionalReplica')) assert.ok(shards.has(spec.shard), spec.shard);
  for (const { spec } of of('Tenant')) if (spec.shard) assert.ok(shards.has(spec.shard), spec.shard);
  for (const { spec } of [...of('Shard'), ...of('Tenant')]) assert.equal(spec.keyspace, keyspace.metadata.name);
  for (const { tenants = [] } of keyspace.spec.roles ?? [])
    for (const key of tenants) assert.ok(keys.has(key), `no tenant ${key}`);
});

test('roles of the commerce example are one of each sort: any tenant, one, several', () => {
  const roles = of('Keyspace')[0]?.spec.roles ?? [];
  assert.deepEqual(
    roles.map(({ name, tenants, anyTenant }) => [name, anyTenant ?? tenants?.length]),
    [
      ['shop_app', true],
      ['acme_app', 1],
      ['partner_app', 2],
    ],
  );
});
