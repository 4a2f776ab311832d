/**
 * How a member comes back to the history of its primary: where it left it, and when its own copy may be touched.
 * Invariants (docs/design.md, section 4, "Rejoin"; traps A2, A24): a copy that counts is neither rewound nor thrown away while it
 * may be one of the k + 1 that hold a write; whoever is removed first loses nothing for anybody.
 */
import type { MemberIdentity } from '../identity.ts';
import { awayBeforeDeposedMs } from './membership-change.ts';
import { type Divergence, divergenceFrom, positionOf, type WirePosition } from './position.ts';
import { type AuthorityRecord, isListed, isPrimary, sameMember } from './record.ts';

export type Rejoin =
  /** A part of the primary's history: it streams. */
  | { readonly kind: 'Stream' }
  /** It has more, or other: `forkLsn` on `timeline` is the last that both have. */
  | ({ readonly kind: 'Diverged' } & Divergence)
  /** A timeline that the record never gave out, or no common ancestor: only a fresh copy helps. */
  | { readonly kind: 'Foreign'; readonly why: string };

/** What has to happen to a member with this much on disk before it can stream from the primary of the record. */
export function rejoinOf(record: AuthorityRecord, wire: WirePosition): Rejoin {
  const position = positionOf(record, wire);
  if (position === undefined)
    return { kind: 'Foreign', why: `timeline ${wire.timeline} at ${wire.lsn} is in no recorded history` };
  const divergence = divergenceFrom(record, position, record.authority.timeline);
  if (divergence === undefined) return { kind: 'Stream' };
  if (divergence.timeline === 0)
    return { kind: 'Foreign', why: `timeline ${wire.timeline} has no ancestor in common with that of the primary` };
  return { kind: 'Diverged', ...divergence };
}

/** A follower as the rules of rejoining see it. */
export interface RejoiningMember {
  readonly member: MemberIdentity;
  readonly diverged: boolean;
  /** Its name answers with another incarnation: this one never comes back. Absent: no. */
  readonly gone?: boolean | undefined;
  /** Its primary no longer has the log that it needs, so that only a copy as a new member helps. Absent: no. */
  readonly stale?: boolean | undefined;
  /** It acknowledges nothing to its primary: `scope: OtherRegion`, and it is in the same region. Absent: it does. */
  readonly outOfScope?: boolean | undefined;
  /** For how long it has been neither reachable nor streaming. Absent: it is either. */
  readonly awayMs?: number | undefined;
}

/**
 * Whether a diverged member may be rewound in place.
 * Not listed: its copy counts for nothing. Listed, and the primary open: never, since it can be removed first (k others are
 * established, or the gate wouldn't be open); half-rewound and still listed it would be missing from the next fence (A2).
 * Listed, and the gate still shut: only where the gate could never open otherwise, since fewer than k others are left that
 * could follow without a rewind and count: N = k + 1, or more who are gone, stale, diverged too, away for long or out of scope
 * (nobody can be removed before the gate opens, B1).
 * No acknowledged write is lost by that: the primary was chosen from a fence that met every k + 1 holders, so it has all that
 * was acknowledged before, and behind its gate it acknowledges nothing; and a copy half-rewound has no position, so that no
 * fence counts it. It begins only once that primary runs and gives it. What it costs is one failure: until it is back, the
 * member that is rewound counts as one that failed. Hence it isn't done for a member that may only be restarting.
 * Its old WAL is kept aside first.
 */
export function mayRewind(
  record: AuthorityRecord,
  member: MemberIdentity,
  members: readonly RejoiningMember[],
  primaryIsOpen: boolean,
): boolean {
  if (isPrimary(record, member)) return false;
  if (!isListed(record, member)) return true;
  if (primaryIsOpen) return false;
  const others = mayAcknowledge(record, members).filter((other) => !sameMember(other, member));
  return others.length < record.membership.acknowledgements;
}

/** Whether a shut gate can't be opened by those whom the record counts, without a rewind: somebody else has to join first. */
export const lacksFollowers = (record: AuthorityRecord, members: readonly RejoiningMember[]): boolean =>
  mayAcknowledge(record, members).length < record.membership.acknowledgements;

/** Those of the record who can follow its primary as they are, as far as anybody knows, and count for its commits. */
const mayAcknowledge = (record: AuthorityRecord, members: readonly RejoiningMember[]): readonly MemberIdentity[] =>
  record.membership.members.filter(
    (listed) =>
      !isPrimary(record, listed) && !members.some((entry) => sameMember(entry.member, listed) && isNoHelp(entry)),
  );

const isNoHelp = ({ diverged, gone, stale, outOfScope, awayMs = 0 }: RejoiningMember): boolean =>
  diverged || gone === true || stale === true || outOfScope === true || awayMs >= awayBeforeDeposedMs;
