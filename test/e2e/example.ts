/**
 * The commerce example as the end-to-end tests use it: its objects one by one, applied in a seeded random order, and what
 * must come out the same whichever order they arrived in.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { parseAllDocuments, stringify } from 'yaml';
import { withLock } from '#cluster/cache.ts';
import type { Cluster } from '#cluster/cluster.ts';
import { exampleFolder } from '../../demo/installation.ts';

/**
 * The CRDs belong to the whole cluster, and the test files run side by side. Helm looks which of them are there before it
 * creates the others: one that came in between fails the installation. So whoever may create them does it alone.
 */
export function installing<T>(work: () => Promise<T>): Promise<T> {
  return withLock('custom-resource-definitions', work);
}

export interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec?: Record<string, unknown>;
}

export function exampleManifests(): readonly Manifest[] {
  return readdirSync(exampleFolder)
    .filter((file) => file.endsWith('.yaml'))
    .toSorted()
    .flatMap((file) =>
      parseAllDocuments(readFileSync(join(exampleFolder, file), 'utf8')).map(
        (document) => document.toJS() as Manifest | null,
      ),
    )
    .filter((manifest) => manifest !== null);
}

/** Fisher-Yates with a small seeded generator (mulberry32), so that a failing order can be run again. */
export function shuffled<T>(items: readonly T[], seed: number): T[] {
  let state = seed >>> 0;
  const random = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const result = [...items];
  for (let last = result.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [result[last], result[other]] = [result[other] as T, result[last] as T];
  }
  return result;
}

/** Applies every object by itself, in the given order. */
export async function applyOneByOne(
  cluster: Cluster,
  namespace: string,
  manifests: readonly Manifest[],
): Promise<void> {
  for (const manifest of manifests) await cluster.kubectl(['apply', '-n', namespace, '-f', '-'], stringify(manifest));
}

interface Listed {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: Record<string, unknown>;
  readonly status?: {
    readonly authority?: {
      readonly member?: string;
      readonly epoch: number;
      readonly shard?: string;
      readonly state: string;
    };
    readonly membership?: { readonly members: readonly { readonly name: string }[]; readonly acknowledgements: number };
    readonly history?: readonly { readonly member: string }[];
    readonly schemaVersion?: string;
  };
}

/** What must be equal after every order: who led first, who acknowledges, how many tenants each shard has, which schema. */
async function outcome(cluster: Cluster, namespace: string) {
  const text = await cluster.kubectl([
    'get',
    'keyspaces,shards,regionalreplicas,tenants',
    '-n',
    namespace,
    '-o',
    'json',
  ]);
  const items = (JSON.parse(text) as { items: readonly Listed[] }).items;
  const of = (kind: string): readonly Listed[] =>
    items.filter((item) => item.kind === kind).toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  const tenantsOf = (shard: string): number =>
    of('Tenant').filter((tenant) => tenant.status?.authority?.shard === shard).length;
  return {
    keyspaces: of('Keyspace').map((keyspace) => ({
      name: keyspace.metadata.name,
      schemaVersion: keyspace.status?.schemaVersion,
    })),
    shards: of('Shard').map((shard) => ({
      name: shard.metadata.name,
      // Where it began: on a machine that stalls for seconds authority may have moved since, rightly.
      firstPrimary: shard.status?.history?.[0]?.member,
      state: shard.status?.authority?.state,
      members: shard.status?.membership?.members.map((member) => member.name).toSorted(),
      acknowledgements: shard.status?.membership?.acknowledgements,
      tenants: tenantsOf(shard.metadata.name),
    })),
    wantedShards: of('Tenant')
      .filter((tenant) => tenant.spec['shard'] !== undefined)
      .map((tenant) => ({
        name: tenant.metadata.name,
        wanted: tenant.spec['shard'],
        has: tenant.status?.authority?.shard,
      })),
    regionalReplicas: of('RegionalReplica').map((replica) => replica.metadata.name),
    deployments: (await cluster.kubectl(['get', 'deployments,statefulsets,services', '-n', namespace, '-o', 'name']))
      .trim()
      .split('\n')
      .toSorted(),
  };
}

/**
 * The outcome once nothing is on its way: every authority active, and the same twice. Whoever gives `expected` waits for that,
 * since a machine that stalls has members leave and come back; what is there at the end of its patience is handed back.
 */
export async function settledOutcome(cluster: Cluster, namespace: string, expected?: unknown): Promise<unknown> {
  let before: unknown;
  for (const giveUpAt = performance.now() + 90_000; ; await sleep(2_000)) {
    const seen = await outcome(cluster, namespace);
    const isSteady = isDeepStrictEqual(seen, before) && seen.shards.every(({ state }) => state === 'Active');
    const isDone = expected === undefined ? isSteady : isDeepStrictEqual(seen, expected);
    if (isDone || performance.now() > giveUpAt) return seen;
    before = seen;
  }
}

/** Deletes the namespace and waits until nothing of it is left. */
export async function deleteNamespace(cluster: Cluster, namespace: string): Promise<void> {
  await cluster.kubectl(['delete', 'namespace', namespace, '--ignore-not-found', '--wait=true', '--timeout=300s']);
}

/**
 * Deletes our own objects while their operator runs. Before a namespace is deleted this saves half a minute: its controller
 * deletes pods before everything else, and StatefulSets make them again (Kubernetes 1.33, "Ordered namespace deletion").
 */
export async function emptyNamespace(cluster: Cluster, namespace: string): Promise<void> {
  const ours = 'tenants,regionalreplicas,shards,keyspaces,regions';
  await cluster.kubectl(['delete', ours, '--all', '-n', namespace, '--wait=true', '--timeout=240s']);
}
