/**
 * Changes of a shard's membership and of k, one at a time, each in the order that keeps every commit within every fence.
 * Invariants (docs/design.md, section 4): the record is only ever stricter than Postgres: the sync list holds members of the
 * record only, and waits for no fewer than the record's k. Adding and lowering k: record first. Removing and raising k:
 * Postgres first, then the barrier, then the position, then the record (trap A9).
 * With k = 0 the lease, not the sync list, is what has to be stricter first (trap A14): then adding and lowering to 0 wait, too.
 * While a gate is shut members may be added, never removed (trap B1), and k may be lowered, never raised: the next fence only needs
 * more members then, and a gate that asks for more followers than there are would stay shut for ever.
 * Leaves observing, and telling Postgres, to the shard controller and the agents.
 */
import { type MemberIdentity, nobody } from '../identity.ts';
import type { Lsn } from '../lsn.ts';
import {
  type AuthorityRecord,
  acknowledgersOf,
  isListed,
  isPrimary,
  type Membership,
  mayAcknowledge,
  type RegionOf,
  type Scope,
  sameMember,
} from './record.ts';

export type MembershipChange =
  | { readonly kind: 'LowerAcknowledgements'; readonly acknowledgements: number }
  | { readonly kind: 'Add'; readonly member: MemberIdentity }
  | { readonly kind: 'Remove'; readonly member: MemberIdentity; readonly why: RemovalReason }
  | { readonly kind: 'RaiseAcknowledgements'; readonly acknowledgements: number };

/**
 * Replaced: its volume is another one now. Leaving: no RegionalReplica asks for it. Stale: the log that it needs is gone, so
 * that it can only be copied anew, as a new member. VolumeGoing: its volume is marked for deletion, and goes with its pod.
 * Diverged: it left the primary's history, and gives its copy up. Deposed: the primary of an epoch before, which didn't come
 * back: the next fence must not need it (trap A15). Lost: away too long (ShrinkMembership).
 */
export type RemovalReason = 'Replaced' | 'Leaving' | 'Stale' | 'VolumeGoing' | 'Diverged' | 'Deposed' | 'Lost';

const removalOrder: readonly RemovalReason[] = [
  'Replaced',
  'Leaving',
  'Stale',
  'VolumeGoing',
  'Diverged',
  'Deposed',
  'Lost',
];

export interface DurabilityWish {
  readonly acknowledgements: number;
  readonly scope: Scope;
  readonly onLoss: 'Block' | 'ShrinkMembership';
}

/** What is known of one member, listed or not. */
export interface MemberFacts {
  readonly member: MemberIdentity;
  /** A RegionalReplica asks for it, and it isn't about to be scaled away. */
  readonly declared: boolean;
  /** Its agent answers with another incarnation than this one. */
  readonly replaced: boolean;
  /** It can't stream any more: the primary no longer has the log that it needs. */
  readonly stale: boolean;
  /** Its volume is marked for deletion: the next end of its pod is the end of what it holds. */
  readonly volumeGoing: boolean;
  /** It says that its data left the primary's history, and it can't be, or isn't to be, rewound as it is. Absent: no. */
  readonly diverged?: boolean | undefined;
  /** The primary has a WAL sender for exactly this identity, in state streaming. */
  readonly streaming: boolean;
  /** It has said itself that it has replayed nearly all that there is. */
  readonly caughtUp: boolean;
  /** What it has flushed, as the primary knows it; only while streaming. */
  readonly flushed?: Lsn | undefined;
  /** For how long it has been neither reachable nor streaming; 0 while it is either. */
  readonly awayMs: number;
}

export interface MembershipInput {
  readonly record: AuthorityRecord;
  readonly wish: DurabilityWish;
  readonly regionOf: RegionOf;
  readonly members: readonly MemberFacts[];
  /** The primary is in authority and open: with a closed gate nobody may be removed (trap B1). */
  readonly primaryIsOpen: boolean;
  /** It runs as primary at the record's epoch, behind its opening gate. Absent: no. */
  readonly primaryIsOpening?: boolean | undefined;
}

