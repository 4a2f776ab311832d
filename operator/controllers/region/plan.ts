/**
 * What a Region's status says, from what was seen. Pure; the region controller changes nothing but that status.
 */
import type { Finding } from '#kube/conditions.ts';
import type { Region } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import type { Plan } from '#operator/runtime/controller.ts';

export interface RegionSnapshot {
  readonly region: Stored<Region>;
  /** Nodes that match the selector; undefined where the operator may not list nodes (an installation for one namespace). */
  readonly nodes: number | undefined;
  /** Names of all Regions of the namespace. */
  readonly regions: readonly string[];
  /** Shards whose primary is here now, the most important first. */
  readonly primaries: readonly PrimaryHere[];
}

export interface PrimaryHere {
  readonly shard: string;
  /** It is handing over. */
  readonly isMoving: boolean;
  /** A region that isn't drained has a promotable member of it. */
  readonly hasElsewhere: boolean;
  /** Why its switchover is refused now, in the words of its own condition. */
  readonly obstacle: string | undefined;
}

/** Labels of the nodes of a region: what the object says, else Kubernetes' own label with the region's name. */
export const nodeSelectorOf = (region: Pick<Region, 'metadata' | 'spec'>): Readonly<Record<string, string>> =>
  region.spec.nodeSelector ?? { 'topology.kubernetes.io/region': region.metadata.name };

type Judge = (snapshot: RegionSnapshot) => Finding;

const named = (names: readonly string[]): string =>
  names.length <= 8 ? names.join(', ') : `${names.slice(0, 8).join(', ')} and ${names.length - 8} more`;

const nodesFound: Judge = ({ region, nodes }) => {
  const type = 'NodesFound';
  const selector = Object.entries(nodeSelectorOf(region))
    .map(([name, value]) => `${name}=${value}`)
    .join(',');
  if (nodes === undefined)
    return {
      type,
      status: 'Unknown',
      reason: 'NodesForbidden',
      message: `the operator may not list nodes, so it can't tell whether any has ${selector}`,
    };
  if (nodes === 0)
    return {
      type,
      status: 'False',
      reason: 'NoNodes',
      message: `no node has the labels ${selector}: label the region's nodes, or correct spec.nodeSelector`,
      warning: true,
    };
  return { type, status: 'True', reason: 'NodesFound', message: `${nodes} nodes have the labels ${selector}` };
};

const proximityKnown: Judge = ({ region, regions }) => {
  const type = 'ProximityKnown';
  const unknown = region.spec.proximity.filter((name) => !regions.includes(name));
  return unknown.length === 0
    ? { type, status: 'True', reason: 'AllKnown', message: 'every region of spec.proximity is declared' }
    : {
        type,
        status: 'False',
        reason: 'UnknownRegion',
        message: `spec.proximity names ${named(unknown)}: make a Region of that name, or take it out`,
        warning: true,
      };
};

const drained: Judge = ({ region, primaries }) => {
  const type = 'Drained';
  if (!region.spec.drain)
    return { type, status: 'False', reason: 'NotRequested', message: 'spec.drain is false: primaries may be here' };
  if (primaries.length === 0)
    return { type, status: 'True', reason: 'Drained', message: 'no shard has its primary here; followers stay' };
  const stuck = primaries.filter(({ hasElsewhere }) => !hasElsewhere);
  if (stuck.length === primaries.length)
    return {
      type,
      status: 'False',
      reason: 'LastRegion',
      message: `refused: no other region that isn't drained has a promotable member of ${named(stuck.map(({ shard }) => shard))}, so the primaries stay here`,
      warning: true,
    };
  const left = primaries.map(stateOf);
  const isHeld = primaries.some(({ hasElsewhere, obstacle }) => !hasElsewhere || obstacle !== undefined);
  return {
    type,
    status: 'False',
    reason: isHeld ? 'SomeStay' : 'Moving',
    message: `${primaries.length} primaries are still here: ${left.slice(0, 8).join('; ')}${left.length > 8 ? ` and ${left.length - 8} more` : ''}`,
    ...(isHeld ? { warning: true } : {}),
  };
};

function stateOf({ shard, isMoving, hasElsewhere, obstacle }: PrimaryHere): string {
  if (isMoving) return `${shard} is handing over`;
  if (!hasElsewhere) return `${shard} stays, since no region that isn't drained has a promotable member of it`;
  return obstacle === undefined ? `${shard} is next or waits for its turn` : `${shard} can't move yet (${obstacle})`;
}

export function planRegion(snapshot: RegionSnapshot): Plan<Region, never> {
  const nodes = nodesFound(snapshot);
  const findings = [nodes, proximityKnown(snapshot), drained(snapshot)];
  const isUsable = nodes.status !== 'False';
  const ready: Finding = isUsable
    ? { type: 'Ready', status: 'True', reason: 'Usable', message: 'members and routers can run here' }
    : { type: 'Ready', status: 'False', reason: nodes.reason, message: nodes.message };
  return {
    actions: [],
    status: {
      phase: phaseOf(snapshot, isUsable),
      ...(snapshot.nodes === undefined ? {} : { nodes: snapshot.nodes }),
      primaries: snapshot.primaries.length,
    },
    conditions: [ready, ...findings],
    requeueAfterMs: snapshot.region.spec.drain && snapshot.primaries.length > 0 ? drainingMs : lookAgainMs,
  };
}

/** Nodes aren't watched (an installation for one namespace may not): they are counted again after this long. */
const lookAgainMs = 60_000;
const drainingMs = 2_000;

function phaseOf({ region, primaries }: RegionSnapshot, isUsable: boolean): string {
  if (!isUsable) return 'NoNodes';
  if (!region.spec.drain) return 'Ready';
  if (primaries.length === 0) return 'Drained';
  return primaries.some(({ hasElsewhere }) => hasElsewhere) ? 'Draining' : 'DrainRefused';
}
