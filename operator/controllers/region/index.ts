/**
 * The region controller: says whether a Region has nodes, whether the regions it names exist, and how many primaries are in it.
 * Nothing is made for a Region, so it needs no finalizer: what names a region that is gone says so in conditions of its own.
 */

import type { KubeApi } from '#kube/client.ts';
import { findCondition } from '#kube/conditions.ts';
import { ApiError } from '#kube/errors.ts';
import { nodes } from '#kube/kinds.ts';
import { type Region, regionalReplicas, regions, shards } from '#kube/meridian.ts';
import { keyOf, type Stored } from '#kube/objects.ts';
import { selectorText } from '#operator/resources/member-labels.ts';
import {
  type Cache,
  type Controller,
  type ControllerDeps,
  type ObserveContext,
  watch,
} from '#operator/runtime/controller.ts';
import { comesBefore, drainedRegions } from '../shard/drained.ts';
import { nodeSelectorOf, type PrimaryHere, planRegion, type RegionSnapshot } from './plan.ts';

export function createRegionController(deps: ControllerDeps): Controller<Region, RegionSnapshot, never> {
  const counter = new NodeCounter(deps.kube);
  return {
    type: regions,
    watches: [
      watch(regions, (changed, cache) =>
        cache
          .list(regions, { namespace: changed.metadata.namespace })
          .filter(({ spec }) => spec.proximity.includes(changed.metadata.name))
          .map((region) => keyOf(region)),
      ),
      // Where a primary is now; one that is being drained looks again by itself until it is empty.
      watch(shards, ({ metadata, status }) =>
        status?.authority === undefined
          ? []
          : [keyOf({ namespace: metadata.namespace, name: status.authority.region })],
      ),
      // Only their presence in the cache is needed: whether a primary could be elsewhere.
      watch(regionalReplicas, () => []),
    ],
    observe: (region, context) => observeRegion(counter, region, context),
    plan: planRegion,
    act: () => Promise.reject(new Error('a region has no actions')),
  };
}

async function observeRegion(
  counter: NodeCounter,
  region: Stored<Region>,
  { cache }: ObserveContext,
): Promise<RegionSnapshot> {
  const { namespace } = region.metadata;
  return {
    region,
    nodes: await counter.count(selectorText(nodeSelectorOf(region))),
    regions: cache.list(regions, { namespace }).map(({ metadata }) => metadata.name),
    primaries: primariesIn(region, cache),
  };
}

function primariesIn({ metadata: { namespace, name } }: Stored<Region>, cache: Cache): PrimaryHere[] {
  const drained = drainedRegions(cache, namespace);
  const replicas = cache.list(regionalReplicas, { namespace });
  return cache
    .list(shards, { namespace })
    .filter(({ status }) => status?.authority?.region === name)
    .toSorted((a, b) => (comesBefore(a, b) ? -1 : 1))
    .map((shard) => {
      const possible = findCondition(shard.status?.conditions, 'SwitchoverPossible');
      return {
        shard: shard.metadata.name,
        isMoving: shard.status?.authority?.state === 'Stopping' || possible?.reason === 'UnderWay',
        hasElsewhere: replicas.some(
          ({ spec, metadata }) =>
            spec.shard === shard.metadata.name &&
            spec.promotable &&
            spec.instances > 0 &&
            metadata.deletionTimestamp === undefined &&
            spec.region !== name &&
            !drained.has(spec.region),
        ),
        obstacle: possible?.status === 'False' ? possible.message : undefined,
      };
    });
}

/** Nodes seldom change, and a region is looked at with every change of its shards: what was counted counts for a while. */
const countLifeMs = 20_000;

class NodeCounter {
  readonly #kube: KubeApi;
  readonly #counted = new Map<string, { readonly nodes: Promise<number | undefined>; readonly atMs: number }>();

  constructor(kube: KubeApi) {
    this.#kube = kube;
  }

  /** Undefined where nodes may not be listed. */
  count(labelSelector: string): Promise<number | undefined> {
    const counted = this.#counted.get(labelSelector);
    if (counted !== undefined && Date.now() - counted.atMs < countLifeMs) return counted.nodes;
    const nodes = this.#list(labelSelector);
    this.#counted.set(labelSelector, { nodes, atMs: Date.now() });
    nodes.catch(() => this.#counted.delete(labelSelector));
    return nodes;
  }

  async #list(labelSelector: string): Promise<number | undefined> {
    try {
      return (await this.#kube.of(nodes).list({ labelSelector })).items.length;
    } catch (error) {
      if (error instanceof ApiError && error.isForbidden) return undefined;
      throw error;
    }
  }
}
