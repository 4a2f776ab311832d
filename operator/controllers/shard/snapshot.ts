/**
 * What is known about one Shard at the beginning of a round. The Shard itself comes from a GET made just before (the runtime's
 * `readsFresh`), and agents are asked after it: what is decided from their answers is swapped against that version only
 * (trap A10). Reads only, but for the operator's own certificate.
 */
import type { AuthorityRecord } from '#core/authority/record.ts';
import { sameStatus } from '#kube/conditions.ts';
import { persistentVolumeClaims, pods, statefulSets } from '#kube/kinds.ts';
import { type Keyspace, keyspaces, regionalReplicas, regions, type Shard, shards, tenants } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import type { AgentAccess } from '../../agents/access.ts';
import { shardMembersSelector } from '../../resources/member-labels.ts';
import type { ControllerDeps, ObserveContext } from '../../runtime/controller.ts';
import type { TakeoverReport } from '../../takeover/takeovers.ts';
import { type OwnedClaim, ownClaims } from './claims.ts';
import { drainTurn } from './drained.ts';
import { awayNames, type MemberView, memberViews, promisesIn } from './members.ts';
import type { NotedPosition, ShardMemory } from './memory.ts';
import { contradiction } from './trust.ts';

/** A Region, as far as it matters for where a primary may be. */
export interface RegionView {
  readonly name: string;
  readonly drain: boolean;
  readonly proximity: readonly string[];
}

export interface Snapshot {
  readonly shard: Stored<Shard>;
  readonly record: AuthorityRecord | undefined;
  readonly keyspace: Stored<Keyspace> | undefined;
  readonly regions: readonly RegionView[];
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
  /** What this replica's takeover service does, or did last, about this shard. */
  readonly takeover: TakeoverReport | undefined;
  /**
   * The record was written by somebody else while agents were asked, and what they say may be about that one: nothing is
   * decided in this round.
   */
  readonly isOutdated: boolean;
  /** Where the primary's region is being drained: whether it is this shard's turn. */
  readonly isDrainTurn: boolean;
  /** Long enough has passed since the lag in the status changed. */
  readonly lagMayChange: boolean;
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
  const nowMs = performance.now();
  return {
    shard,
    record,
    keyspace,
    regions: cache.list(regions, { namespace }).map(({ metadata, spec }) => ({
      name: metadata.name,
      drain: spec.drain,
      proximity: spec.proximity,
    })),
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
    awayMs: memory.away(uid, awayNames(record, views), nowMs),
    takeover: deps.takeovers.reportOf(uid),
    isOutdated: record !== undefined && (await isOutdated(shard, record, views, deps)),
    isDrainTurn: drainTurn(shard, cache),
    lagMayChange: memory.lagMayChange(uid, shard.status?.summary?.lag, nowMs),
    operatorNamespace: deps.operatorNamespace,
  };
}

/**
 * A promise that contradicts the record was perhaps made for one that was decided after ours was read: only where the record
 * is still what it was is there a contradiction.
 */
async function isOutdated(
  shard: Stored<Shard>,
  record: AuthorityRecord,
  views: readonly MemberView[],
  deps: ControllerDeps,
): Promise<boolean> {
  if (contradiction(record, shard.metadata.uid, promisesIn(views)) === undefined) return false;
  const again = await deps.kube.of(shards).find(shard.metadata);
  return again !== undefined && !sameStatus(recordOf(again), record);
}

/** Authority and membership are written together; one without the other is no record (somebody edited the status). */
export function recordOf({ status }: Shard): AuthorityRecord | undefined {
  if (status?.authority === undefined || status.membership === undefined) return undefined;
  return { authority: status.authority, membership: status.membership, history: status.history ?? [] };
}
