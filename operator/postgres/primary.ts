/**
 * Where a shard's primary can be reached now, from the record of authority and the members' addresses. Pure.
 * That an address is really that member's is proved by its certificate when connecting (`connect.ts`); that it still has authority
 * is not proved here: whatever is written there waits for the shard's own acknowledgements like any other commit.
 */
import { isTrue } from '#kube/conditions.ts';
import type { RegionalReplica, Shard } from '#kube/meridian.ts';
import type { MemberTarget } from './connect.ts';

export type PrimaryLookup =
  | { readonly kind: 'found'; readonly target: MemberTarget; readonly epoch: number; readonly incarnation: string }
  | { readonly kind: 'missing'; readonly reason: string; readonly message: string };

/** The parts of a Shard and of a RegionalReplica that are needed, so that tests can be small. */
export type ShardRecord = Pick<Shard, 'metadata' | 'status'> & { readonly spec: Pick<Shard['spec'], 'keyspace'> };
export type ReplicaRecord = Pick<RegionalReplica, 'status'> & { readonly spec: Pick<RegionalReplica['spec'], 'shard'> };

/**
 * The primary of a shard that serves with all the acknowledgements it wants (its condition Ready): before that a commit of ours would
 * wait for followers that aren't there.
 */
export function findPrimary(shard: ShardRecord, replicas: readonly ReplicaRecord[]): PrimaryLookup {
  const missing = (reason: string, message: string): PrimaryLookup => ({ kind: 'missing', reason, message });
  const { name, namespace = '' } = shard.metadata;
  const authority = shard.status?.authority;
  if (authority === undefined) return missing('NotInitialised', `shard ${name} has no primary yet`);
  if (authority.state !== 'Active')
    return missing('AuthorityNotActive', `the authority of shard ${name} is ${authority.state}`);
  if (!isTrue(shard.status?.conditions, 'Ready')) return missing('ShardNotReady', `shard ${name} isn't ready`);
  const member = replicas
    .filter((replica) => replica.spec.shard === name)
    .flatMap((replica) => replica.status?.members ?? [])
    .find((candidate) => candidate.name === authority.member);
  if (member?.address === undefined || member.address === '')
    return missing('NoAddress', `the primary ${authority.member} of shard ${name} has no address`);
  if (member.incarnation !== undefined && member.incarnation !== authority.incarnation)
    return missing('WrongIncarnation', `${authority.member} has lost its volume since it became primary of ${name}`);
  return {
    kind: 'found',
    epoch: authority.epoch,
    incarnation: authority.incarnation,
    target: { namespace, keyspace: shard.spec.keyspace, member: authority.member, address: member.address },
  };
}
