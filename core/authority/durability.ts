/**
 * What a shard's durability can bear: whether it can be had at all from what is declared, and how far it is from stopping.
 * Findings only, in words for people; the membership itself is changed in `membership-change.ts`.
 */
import { type MembershipInput, streamingAcknowledgers } from './membership-change.ts';
import type { Scope } from './record.ts';

export interface DeclaredMember {
  readonly name: string;
  readonly region: string;
  readonly promotable: boolean;
}

export interface Impossible {
  readonly reason: 'TooFewMembers' | 'TooFewPromotable';
  readonly message: string;
}

/** Why k acknowledgements can never be had from the members that are declared; undefined when they can. */
export function whyImpossible(
  declared: readonly DeclaredMember[],
  primaryRegion: string,
  wish: { readonly acknowledgements: number; readonly scope: Scope },
): Impossible | undefined {
  const k = wish.acknowledgements;
  if (k === 0) return undefined;
  const inScope =
    wish.scope === 'OtherRegion'
      ? declared.filter(({ region }) => region !== primaryRegion).length
      : Math.max(0, declared.length - 1);
  if (inScope < k)
    return {
      reason: 'TooFewMembers',
      message:
        `acknowledgements: ${k} need ${count(k, 'follower')}${wish.scope === 'OtherRegion' ? ` outside ${primaryRegion}` : ' besides the primary'}, ` +
        `but the RegionalReplicas declare ${inScope}: commits would wait for ever. Raise instances, or lower spec.durability.acknowledgements.`,
    };
  const promotable = declared.filter((member) => member.promotable).length;
  if (promotable < k + 1)
    return {
      reason: 'TooFewPromotable',
      message:
        `acknowledgements: ${k} are meant to survive ${count(k, 'failure')}, which takes ${k + 1} promotable members, but the ` +
        `RegionalReplicas declare ${promotable}: the last of them could be lost with nobody to take over.`,
    };
  return undefined;
}

export interface CommitHealth {
  /** Members whose acknowledgements count and that stream now, by name. */
  readonly acknowledging: readonly string[];
  readonly needed: number;
  /** Commits go through. */
  readonly canCommit: boolean;
  /** How many of them may fail before commits stop; never below 0. */
  readonly spare: number;
}

export function commitHealth(input: Pick<MembershipInput, 'record' | 'wish' | 'regionOf' | 'members'>): CommitHealth {
  const acknowledging = streamingAcknowledgers(input).map(({ member }) => member.name);
  const needed = input.record.membership.acknowledgements;
  return {
    acknowledging: acknowledging.toSorted(),
    needed,
    canCommit: acknowledging.length >= needed,
    spare: needed === 0 ? Number.POSITIVE_INFINITY : Math.max(0, acknowledging.length - needed),
  };
}

const count = (n: number, word: string): string => `${n} ${word}${n === 1 ? '' : 's'}`;
