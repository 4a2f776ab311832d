/**
 * The lease of a primary: by whose grants it may stand, and until when it does. Pure: who asks, who answers and who ends
 * Postgres is the agent's lease thread and the dead man's handle.
 * Invariants (docs/design.md, section 4, "Lease"; traps A8, A14): the lease set is the record's membership, and while a change
 * is under way the lease is as strict as both sides of it, so that whoever takes over by either record meets it.
 */
import { type MemberIdentity, replicationName } from '../identity.ts';
import type { Orders } from '../protocol/orders.ts';
import type { MembershipChange } from './membership-change.ts';
import { type AuthorityRecord, isPrimary, sameMember } from './record.ts';
import { leaseMarginMs, leaseMs } from './timing.ts';

export type LeaseSettings = Orders['lease'];

/** By what the primary of `record` stands while `change` is worked on, and without one by the record alone. */
export function leaseSettings(record: AuthorityRecord, change?: MembershipChange): LeaseSettings {
  const { members, acknowledgements } = record.membership;
  const followers = members.filter((member) => !isPrimary(record, member));
  const wished =
    change?.kind === 'RaiseAcknowledgements' || change?.kind === 'LowerAcknowledgements'
      ? change.acknowledgements
      : acknowledgements;
  const stricter = Math.max(acknowledgements, wished);
  const needsKubernetes = Math.min(acknowledgements, wished) === 0;
  const lease = setDuring(followers, change, needsKubernetes);
  return {
    members: lease.map(({ name, incarnation }) => ({ name, incarnation })),
    // With fewer followers than k nobody commits either, and any single one of them is an enough fence.
    required: Math.min(stricter, followers.length),
    // Where nobody else is listed, nobody could take over.
    kubernetes: needsKubernetes && lease.length > 0,
  };
}

/**
 * k-th latest: fewer who count are stricter, so whoever leaves is out first and whoever joins is in last. "All of them", which
 * stands for the Kubernetes Lease with k = 0: more are stricter, the other way round.
 */
function setDuring(
  followers: readonly MemberIdentity[],
  change: MembershipChange | undefined,
  needsKubernetes: boolean,
): readonly MemberIdentity[] {
  if (needsKubernetes) return change?.kind === 'Add' ? [...followers, change.member] : followers;
  return change?.kind === 'Remove' ? followers.filter((member) => !sameMember(member, change.member)) : followers;
}

/**
 * Until when the lease holds, on the clock of the grants; null where none is needed, 0 where it isn't held.
 * @param grantedUntilMs By `replicationName`: the time that the newest granted request was *sent*, + L - margin. Of the present
 * epoch and generation only.
 * @param kubernetesUntilMs The time that the newest successful renewal of the Kubernetes Lease was sent, + its TTL - margin; 0 for none.
 */
export function expiryOf(
  settings: LeaseSettings,
  grantedUntilMs: ReadonlyMap<string, number>,
  kubernetesUntilMs: number,
): number | null {
  if (settings.required === 0 && !settings.kubernetes) return null;
  const latestFirst = settings.members
    .map((member) => grantedUntilMs.get(replicationName(member)) ?? 0)
    .toSorted((a, b) => b - a);
  const byQuorum = settings.required === 0 ? Number.POSITIVE_INFINITY : (latestFirst[settings.required - 1] ?? 0);
  if (!settings.kubernetes) return byQuorum;
  return Math.min(byQuorum, Math.max(kubernetesUntilMs, latestFirst.at(-1) ?? 0));
}

/**
 * For how long a router that asks now may deliver answers of this primary, from its own send. Never longer than a grant runs:
 * a Kubernetes Lease runs five times as long, and k may be raised right after the answer; from then on a taker waits for
 * grants only. The same where no lease is needed yet.
 * @param remainingMs Of the lease now, margin taken off; null where none is needed.
 */
export const deliverableMs = (remainingMs: number | null): number =>
  Math.min(remainingMs ?? Number.POSITIVE_INFINITY, leaseMs - leaseMarginMs);

/**
 * For how long any grant that was given may still run, on the grantor's clock: what it remembers, and after a restart what it
 * may have forgotten (trap A7).
 */
export function grantRemainingMs(grantor: {
  /** End of the longest grant that this process has given; 0 for none. */
  readonly grantedUntilMs: number;
  /** The longest lease ever granted, from the promise. */
  readonly longestLeaseMs: number;
  /** Since the process began, or its clock jumped. */
  readonly ageMs: number;
  readonly nowMs: number;
}): number {
  return Math.max(0, grantor.grantedUntilMs - grantor.nowMs, grantor.longestLeaseMs - grantor.ageMs);
}
