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
    observe: (region, context) => observeRegion(deps.kube, region, context),
    plan: planRegion,
    act: () => Promise.reject(new Error('a region has no actions')),
  };
}

async function observeRegion(
  kube: KubeApi,
  region: Stored<Region>,
  { cache }: ObserveContext,
): Promise<RegionSnapshot> {
  const { namespace } = region.metadata;
  return {
    region,
    nodes: await countNodes(kube, nodeSelectorOf(region)),
    regions: cache.list(regions, { namespace }).map(({ metadata }) => metadata.name),
    primaries: cache
      .list(shards, { namespace })
      .filter(({ status }) => status?.authority?.region === region.metadata.name)
      .map(({ metadata }) => metadata.name)
      .toSorted(),
  };
}

async function countNodes(kube: KubeApi, selector: Readonly<Record<string, string>>): Promise<number | undefined> {
  try {
    const { items } = await kube.of(nodes).list({ labelSelector: selectorText(selector) });
    return items.length;
  } catch (error) {
    if (error instanceof ApiError && error.isForbidden) return undefined;
    throw error;
  }
}
