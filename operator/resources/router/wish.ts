/**
 * What the objects of one region's router are made from, and the labels that find them again.
 * The builders beside this file turn it into objects; creating, changing and deleting those is the keyspace controller's work.
 * Invariant: the selector labels of a router never change, since a Deployment's selector can't.
 */
import { labels, managedByValue, routerName } from '#core/names.ts';
import type { OwnerReference } from '#kube/objects.ts';

export interface RouterWish {
  readonly namespace: string;
  readonly keyspace: string;
  readonly region: string;
  /** The Keyspace: what is made here goes when it goes. */
  readonly owner: OwnerReference;
  /** Nodes of the region, as its Region object says. */
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly image: string;
  readonly replicas: number;
  readonly resources: ContainerResources;
  /** Event loops of each pod. */
  readonly workers: number;
  /** Whether simple queries go to members as prepared statements. */
  readonly preparesSimpleQueries: boolean;
  readonly serviceType: 'ClusterIP' | 'NodePort' | 'LoadBalancer';
  readonly nodePort: number | undefined;
  /** Addresses and ranges of load balancers that say for whom they connect. */
  readonly proxyProtocolFrom: readonly string[];
}

export interface ContainerResources {
  readonly requests?: Readonly<Record<string, string>>;
  readonly limits?: Readonly<Record<string, string>>;
}

export const routerComponent = 'router';

/** The labels by which the pods of one region's router are selected. */
export const routerSelector = (keyspace: string, region: string): Readonly<Record<string, string>> => ({
  [labels.component]: routerComponent,
  [labels.keyspace]: keyspace,
  [labels.region]: region,
});

/** The labels on everything made for the routers of a keyspace, in whatever region. */
export const routerLabels = (keyspace: string): Readonly<Record<string, string>> => ({
  [labels.managedBy]: managedByValue,
  [labels.component]: routerComponent,
  [labels.keyspace]: keyspace,
});

export const routerMetadata = (wish: RouterWish) => ({
  name: routerName(wish.keyspace, wish.region),
  namespace: wish.namespace,
  labels: { ...routerLabels(wish.keyspace), [labels.region]: wish.region },
  ownerReferences: [wish.owner],
});
