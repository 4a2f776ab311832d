/**
 * How many pods a RegionalReplica may have now. Going up is free; going down waits until the shard's record lists none of the
 * members that would go, since a member that is lost while it counts weakens what its commits rest on (trap A2). Pure.
 */
import type { ShardStatus } from '#crds/index.ts';

export interface PodCount {
  readonly replicas: number;
  /** Why it is more than asked for; undefined when it isn't. */
  readonly held?: { readonly reason: 'PrimaryHere' | 'MembershipHolds'; readonly message: string };
}

/** The ordinal of a member of this RegionalReplica; undefined for members of others. */
export function ordinalOf(regionalReplica: string, member: string): number | undefined {
  const prefix = `${regionalReplica}-`;
  if (!member.startsWith(prefix)) return undefined;
  const rest = member.slice(prefix.length);
  return /^(0|[1-9][0-9]{0,2})$/.test(rest) ? Number(rest) : undefined;
}

/** Members of this RegionalReplica that the record still counts, the primary among them. */
export function countedMembers(
  regionalReplica: string,
  status: Pick<ShardStatus, 'authority' | 'membership'> | undefined,
): readonly { readonly name: string; readonly ordinal: number; readonly isPrimary: boolean }[] {
  const primary = status?.authority?.member;
  const names = new Set([
    ...(status?.membership?.members ?? []).map(({ name }) => name),
    ...(primary ? [primary] : []),
  ]);
  return [...names].flatMap((name) => {
    const ordinal = ordinalOf(regionalReplica, name);
    return ordinal === undefined ? [] : [{ name, ordinal, isPrimary: name === primary }];
  });
}

export function podCount(
  regionalReplica: string,
  instances: number,
  status: Pick<ShardStatus, 'authority' | 'membership'> | undefined,
): PodCount {
  const holding = countedMembers(regionalReplica, status).filter(({ ordinal }) => ordinal >= instances);
  if (holding.length === 0) return { replicas: instances };
  const replicas = Math.max(...holding.map(({ ordinal }) => ordinal)) + 1;
  const primary = holding.find(({ isPrimary }) => isPrimary);
  if (primary !== undefined)
    return {
      replicas,
      held: {
        reason: 'PrimaryHere',
        message: `${primary.name} is the primary: it goes after a switchover, which its Shard does as soon as it can (condition SwitchoverPossible)`,
      },
    };
  const names = holding.map(({ name }) => name).toSorted();
  return {
    replicas,
    held: {
      reason: 'MembershipHolds',
      message: `${names.join(', ')} still ${names.length === 1 ? 'counts' : 'count'} for the shard's durability, and ${names.length === 1 ? 'goes' : 'go'} once the others suffice (acknowledgements + 1 members at least)`,
    },
  };
}
