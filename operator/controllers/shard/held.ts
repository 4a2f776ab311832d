/**
 * Why the membership isn't as wished though no change is under way, and what people can do about it. Pure: words only.
 */
import {
  canSpareOne,
  type MembershipInput,
  maxMembers,
  type RemovalReason,
  removalReason,
} from '#core/authority/membership-change.ts';
import { isListed } from '#core/authority/record.ts';
import { dataVolume } from '../../resources/member-pod.ts';

/** Members that should come or go and can't, or acknowledgements that should rise and can't. */
export function whyHeld(input: MembershipInput): string | undefined {
  const { membership } = input.record;
  const due = input.members.flatMap((facts) => {
    const why = removalReason(facts, input);
    return why === undefined ? [] : [{ name: facts.member.name, why }];
  });
  if (due.length > 0) {
    const names = due.map(({ name }) => name).join(', ');
    const k = membership.acknowledgements;
    const why = canSpareOne(membership)
      ? `${names} can be removed only while ${k} others acknowledge and the primary is open`
      : `${names} can't be removed: acknowledgements ${k} need ${k + 1} members`;
    return [why, ...due.flatMap(({ name, why: reason }) => wayOut(name, reason) ?? [])].join('. ');
  }
  const excess = input.members.filter(({ declared, member }) => declared && !isListed(input.record, member));
  if (membership.members.length >= maxMembers && excess.length > 0)
    return `${excess.map(({ member }) => member.name).join(', ')} can't be added: a shard has ${maxMembers} members at most`;
  const wished = input.wish.acknowledgements;
  if (wished > membership.acknowledgements)
    return `acknowledgements stay at ${membership.acknowledgements} until ${wished} followers acknowledge`;
  return undefined;
}

/** What somebody can do who wants it to go on; undefined where waiting is all. */
function wayOut(name: string, why: RemovalReason): string | undefined {
  const another =
    'raise instances of a RegionalReplica by one: with another member in its place it is removed by itself';
  const successor = 'with a new volume it joins as a new member, and the old one is removed after that';
  switch (why) {
    case 'Stale':
      return (
        `${name} has to be copied anew, since the primary no longer has the log that it needs: ${another}. ` +
        `Or delete its PersistentVolumeClaim ${dataVolume}-${name} and then its pod ${name}: ${successor}. ` +
        'Until then there is one copy of the data less'
      );
    case 'VolumeGoing':
      return (
        `The PersistentVolumeClaim ${dataVolume}-${name} is marked for deletion, and goes with the pod: ${another}. ` +
        `Or delete the pod ${name}: ${successor}, one copy of the data less until then`
      );
    case 'Leaving':
      return `For ${name} to go, raise instances of another RegionalReplica, or lower spec.durability.acknowledgements`;
    case 'Diverged':
      return `${name} waits to be rewound until then: its data has left the history of the primary`;
    case 'Deposed':
    case 'Replaced':
    case 'Lost':
      return undefined;
    default:
      return why satisfies never;
  }
}
