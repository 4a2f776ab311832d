/**
 * The region controller: says whether a Region has nodes, whether the regions it names exist, and how many primaries are in it.
 * Nothing is made for a Region, so it needs no finalizer: what names a region that is gone says so in conditions of its own.
 */
import type { KubeApi } from '#kube/client.ts';
import { ApiError } from '#kube/errors.ts';
import { nodes } from '#kube/kinds.ts';
import { type Region, regions, shards } from '#kube/meridian.ts';
import { keyOf, type Stored } from '#kube/objects.ts';
import { selectorText } from '#operator/resources/member-labels.ts';
import { type Controller, type ControllerDeps, type ObserveContext, watch } from '#operator/runtime/controller.ts';
import { nodeSelectorOf, planRegion, type RegionSnapshot } from './plan.ts';

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
      // Where a primary is now and where it was: the region it left hears of it at its next look.
      watch(shards, ({ metadata, status }) =>
        status?.authority === undefined
          ? []
          : [keyOf({ namespace: metadata.namespace, name: status.authority.region })],
      ),
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
    primaries: cache
      .list(shards, { namespace })
      .filter(({ status }) => status?.authority?.region === region.metadata.name)
      .map(({ metadata }) => metadata.name)
      .toSorted(),
  };
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
