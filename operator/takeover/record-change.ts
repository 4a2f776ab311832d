/**
 * The fields of `Shard.status` that a takeover writes: the record, and for people what an unplanned failover was. Pure.
 */
import { type AuthorityRecord, primaryOf, sameMember } from '#core/authority/record.ts';
import type { Shard } from '#kube/meridian.ts';

type Status = NonNullable<Shard['status']>;

export interface RecordChangeInput {
  readonly shard: Shard;
  readonly before: AuthorityRecord;
  readonly record: AuthorityRecord;
  /** Why it became necessary; undefined where nothing was decided. */
  readonly why: string | undefined;
  readonly at: Date;
}

export function recordChange({ before, record, why, at }: RecordChangeInput): Partial<Status> {
  const { authority, membership, history } = record;
  const plain = {
    authority: { ...authority },
    membership: { ...membership, members: membership.members.map((member) => ({ ...member })) },
    history: history.map((entry) => ({ ...entry })),
  };
  const isPlanned = before.authority.state === 'Stopping';
  if (why === undefined || isPlanned || sameMember(primaryOf(before), primaryOf(record))) return plain;
  const k = before.membership.acknowledgements;
  const forkLsn = history.at(-1)?.forkLsn;
  return {
    ...plain,
    lastFailover: {
      epoch: authority.epoch,
      from: before.authority.member,
      fromIncarnation: before.authority.incarnation,
      to: authority.member,
      reason: why.slice(0, 250),
      at: at.toISOString(),
      acknowledgements: k,
      exact: false,
      ...(k === 0 && forkLsn !== undefined ? { lostFrom: forkLsn } : {}),
    },
  };
}
