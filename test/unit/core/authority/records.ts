/** Records and answers for the tests of decisions: a shard of named members, the first of them primary. */
import type { FenceAnswer } from '#core/authority/fence.ts';
import type { AuthorityRecord, HistoryEntry } from '#core/authority/record.ts';
import { type MemberIdentity, replicationName } from '#core/identity.ts';
import type { AuthorityAnswer } from '#core/protocol/authority.ts';

export const member = (name: string): MemberIdentity => ({ name, incarnation: name.repeat(16).slice(0, 16) });
export const nameOf = (name: string): string => replicationName(member(name));

export function recordOf(
  names: readonly string[],
  acknowledgements: number,
  history: readonly HistoryEntry[] = [{ epoch: 1, timeline: 1, member: 'a', forkLsn: '0/0' }],
): AuthorityRecord {
  const newest = history.at(-1) ?? { epoch: 1, timeline: 1, member: 'a' };
  return {
    authority: {
      epoch: newest.epoch,
      timeline: newest.timeline,
      ...member(newest.member),
      member: newest.member,
      region: `region-${newest.member}`,
      since: '2026-01-01T00:00:00Z',
      state: 'Active',
    },
    membership: { generation: 3, members: names.map(member), acknowledgements },
    history,
  };
}

export const fenced = (
  name: string,
  epoch: number,
  position: { timeline: number; lsn: string } | null,
  more: { atMs?: number; leaseRemainingMs?: number; stopped?: boolean } = {},
): FenceAnswer => ({
  atMs: more.atMs ?? 0,
  fenced: {
    member: member(name),
    epoch,
    position,
    problem: '',
    leaseRemainingMs: more.leaseRemainingMs ?? 0,
    stopped: more.stopped ?? true,
    systemIdentifier: '1',
  },
});

export function authorityAnswer(name: string, more: Partial<AuthorityAnswer> = {}): AuthorityAnswer {
  return {
    member: member(name),
    shardUid: 'uid',
    region: `region-${name}`,
    version: 1,
    state: 'following',
    promise: { epoch: 1, grantee: nameOf('a'), generation: 3, ageMs: 60_000 },
    agentAgeMs: 60_000,
    ...more,
  };
}

export const followerOf = (source: string, epoch: number, heardMs: number): AuthorityAnswer['follower'] => ({
  source: member(source),
  epoch,
  servingHeardMs: heardMs,
  walHeardMs: heardMs,
  grantRemainingMs: 0,
});
