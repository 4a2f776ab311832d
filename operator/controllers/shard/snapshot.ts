/**
 * What is known about one Shard at the beginning of a round. The Shard itself comes from a GET made just before (the runtime's
 * `readsFresh`), and agents are asked after it: what is decided from their answers is swapped against that version only
 * (trap A10). Reads only, but for the operator's own certificate.
 */
import type { AuthorityRecord } from '#core/authority/record.ts';
import { persistentVolumeClaims, pods, statefulSets } from '#kube/kinds.ts';
import { type Keyspace, keyspaces, regionalReplicas, regions, type Shard, tenants } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import type { AgentAccess } from '../../agents/access.ts';
import { shardMembersSelector } from '../../resources/member-labels.ts';
import type { ControllerDeps, ObserveContext } from '../../runtime/controller.ts';
import { type OwnedClaim, ownClaims } from './claims.ts';
import { awayNames, type MemberView, memberViews } from './members.ts';
import type { NotedPosition, ShardMemory } from './memory.ts';

export interface Snapshot {
  readonly shard: Stored<Shard>;
  readonly record: AuthorityRecord | undefined;
  readonly keyspace: Stored<Keyspace> | undefined;
  readonly primaryRegionKnown: boolean;
  /** Names of RegionalReplicas whose Region is missing. */
  readonly replicasWithoutRegion: readonly string[];
  readonly views: readonly MemberView[];
  /** StatefulSets of the shard that are still there. */
  readonly statefulSets: readonly string[];
  /** PersistentVolumeClaims that were made for this Shard, are still there and not going. */
  readonly claims: readonly OwnedClaim[];
  /** Keys of the tenants that this shard owns. */
  readonly ownedTenants: readonly string[];
  readonly leaderTerm: number;
  readonly noted: NotedPosition | undefined;
  /** For how long each member has been away, by name. */
  readonly awayMs: ReadonlyMap<string, number>;
  readonly operatorNamespace: string;
}

export async function observe(
  shard: Stored<Shard>,
  deps: ControllerDeps,
  agents: AgentAccess,
  memory: ShardMemory,
  { cache }: ObserveContext,
): Promise<Snapshot> {
  const { namespace, name, uid } = shard.metadata;
  const record = recordOf(shard);
  const keyspace = cache.get(keyspaces, { namespace, name: shard.spec.keyspace });
  const ofShard = { namespace, labels: shardMembersSelector(name) };
  const replicas = cache.list(regionalReplicas, { namespace }).filter(({ spec }) => spec.shard === name);
  const ownPods = cache.list(pods, ofShard);
  const sets = cache.list(statefulSets, ofShard);
  const claims = cache.list(persistentVolumeClaims, ofShard);
  const seen = memberViews({
    shard,
    replicas,
    pods: ownPods,
    statefulSets: sets,
    claims,
    answers: await agents.ask(keyspace, ownPods, 0),
    listed: record?.membership.members.map((member) => member.name) ?? [],
  });
  const views = memory.recall(uid, seen);
  return {
    shard,
    record,
    keyspace,
    primaryRegionKnown: cache.get(regions, { namespace, name: shard.spec.primaryRegion }) !== undefined,
    replicasWithoutRegion: replicas
      .filter(({ spec }) => cache.get(regions, { namespace, name: spec.region }) === undefined)
      .map(({ metadata }) => metadata.name),
    views,
    statefulSets: sets.map(({ metadata }) => metadata.name),
    claims: ownClaims(shard, claims),
    ownedTenants: cache
      .list(tenants, { namespace })
      .filter(({ spec, status }) => spec.keyspace === shard.spec.keyspace && status?.authority?.shard === name)
      .map(({ spec }) => spec.key)
      .toSorted(),
    leaderTerm: deps.leaderTerm(),
    noted: memory.noted(uid),
    awayMs: memory.away(uid, awayNames(record, views), performance.now()),
    operatorNamespace: deps.operatorNamespace,
  };
}

/** Authority and membership are written together; one without the other is no record (somebody edited the status). */
export function recordOf({ status }: Shard): AuthorityRecord | undefined {
  if (status?.authority === undefined || status.membership === undefined) return undefined;
  return { authority: status.authority, membership: status.membership, history: status.history ?? [] };
}
