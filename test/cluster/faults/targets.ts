// What people call a place in the cluster (`eu`, `meridian-eu`, `api`), and the nodes that it means.
import type { ClusterNode } from '../cluster.ts';

export interface TargetNode extends ClusterNode {
  readonly container: string;
}

export interface Targets {
  readonly all: readonly TargetNode[];
  /** A region's nodes, one node by name, or the control plane as `api`. Throws on a name that means nothing. */
  find(place: string): readonly TargetNode[];
}

export const API = 'api';

export function createTargets(nodes: readonly ClusterNode[]): Targets {
  const all = nodes.filter((node): node is TargetNode => node.container !== null);
  return {
    all,
    find: (place) => {
      if (all.length === 0) throw new Error("this cluster's nodes are no containers of this machine: no faults here");
      const found = all.filter((node) => node.name === place || (node.region ?? API) === place);
      if (found.length === 0) {
        const places = [...new Set(all.flatMap((node) => [node.region ?? API, node.name]))].toSorted();
        throw new Error(`no such place: ${place} (there are ${places.join(', ')})`);
      }
      return found;
    },
  };
}

/** Every address that packets to a node or to its pods carry. */
export function networksOf(node: ClusterNode): string[] {
  return [node.podCidr, `${node.address}/32`].filter((network) => network !== '' && network !== '/32');
}
