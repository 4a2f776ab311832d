/**
 * The records that a takeover writes: a decision, and the announcement of a handover. Pure; the writing is a compare-and-swap.
 * Invariants: a decision's epoch is higher than any before and its timeline number was never given out (trap A5); the
 * membership stays whole, with its generation one on (trap B1).
 */
import type { MemberIdentity } from '../identity.ts';
import { formatLsn } from '../lsn.ts';
import { highestTimeline, type Position } from './position.ts';
import type { AuthorityRecord, HistoryEntry } from './record.ts';

export interface Decision {
  readonly epoch: number;
  readonly member: MemberIdentity;
  readonly region: string;
  /** Of the member, read after it was fenced: the new timeline leaves here. */
  readonly position: Position;
  /** RFC 3339. */
  readonly since: string;
}

/** What the record has room for. */
const maxHistory = 1_000;

/** The same membership one generation on, and a timeline above all that ever were. */
export function decidedRecord(record: AuthorityRecord, decision: Decision): AuthorityRecord {
  const { epoch, member, region, position, since } = decision;
  const timeline = highestTimeline(record) + 1;
  const entry: HistoryEntry = {
    epoch,
    timeline,
    member: member.name,
    forkLsn: formatLsn(position.lsn),
    parent: position.timeline,
  };
  return {
    authority: {
      epoch,
      timeline,
      member: member.name,
      incarnation: member.incarnation,
      region,
      since,
      state: 'Active',
    },
    membership: { ...record.membership, generation: record.membership.generation + 1 },
    history: [...record.history, entry].slice(-maxHistory),
  };
}

/** The primary is about to be stopped for this one. */
export const announced = (record: AuthorityRecord, target: MemberIdentity): AuthorityRecord => ({
  ...record,
  authority: { ...record.authority, state: 'Stopping', target },
});

/** A handover that was announced, and before which nobody was fenced, isn't going to be. */
export function withdrawn(record: AuthorityRecord): AuthorityRecord {
  const { target: _, ...authority } = record.authority;
  return { ...record, authority: { ...authority, state: 'Active' } };
}
