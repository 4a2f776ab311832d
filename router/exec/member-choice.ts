/**
 * Which members may serve a route, best first: pure. The caller takes the first that gives it a connection.
 * - writes, transactions that may write, and strong reads: the primary, nobody else;
 * - other reads: followers, nearest first, of those as near the one with fewest statements in flight, then the primary;
 * - statements of no tenant: any member, nearest first.
 * A member that stops, starts, or is about to be promoted ends its sessions: reads that needn't be there go elsewhere.
 */
import { RouterError } from '../errors.ts';
import { type ClusterMap, distance, type MemberView, membersOf } from '../map/map.ts';
import type { Route } from './route.ts';

export interface ChoiceInput {
  readonly map: ClusterMap;
  /** Region of this router. */
  readonly region: string;
  /** False for members that could not be reached a moment ago. */
  readonly isReachable: (member: string) => boolean;
  /** True for members whose agents say that they are on their way down or up. */
  readonly isClosed: (member: string) => boolean;
  /** Member that served this session's last read of that shard: what it has seen there needs no asking. */
  readonly previous: string | undefined;
  /** Statements that this router has under way at the member. Asked only of members that are as near as others. */
  readonly inFlight?: (member: string) => number;
}

export interface ChosenMember {
  readonly member: MemberView;
  readonly isPrimary: boolean;
}

/** So many statements more under way don't make a session leave the member that it read from. */
const worthStaying = 4;

/** @throws RouterError NoMember when none can serve. */
export function chooseMembers(
  route: Pick<Route, 'shard' | 'primaryOnly' | 'level'>,
  input: ChoiceInput,
): ChosenMember[] {
  const { map } = input;
  const shards = route.shard === undefined ? [...map.shards.keys()] : [route.shard];
  const candidates: ChosenMember[] = [];
  for (const name of shards) {
    const { primary, target } = map.shards.get(name) ?? {};
    for (const member of membersOf(map, name)) {
      const isPrimary = member.name === primary;
      const isGoing = member.name === target || input.isClosed(member.name);
      if (route.primaryOnly ? isPrimary : (member.ready || isPrimary) && !isGoing)
        candidates.push({ member, isPrimary });
    }
  }
  if (candidates.length === 0) {
    const whose = route.shard === undefined ? 'the keyspace' : `shard "${route.shard}"`;
    throw new RouterError(
      'NoMember',
      `${whose} has no ${route.primaryOnly ? 'primary' : 'member'} that can serve this now`,
    );
  }
  const rank = ({ member, isPrimary }: ChosenMember): readonly number[] => [
    input.isReachable(member.name) ? 0 : 1,
    // A tenant's eventual reads leave the primary alone where a follower can serve.
    route.shard !== undefined && isPrimary ? 1 : 0,
    distance(map, input.region, member.region),
  ];
  const ranked = candidates.map((candidate) => ({ candidate, rank: rank(candidate), load: 0 }));
  for (const one of ranked)
    if (ranked.some((other) => other !== one && compareRanks(one.rank, other.rank) === 0))
      one.load = loadOf(one.candidate.member.name, input);
  return ranked
    .toSorted(
      (a, b) =>
        compareRanks(a.rank, b.rank) || a.load - b.load || (a.candidate.member.name < b.candidate.member.name ? -1 : 1),
    )
    .map(({ candidate }) => candidate);
}

/** Fewest statements in flight; a session moves only where that is worth something. */
const loadOf = (member: string, { previous, inFlight }: ChoiceInput): number =>
  (inFlight?.(member) ?? 0) - (member === previous ? worthStaying : 0);

function compareRanks(a: readonly number[], b: readonly number[]): number {
  for (const [index, value] of a.entries()) {
    const difference = value - (b[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
