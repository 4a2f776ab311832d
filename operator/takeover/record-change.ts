/**
 * The fields of `Shard.status` that a takeover writes: the record, and for people what an unplanned failover was. Pure.
 */
import { type AuthorityRecord, primaryOf, sameMember } from '#core/authority/record.ts';
import { parseLsn } from '#core/lsn.ts';
import type { Shard } from '#kube/meridian.ts';
import type { HeardPosition } from './last-heard.ts';

type Status = NonNullable<Shard['status']>;

export interface RecordChangeInput {
  readonly shard: Shard;
  readonly before: AuthorityRecord;
  readonly record: AuthorityRecord;
  /** Why it became necessary; undefined where nothing was decided. */
  readonly why: string | undefined;
  readonly at: Date;
  /** Of the primary before: what it said when it was fenced, or the last that was heard of it. */
  readonly heard?: HeardPosition | undefined;
}

export function recordChange({ before, record, why, at, heard }: RecordChangeInput): Partial<Status> {
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
      ...(k === 0 && forkLsn !== undefined ? { lostFrom: forkLsn, ...lostTo(before, forkLsn, heard) } : {}),
    },
  };
}

/** Only where it is known to have had more: that it was heard with less says nothing of what it wrote afterwards. */
function lostTo(
  { authority }: AuthorityRecord,
  forkLsn: string,
  heard: HeardPosition | undefined,
): { lostTo?: string } {
  if (heard === undefined || heard.timeline !== authority.timeline) return {};
  return parseLsn(heard.lsn) > parseLsn(forkLsn) ? { lostTo: heard.lsn } : {};
}
