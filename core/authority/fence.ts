/**
 * Which fenced members together are enough to end an epoch, and until when its grants may still run.
 * Invariants (docs/design.md, section 4, "Fence"; traps A2, A13, B5, B6): only members of the record count, by name *and*
 * incarnation, only at the epoch asked for, only with a readable position and with no process left that could write; with
 * k >= 1 enough means that every set of k followers and every k + 1 holders of a write are met.
 */
import { type MemberIdentity, replicationName } from '../identity.ts';
import type { Fenced } from '../protocol/authority.ts';
import { type Position, positionOf } from './position.ts';
import { type AuthorityRecord, isPrimary, primaryOf, sameMember } from './record.ts';

/** An answer, with the time of its receipt on the asking operator's boot-time clock. */
export interface FenceAnswer {
  readonly fenced: Fenced;
  readonly atMs: number;
}

export interface Counted {
  readonly member: MemberIdentity;
  readonly position: Position;
  /** When no grant of it below the epoch can run any more, on the operator's clock. */
  readonly grantsEndMs: number;
}

/** The answers that count for a fence at `epoch`. */
export function countedAnswers(
  record: AuthorityRecord,
  epoch: number,
  answers: readonly FenceAnswer[],
): readonly Counted[] {
  return record.membership.members.flatMap((member) => {
    const answer = answers.find(({ fenced }) => sameMember(fenced.member, member) && fenced.epoch === epoch);
    if (answer === undefined || !answer.fenced.stopped || answer.fenced.position === null) return [];
    const position = positionOf(record, answer.fenced.position);
    if (position === undefined) return [];
    return [{ member, position, grantsEndMs: answer.atMs + answer.fenced.leaseRemainingMs }];
  });
}

/** How many members it takes without the primary. */
export function neededForFence({ membership }: AuthorityRecord): number {
  const { members, acknowledgements } = membership;
  // k = 0: the Kubernetes Lease is the fence; one member's grant is what keeps "all grant" from standing in for it (B5).
  return acknowledgements === 0 ? 1 : Math.max(1, members.length - acknowledgements);
}

/** Whether these are enough both to end the epoch and to choose from: the primary itself is, alone, and so are N - k. */
export function isEnough(record: AuthorityRecord, counted: readonly { readonly member: MemberIdentity }[]): boolean {
  return counted.some(({ member }) => isPrimary(record, member)) || counted.length >= neededForFence(record);
}

/** What stands in the way of an enough fence, for people; undefined when nothing does. */
export function whyNotEnough(
  record: AuthorityRecord,
  counted: readonly { readonly member: MemberIdentity }[],
): string | undefined {
  if (isEnough(record, counted)) return undefined;
  const missing = record.membership.members
    .filter((member) => !counted.some((entry) => sameMember(entry.member, member)))
    .map(replicationName)
    .toSorted();
  return `${counted.length} of the ${neededForFence(record)} members that it takes answer; missing: ${missing.join(', ')}`;
}

/** A Kubernetes Lease as an operator has watched it (k = 0). */
export interface WatchedLease {
  /** `name/incarnation`; empty when there is none or it was given up. */
  readonly holder: string;
  /** Since when it hasn't changed, on this operator's own clock. */
  readonly unchangedSinceMs: number;
}

/**
 * When the old epoch is over, given an enough fence: no grant that could keep its primary runs after this.
 * No wait where the primary itself has promised the epoch and shown that nothing of its Postgres is left.
 * Infinity where a Kubernetes Lease is needed and hasn't been watched.
 */
export function epochEndsMs(
  record: AuthorityRecord,
  counted: readonly Counted[],
  lease: WatchedLease | undefined,
  kubernetesLeaseMs: number,
): number {
  if (counted.some(({ member }) => isPrimary(record, member))) return 0;
  const grants = counted.reduce((latest, { grantsEndMs }) => Math.max(latest, grantsEndMs), 0);
  if (record.membership.acknowledgements > 0) return grants;
  if (lease === undefined) return Number.POSITIVE_INFINITY;
  // Held by nobody, or already handed to the one that takes over: the primary of the record can't renew it.
  if (lease.holder !== replicationName(primaryOf(record))) return grants;
  return Math.max(grants, lease.unchangedSinceMs + kubernetesLeaseMs);
}