/** How long a member must be away before `ShrinkMembership` drops it: longer than a pod takes to be replaced in place. */
export const awayBeforeShrinkMs = 30_000;

/** The same for the primary of an epoch before: it failed already, and the next fence would need it. */
export const awayBeforeDeposedMs = 10_000;

/**
 * Bound of the record's list, from what every member's Postgres has room for (`max_wal_senders` and `max_replication_slots`,
 * fixed by the agent): a follower takes two WAL senders, one for its stream and one for the slots that it copies, or two for
 * its first copy; and two slots for a while when it is replaced. A third of the slots stays free for moves of tenants.
 */
export const maxMembers = 32;

/** The one change to work on now; undefined when the record is as it should be, or nothing can be done safely. */
export function nextChange(input: MembershipInput): MembershipChange | undefined {
  if (input.record.authority.state !== 'Active') return undefined;
  // Adding first: it never waits for anything, and may be all that the gate lacks.
  if (!input.primaryIsOpen) return input.primaryIsOpening === true ? (adding(input) ?? lowering(input)) : undefined;
  return lowering(input) ?? adding(input) ?? removing(input) ?? raising(input);
}

function lowering({ record, wish }: MembershipInput): MembershipChange | undefined {
  return wish.acknowledgements < record.membership.acknowledgements
    ? { kind: 'LowerAcknowledgements', acknowledgements: wish.acknowledgements }
    : undefined;
}

/** Only who already streams and is caught up: the next fence needs an answer from it (ambiguity 13). */
function adding({ record, members }: MembershipInput): MembershipChange | undefined {
  if (record.membership.members.length >= maxMembers) return undefined;
  const ready = members.filter(
    (facts) =>
      facts.declared &&
      !facts.replaced &&
      !facts.volumeGoing &&
      facts.diverged !== true &&
      facts.streaming &&
      facts.caughtUp &&
      !isListed(record, facts.member),
  );
  const member = byName(ready)[0]?.member;
  return member && { kind: 'Add', member };
}

function removing(input: MembershipInput): MembershipChange | undefined {
  if (!canSpareOne(input.record.membership)) return undefined;
  const due = input.members.flatMap((facts) => {
    const why = removalReason(facts, input);
    return why !== undefined && enoughWithout(facts.member, input) ? [{ facts, why }] : [];
  });
  for (const why of removalOrder) {
    const member = byName(due.filter((entry) => entry.why === why).map((entry) => entry.facts))[0]?.member;
    if (member !== undefined) return { kind: 'Remove', member, why };
  }
  return undefined;
}

/** Never below k + 1 members: with fewer, no failure could be survived (trap A15). */
export const canSpareOne = ({ members, acknowledgements }: Membership): boolean =>
  members.length - 1 >= acknowledgements + 1;

/** Why a listed member should go; undefined for one that should stay, and always for the primary. */
export function removalReason(
  facts: MemberFacts,
  { record, wish }: Pick<MembershipInput, 'record' | 'wish'>,
): RemovalReason | undefined {
  if (isPrimary(record, facts.member) || !isListed(record, facts.member)) return undefined;
  if (facts.replaced) return 'Replaced';
  if (!facts.declared) return 'Leaving';
  if (facts.stale) return 'Stale';
  if (facts.volumeGoing) return 'VolumeGoing';
  if (facts.diverged === true) return 'Diverged';
  if (facts.awayMs >= awayBeforeDeposedMs && wasPrimary(record, facts.member)) return 'Deposed';
  return wish.onLoss === 'ShrinkMembership' && facts.awayMs >= awayBeforeShrinkMs ? 'Lost' : undefined;
}

/** It led the epoch before this one. */
function wasPrimary({ authority, history }: AuthorityRecord, member: MemberIdentity): boolean {
  return history.findLast(({ epoch }) => epoch < authority.epoch)?.member === member.name;
}

/** Whether k others stream, so that taking this one off the sync list stops no commit. */
function enoughWithout(member: MemberIdentity, input: MembershipInput): boolean {
  const others = streamingAcknowledgers(input).filter((other) => !sameMember(other.member, member));
  return others.length >= input.record.membership.acknowledgements;
}

