/**
 * The record of authority as every decision here takes it: `Shard.status.authority`, `membership` and `history`.
 * Only shapes and small questions; who writes it, and when, is the shard controller's (docs/design.md, section 4).
 */
import type { MemberIdentity } from '../identity.ts';

export interface Authority {
  readonly epoch: number;
  readonly timeline: number;
  readonly member: string;
  readonly incarnation: string;
  readonly region: string;
  /** RFC 3339. */
  readonly since: string;
  readonly state: 'Initialising' | 'Active' | 'Stopping';
  /** While Stopping: who is to take over. */
  readonly target?: MemberIdentity | undefined;
}

export interface Membership {
  readonly generation: number;
  /** Those who count, the primary among them. */
  readonly members: readonly MemberIdentity[];
  /** k as it holds now. */
  readonly acknowledgements: number;
}

export interface HistoryEntry {
  readonly epoch: number;
  readonly timeline: number;
  readonly member: string;
  readonly forkLsn: string;
  /** The timeline that it left at `forkLsn`: not always that of the epoch before, whose primary may have died alone (A5). */
  readonly parent?: number | undefined;
}

/** A record that has begun: authority and membership are always written together. */
export interface AuthorityRecord {
  readonly authority: Authority;
  readonly membership: Membership;
  readonly history: readonly HistoryEntry[];
}

export type Scope = 'AnyMember' | 'OtherRegion';

/** In which region a member is; undefined where nobody says so any more. */
export type RegionOf = (member: string) => string | undefined;

export const sameMember = (a: MemberIdentity, b: MemberIdentity): boolean =>
  a.name === b.name && a.incarnation === b.incarnation;

export const primaryOf = ({ authority }: AuthorityRecord): MemberIdentity => ({
  name: authority.member,
  incarnation: authority.incarnation,
});

export const isPrimary = (record: AuthorityRecord, member: MemberIdentity): boolean =>
  sameMember(primaryOf(record), member);

export const isListed = ({ membership }: AuthorityRecord, member: MemberIdentity): boolean =>
  membership.members.some((listed) => sameMember(listed, member));

/**
 * Whether acknowledgements of this member count. With `OtherRegion` only those from outside the primary's region; a member
 * whose region nobody knows doesn't count. The fence rule stays over all members all the same (trap A29).
 */
export function mayAcknowledge(
  record: AuthorityRecord,
  member: MemberIdentity,
  scope: Scope,
  regionOf: RegionOf,
): boolean {
  if (isPrimary(record, member)) return false;
  if (scope === 'AnyMember') return true;
  const region = regionOf(member.name);
  return region !== undefined && region !== record.authority.region;
}

export function acknowledgersOf(record: AuthorityRecord, scope: Scope, regionOf: RegionOf): readonly MemberIdentity[] {
  return record.membership.members.filter((member) => mayAcknowledge(record, member, scope, regionOf));
}
