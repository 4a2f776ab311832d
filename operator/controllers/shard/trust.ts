/**
 * Whether the record of authority can be believed: what it says, held against itself and against what members have promised.
 * Pure; used by the shard controller and by whoever runs a takeover.
 * A member promises an epoch to a primary only after that was recorded, and never forgets it; so a record that says less, or
 * another primary, was edited by hand or restored from an older copy (docs/design-traps.md, A21). Nothing is done by such a
 * record: what members have promised keeps them apart from it anyway.
 */
import { type AuthorityRecord, isListed, primaryOf } from '#core/authority/record.ts';
import { replicationName } from '#core/identity.ts';

export interface MemberPromise {
  /** Who made it, by name. */
  readonly name: string;
  readonly shardUid: string;
  readonly epoch: number;
  /** `name/incarnation`; empty while the epoch is promised to nobody. */
  readonly grantee: string;
  readonly generation: number;
}

export interface Contradiction {
  readonly reason: 'EpochWentBack' | 'AnotherPrimary' | 'GenerationWentBack' | 'HistoryBroken' | 'PrimaryNotListed';
  /** What is wrong, and what to do about it. */
  readonly message: string;
}

/**
 * @param promises Read *after* the record: an older answer says nothing, and a newer record may have been decided meanwhile.
 * @returns The first contradiction; undefined where there is none.
 */
export function contradiction(
  record: AuthorityRecord,
  shardUid: string,
  promises: readonly MemberPromise[],
): Contradiction | undefined {
  const ours = promises.filter((promise) => promise.shardUid === shardUid);
  return (
    epochWentBack(record, ours) ??
    anotherPrimary(record, ours) ??
    primaryNotListed(record) ??
    historyBroken(record) ??
    generationWentBack(record, ours)
  );
}

/** An epoch without a grantee is a fence, which comes before the record; with one, it was recorded. */
function epochWentBack({ authority }: AuthorityRecord, promises: readonly MemberPromise[]): Contradiction | undefined {
  const later = promises
    .filter(({ epoch, grantee }) => epoch > authority.epoch && grantee !== '')
    .toSorted((a, b) => b.epoch - a.epoch)[0];
  if (later === undefined) return undefined;
  return {
    reason: 'EpochWentBack',
    message:
      `the record says epoch ${authority.epoch} of ${authority.member}, but ${later.name} has promised epoch ${later.epoch} to ${later.grantee}: ` +
      'the record was edited or restored from an older copy, and is not acted upon. ' +
      restore(later.epoch, later.grantee),
  };
}

function anotherPrimary(record: AuthorityRecord, promises: readonly MemberPromise[]): Contradiction | undefined {
  const { authority } = record;
  const recorded = replicationName(primaryOf(record));
  const other = promises.find(
    ({ epoch, grantee }) => epoch === authority.epoch && grantee !== '' && grantee !== recorded,
  );
  if (other === undefined) return undefined;
  return {
    reason: 'AnotherPrimary',
    message:
      `the record names ${recorded} at epoch ${authority.epoch}, but ${other.name} has promised that epoch to ${other.grantee}: ` +
      'the record was edited, and is not acted upon. ' +
      restore(authority.epoch, other.grantee),
  };
}

const restore = (epoch: number, grantee: string): string => {
  const [member = '', incarnation = ''] = grantee.split('/');
  return (
    `Restore it with kubectl edit --subresource=status: authority.epoch ${epoch}, member ${member}, incarnation ${incarnation}, ` +
    'its timeline, and the entries of history up to it'
  );
};

function primaryNotListed(record: AuthorityRecord): Contradiction | undefined {
  if (isListed(record, primaryOf(record))) return undefined;
  return {
    reason: 'PrimaryNotListed',
    message:
      `status.membership does not list the primary ${replicationName(primaryOf(record))}: it was edited, and is not acted upon. ` +
      `Add it with membership.generation ${record.membership.generation + 1}`,
  };
}

/** The epoch of an established authority has its entry, at the end; epochs and timelines only grow. */
function historyBroken({ authority, history }: AuthorityRecord): Contradiction | undefined {
  const type = 'HistoryBroken' as const;
  const isGrowing = history.every((entry, index) => {
    const before = history[index - 1];
    return before === undefined || (entry.epoch > before.epoch && entry.timeline >= before.timeline);
  });
  if (!isGrowing)
    return { reason: type, message: 'the epochs or timelines of status.history do not grow: restore what it was' };
  const last = history.at(-1);
  if (authority.state === 'Initialising')
    return last === undefined || last.epoch < authority.epoch
      ? undefined
      : {
          reason: type,
          message: `status.history has an entry of epoch ${last.epoch}, which has not begun: take it out`,
        };
  if (last?.epoch === authority.epoch && last.timeline === authority.timeline && last.member === authority.member)
    return undefined;
  return {
    reason: type,
    message:
      `the last entry of status.history should be {epoch: ${authority.epoch}, timeline: ${authority.timeline}, member: ${authority.member}}, ` +
      `but ${last === undefined ? 'there is none' : `it is of epoch ${last.epoch}, timeline ${last.timeline}, ${last.member}`}. ` +
      'Without it nobody can tell which log is whose: restore it, with the position at which that epoch began',
  };
}

function generationWentBack(record: AuthorityRecord, promises: readonly MemberPromise[]): Contradiction | undefined {
  const { authority, membership } = record;
  const later = promises.find(
    ({ epoch, generation }) => epoch === authority.epoch && generation > membership.generation,
  );
  if (later === undefined) return undefined;
  return {
    reason: 'GenerationWentBack',
    message:
      `the record says membership generation ${membership.generation}, but ${later.name} works by generation ${later.generation}: ` +
      `the record was edited or restored, and is not acted upon. Restore status.membership, with generation ${later.generation} or higher`,
  };
}
