/**
 * What a takeover needs to know of a shard besides its record, from the shared watches: where members are, who may lead, which
 * regions are near. Reads of memory only; as old as the watches are, so nothing here is needed for safety.
 */
import type { Candidate } from '#core/authority/choose.ts';
import type { AuthorityRecord } from '#core/authority/record.ts';
import { labels } from '#core/names.ts';
import { persistentVolumeClaims, pods, statefulSets } from '#kube/kinds.ts';
import { regionalReplicas, regions, type Shard } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import { agentTarget } from '../agents/access.ts';
import type { StatusAnswer } from '../agents/client.ts';
import { drainedRegions } from '../controllers/shard/drained.ts';
import { fencedNames } from '../controllers/shard/fencing.ts';
import { type MemberView, memberViews } from '../controllers/shard/members.ts';
import { shardMembersSelector } from '../resources/member-labels.ts';
import type { Cache } from '../runtime/controller.ts';
import type { AskedMember } from './authority-watch.ts';

/** Addresses of all members' pods, by shard (`namespace/name`) and pod name: made once for a look at all shards. */
export type Addresses = ReadonlyMap<string, ReadonlyMap<string, string>>;

export function memberAddresses(cache: Cache): Addresses {
  const found = new Map<string, Map<string, string>>();
  for (const pod of cache.list(pods)) {
    const { namespace, name, labels: podLabels } = pod.metadata;
    const shard = podLabels?.[labels.shard];
    const address = agentTarget(pod)?.address;
    if (shard === undefined || address === undefined) continue;
    const key = `${namespace}/${shard}`;
    const ofShard = found.get(key) ?? new Map<string, string>();
    found.set(key, ofShard.set(name, address));
  }
  return found;
}

/**
 * The members of the record, each once, though it may be listed as who it was and as who it is; and whoever else has a pod of
 * this shard.
 */
export function askedMembers(shard: Stored<Shard>, record: AuthorityRecord, addresses: Addresses): AskedMember[] {
  const { namespace = '', name } = shard.metadata;
  const ofShard = addresses.get(`${namespace}/${name}`);
  const names = new Set([...record.membership.members.map((member) => member.name), ...(ofShard?.keys() ?? [])]);
  const { keyspace } = shard.spec;
  return [...names].map((member) => ({
    namespace,
    keyspace,
    shard: name,
    name: member,
    address: ofShard?.get(member),
  }));
}

export function viewsOf(cache: Cache, shard: Stored<Shard>, answers: ReadonlyMap<string, StatusAnswer>): MemberView[] {
  const { namespace, name } = shard.metadata;
  const ofShard = { namespace, labels: shardMembersSelector(name) };
  return memberViews({
    shard,
    replicas: cache.list(regionalReplicas, { namespace }).filter(({ spec }) => spec.shard === name),
    pods: cache.list(pods, ofShard),
    statefulSets: cache.list(statefulSets, ofShard),
    claims: cache.list(persistentVolumeClaims, ofShard),
    answers,
    listed: shard.status?.membership?.members.map((member) => member.name) ?? [],
  });
}

/** Who may lead: asked for, promotable, not about to lose its volume, and not kept down by hand. */
export function candidatesOf(cache: Cache, shard: Stored<Shard>): Candidate[] {
  const fenced = fencedNames(shard);
  const drained = drainedRegions(cache, shard.metadata.namespace);
  return viewsOf(cache, shard, new Map()).map(({ name, region, promotable, declared, volumeGoing, pod }) => ({
    name,
    region: region ?? '',
    promotable: declared && promotable && !volumeGoing && !fenced.has(name),
    isAvoided: drained.has(region ?? '') || pod?.outdated === true,
  }));
}

/** The preferred region, then those near it. */
export function regionOrder(cache: Cache, shard: Stored<Shard>): string[] {
  const { primaryRegion } = shard.spec;
  const region = cache.get(regions, { namespace: shard.metadata.namespace, name: primaryRegion });
  return [primaryRegion, ...(region?.spec.proximity ?? [])];
}