function raising(input: MembershipInput): MembershipChange | undefined {
  const { acknowledgements } = input.wish;
  const { membership } = input.record;
  if (acknowledgements <= membership.acknowledgements || membership.members.length < acknowledgements + 1)
    return undefined;
  // Where so many can't answer now, raising would stop all commits at once: a condition says so instead.
  if (streamingAcknowledgers(input).length < acknowledgements) return undefined;
  return { kind: 'RaiseAcknowledgements', acknowledgements };
}

/** Listed members that count for a commit and stream now. */
export function streamingAcknowledgers({
  record,
  wish,
  regionOf,
  members,
}: Pick<MembershipInput, 'record' | 'wish' | 'regionOf' | 'members'>): readonly MemberFacts[] {
  return members.filter(
    (facts) =>
      facts.streaming && isListed(record, facts.member) && mayAcknowledge(record, facts.member, wish.scope, regionOf),
  );
}

/** What Postgres is to work by: `synchronous_standby_names = ANY acknowledgements (members)`. */
export interface SynchronousSettings {
  readonly acknowledgements: number;
  readonly members: readonly MemberIdentity[];
}

/** The settings while `change` is worked on: those of the record, less what it removes, with what it raises. */
export function settingsDuring(
  record: AuthorityRecord,
  change: MembershipChange | undefined,
  scope: Scope,
  regionOf: RegionOf,
): SynchronousSettings {
  const leaving = change?.kind === 'Remove' ? change.member : undefined;
  const acknowledgements =
    change?.kind === 'RaiseAcknowledgements' ? change.acknowledgements : record.membership.acknowledgements;
  if (acknowledgements === 0) return { acknowledgements, members: [] };
  const members = acknowledgersOf(record, scope, regionOf).filter(
    (member) => leaving === undefined || !sameMember(member, leaving),
  );
  // An empty list would mean that nobody is waited for at all (trap A9c).
  return { acknowledgements, members: members.length === 0 ? [nobody] : members };
}

/**
 * Whether the record may be written before the primary has been told. With k = 0, or on the way there, the lease has to be the
 * stricter one of both records first: a new member's grant must be needed before a taker may fence it alone (traps A14, B5).
 */
export function recordGoesFirst(change: MembershipChange, record: AuthorityRecord): boolean {
  if (change.kind === 'Add') return record.membership.acknowledgements > 0;
  return change.kind === 'LowerAcknowledgements' && change.acknowledgements > 0;
}

/**
 * Whether a change that Postgres makes first has gone far enough for the record.
 * @param position What the primary had flushed at a moment when its Postgres was already shown to work by the new settings:
 * every commit acknowledged under the old ones lies before it.
 */
export function isSafeToRecord(change: MembershipChange, position: Lsn | undefined, input: MembershipInput): boolean {
  if (recordGoesFirst(change, input.record)) return true;
  if (position === undefined) return false;
  if (change.kind === 'Add' || change.kind === 'LowerAcknowledgements') return true;
  const needed =
    change.kind === 'RaiseAcknowledgements' ? change.acknowledgements : input.record.membership.acknowledgements;
  const reached = streamingAcknowledgers(input).filter(
    ({ member, flushed }) =>
      flushed !== undefined && flushed >= position && !(change.kind === 'Remove' && sameMember(member, change.member)),
  );
  return reached.length >= needed;
}

/** The membership after the change, one generation on. */
export function changedMembership(membership: Membership, change: MembershipChange): Membership {
  const generation = membership.generation + 1;
  switch (change.kind) {
    case 'LowerAcknowledgements':
    case 'RaiseAcknowledgements':
      return { ...membership, generation, acknowledgements: change.acknowledgements };
    case 'Add':
      return { ...membership, generation, members: [...membership.members, change.member] };
    case 'Remove':
      return {
        ...membership,
        generation,
        members: membership.members.filter((member) => !sameMember(member, change.member)),
      };
    default:
      return change satisfies never;
  }
}

const byName = (facts: readonly MemberFacts[]): readonly MemberFacts[] =>
  facts.toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));

const nameOf = ({ member }: MemberFacts): string => `${member.name}/${member.incarnation}`;
