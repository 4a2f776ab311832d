/** Labels of members' objects, and the selectors that find them again. A selector never changes once a StatefulSet has it. */
import { labels, managedByValue } from '#core/names.ts';

/** Which members: those of one RegionalReplica. */
export interface MemberSetPlace {
  readonly namespace: string;
  readonly keyspace: string;
  readonly shard: string;
  readonly regionalReplica: string;
  readonly region: string;
}

export const memberComponent = 'member';

export const memberLabels = (place: MemberSetPlace): Record<string, string> => ({
  ...memberSetSelector(place),
  [labels.keyspace]: place.keyspace,
  [labels.region]: place.region,
});

/** The pods of one RegionalReplica. */
export const memberSetSelector = (
  place: Pick<MemberSetPlace, 'shard' | 'regionalReplica'>,
): Record<string, string> => ({
  ...shardMembersSelector(place.shard),
  [labels.regionalReplica]: place.regionalReplica,
});

/** The pods of a shard, in all regions. */
export const shardMembersSelector = (shard: string): Record<string, string> => ({
  [labels.managedBy]: managedByValue,
  [labels.component]: memberComponent,
  [labels.shard]: shard,
});

export const shardLabels = (keyspace: string, shard: string): Record<string, string> => ({
  ...shardMembersSelector(shard),
  [labels.keyspace]: keyspace,
});

/** In the form of a list request's `labelSelector`. */
export const selectorText = (selector: Readonly<Record<string, string>>): string =>
  Object.entries(selector)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
