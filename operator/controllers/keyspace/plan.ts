/**
 * What to do for a keyspace, from what was seen. Pure; the conditions and the status are made in `conclude.ts`, since what the
 * actions found belongs into them.
 *
 * Order: certificates first (members and routers can't start without), then routers, which need nothing from the shards to start;
 * then the record of ordinals, before any is used; then passwords; last, what is done on the shards.
 */

import { caSecretName, roleSecretName, routerName } from '#core/names.ts';
import { databaseOf } from '#crds/index.ts';
import { controllerReference } from '#kube/objects.ts';
import { routerAccount } from '#operator/resources/router/account.ts';
import { routerDeployment } from '#operator/resources/router/deployment.ts';
import { routerNetworkPolicy } from '#operator/resources/router/network-policy.ts';
import { routerDisruptionBudget, routerPeersService, routerService } from '#operator/resources/router/service.ts';
import type { ContainerResources, RouterWish } from '#operator/resources/router/wish.ts';
import type { KeyspaceAction, RoleWish, SchemaWish, ShardTarget } from './actions.ts';
import { assignOrdinals, type OrdinalAssignment, type OrdinalRecord, type ShardEntry } from './ordinals.ts';
import type { KeyspaceSnapshot } from './snapshot.ts';

/** The record of ordinals in the status. */
export const ordinalRecord = (snapshot: KeyspaceSnapshot): OrdinalRecord => ({
  shards: snapshot.keyspace.status?.shards ?? [],
  nextOrdinal: snapshot.keyspace.status?.nextOrdinal ?? 0,
});

export const ordinalsFor = (snapshot: KeyspaceSnapshot): OrdinalAssignment =>
  assignOrdinals(
    ordinalRecord(snapshot),
    snapshot.shards.map(({ name }) => name),
  );

/** A shard that has been given its schema once: tenants may live on it, and new migrations wait for it. */
export const hasSchema = (entry: ShardEntry): boolean => entry.ready || entry.migrations > 0;

export function planKeyspace(snapshot: KeyspaceSnapshot): readonly KeyspaceAction[] {
  const ordinals = ordinalsFor(snapshot);
  const targets = reachableShards(snapshot, ordinals.shards);
  const reachable = new Set(targets.map(({ name }) => name));
  const away = ordinals.shards.filter((entry) => !reachable.has(entry.name) && hasSchema(entry));
  return [
    { kind: 'ensureCertificates', routerDnsNames: routerDnsNames(snapshot) },
    ...routerActions(snapshot),
    ...(ordinals.changed
      ? [{ kind: 'recordOrdinals' as const, shards: ordinals.shards, nextOrdinal: ordinals.nextOrdinal }]
      : []),
    ...roleSecretActions(snapshot, targets, away.length === 0),
    { kind: 'setUpShards', wish: schemaWish(snapshot), shards: targets, away },
  ];
}

/** For a Keyspace that goes, once no Shard needs it any more. */
export function planFarewell(snapshot: KeyspaceSnapshot): {
  readonly actions: readonly KeyspaceAction[];
  readonly release: boolean;
} {
  if (snapshot.shards.length > 0) return { actions: [], release: false };
  // Everything else goes by owner reference. The authority and the role Secrets have none, so that Retain can keep them: a
  // Keyspace made again then has the same passwords.
  const names = [...snapshot.roleSecrets.values()].map(({ metadata }) => metadata.name);
  const actions =
    snapshot.keyspace.spec.deletionPolicy === 'Delete'
      ? [caSecretName(snapshot.keyspace.metadata.name), ...names].map((name) => ({
          kind: 'deleteSecret' as const,
          name,
        }))
      : [];
  return { actions, release: true };
}

function reachableShards(snapshot: KeyspaceSnapshot, entries: readonly ShardEntry[]): readonly ShardTarget[] {
  return snapshot.shards.flatMap(({ name, uid, deleting, primary }) => {
    const entry = entries.find((candidate) => candidate.name === name);
    if (entry === undefined || deleting || primary.kind === 'missing') return [];
    return [
      {
        name,
        uid,
        ordinal: entry.ordinal,
        epoch: primary.epoch,
        incarnation: primary.incarnation,
        member: primary.target,
        recorded: entry.migrations,
      },
    ];
  });
}

/** Migrations up to the first whose SQL can't be had: what comes after it must not run before it. */
export function availableMigrations(snapshot: KeyspaceSnapshot): SchemaWish['migrations'] {
  const available: { name: string; sql: string }[] = [];
  for (const migration of snapshot.migrations) {
    if (migration.kind === 'missing') break;
    available.push({ name: migration.name, sql: migration.sql });
  }
  return available;
}

function schemaWish(snapshot: KeyspaceSnapshot): SchemaWish {
  const { spec } = snapshot.keyspace;
  const migrations = availableMigrations(snapshot);
  return {
    database: databaseOf(snapshot.keyspace),
    tenantKey: spec.tenantKey,
    migrations,
    hasAllMigrations: migrations.length === snapshot.migrations.length,
    referenceTables: spec.referenceTables,
    roles: spec.roles.map(
      (role): RoleWish => ({
        name: role.name,
        secret: roleSecretName(snapshot.keyspace.metadata.name, role.name),
        ...(role.validUntil === undefined ? {} : { validUntil: role.validUntil }),
        ...(role.anyTenant === true ? { anyTenant: true } : { tenants: role.tenants ?? [] }),
      }),
    ),
  };
}

function roleSecretActions(
  snapshot: KeyspaceSnapshot,
  shards: readonly ShardTarget[],
  complete: boolean,
): readonly KeyspaceAction[] {
  const { spec } = snapshot.keyspace;
  const database = databaseOf(snapshot.keyspace);
  const regions = spec.routers.regions.map(({ region }) => region);
  const declared = new Set(spec.roles.map(({ name }) => name));
  return [
    ...spec.roles.map(({ name, clientCertificate }) => ({
      kind: 'ensureRoleSecret' as const,
      role: name,
      ...(clientCertificate === true ? { clientCertificate } : {}),
      database,
      regions,
      shards,
      complete,
    })),
    ...[...snapshot.roleSecrets]
      .filter(([role]) => !declared.has(role))
      .map(([, secret]) => ({ kind: 'deleteSecret' as const, name: secret.metadata.name })),
  ];
}

/** Every form in which a client inside the cluster may spell a router's Service. */
function routerDnsNames(snapshot: KeyspaceSnapshot): readonly string[] {
  const { name, namespace = '' } = snapshot.keyspace.metadata;
  const services = snapshot.keyspace.spec.routers.regions.map(({ region }) => routerName(name, region));
  return [
    ...services.flatMap((service) => [
      service,
      `${service}.${namespace}`,
      `${service}.${namespace}.svc`,
      `${service}.${namespace}.svc.cluster.local`,
    ]),
    'localhost',
  ];
}

function routerActions(snapshot: KeyspaceSnapshot): readonly KeyspaceAction[] {
  const { keyspace } = snapshot;
  const owner = controllerReference(keyspace);
  const place = { namespace: keyspace.metadata.namespace ?? '', keyspace: keyspace.metadata.name, owner };
  const wished = keyspace.spec.routers.regions;
  const apply = (object: Extract<KeyspaceAction, { kind: 'applyRouterObject' }>['object']): KeyspaceAction => ({
    kind: 'applyRouterObject',
    object,
  });
  const shared =
    wished.length === 0
      ? []
      : [...Object.values(routerAccount(place)), routerPeersService(place), routerNetworkPolicy(place)].map(apply);
  const perRegion = wished.flatMap((settings) => {
    const region = snapshot.regions.get(settings.region);
    // A region that nobody declared has no nodes to run on: the condition RegionsKnown says so.
    if (region === undefined) return [];
    const wish: RouterWish = {
      ...place,
      region: settings.region,
      nodeSelector: region.spec.nodeSelector ?? { 'topology.kubernetes.io/region': settings.region },
      image: snapshot.routerImage,
      replicas: settings.replicas,
      resources: containerResources(settings.resources),
      workers: settings.workers,
      preparesSimpleQueries: keyspace.spec.routers.prepareSimpleQueries,
      serviceType: settings.serviceType,
      nodePort: settings.nodePort,
      proxyProtocolFrom: settings.proxyProtocolFrom ?? [],
    };
    return [routerService(wish), routerDisruptionBudget(wish), routerDeployment(wish)].map(apply);
  });
  const wishedRegions = new Set(wished.map(({ region }) => region));
  const superfluous = [...new Set([...snapshot.deployments.keys(), ...snapshot.services.keys()])]
    .filter((region) => !wishedRegions.has(region))
    .map((region) => ({ kind: 'deleteRouter' as const, region }));
  return [...shared, ...perRegion, ...superfluous];
}

interface DeclaredResources {
  readonly requests?: Readonly<Record<string, string | number | undefined>> | undefined;
  readonly limits?: Readonly<Record<string, string | number | undefined>> | undefined;
}

function containerResources(declared: DeclaredResources | undefined): ContainerResources {
  const texts = (amounts: DeclaredResources['requests']) =>
    Object.fromEntries(
      Object.entries(amounts ?? {}).flatMap(([name, amount]) => (amount === undefined ? [] : [[name, String(amount)]])),
    );
  return {
    ...(declared?.requests === undefined ? {} : { requests: texts(declared.requests) }),
    ...(declared?.limits === undefined ? {} : { limits: texts(declared.limits) }),
  };
}
