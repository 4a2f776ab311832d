/**
 * What `kubectl get shards` shows of the followers. Pure. Coarse on purpose: who acknowledges and what members do changes
 * seldom; lag changes all the time, so it is told in a few steps, and another step is written every ten seconds at most
 * (docs/design.md, section 2: the record of authority is written only when authority changes).
 */
import type { CommitHealth } from '#core/authority/durability.ts';
import { type AuthorityRecord, isListed, isPrimary } from '#core/authority/record.ts';
import type { ShardSummary } from '#crds/index.ts';
import { identityOf, type MemberView, primaryStatus, statusOf } from './members.ts';
import type { Snapshot } from './snapshot.ts';

const mebibyte = 1_048_576;
const steps = [
  { below: mebibyte, text: '<1MiB' },
  { below: 16 * mebibyte, text: '<16MiB' },
  { below: 256 * mebibyte, text: '<256MiB' },
  { below: 4096 * mebibyte, text: '<4GiB' },
] as const;

export function summaryOf(
  snapshot: Snapshot,
  record: AuthorityRecord | undefined,
  health: CommitHealth | undefined,
): ShardSummary | undefined {
  if (record === undefined) return undefined;
  const followers = record.membership.members.filter((member) => !isPrimary(record, member));
  const lag = lagOf(record, snapshot.views);
  const shown = snapshot.shard.status?.summary?.lag;
  return {
    quorum: `${health?.acknowledging.length ?? 0}/${followers.length}`,
    lag: isKnown(shown) && !snapshot.lagMayChange ? shown : lag,
    followers: snapshot.views
      .filter(({ name, declared }) => name !== record.authority.member && (declared || isNamed(record, name)))
      .map((view) => describe(view, record))
      .join(', ')
      .slice(0, 1024),
  };
}

/** Only from one step to another is there anything to damp. */
const isKnown = (lag: string | undefined): lag is string => lag !== undefined && /^[<>]/.test(lag);

/** Of the slowest follower that counts and streams; one that doesn't stream is missing in the quorum already. */
function lagOf(record: AuthorityRecord, views: readonly MemberView[]): string {
  const primary = primaryStatus(record, views);
  if (primary === undefined) return 'unknown';
  const bytes = primary.standbys
    .filter(({ name, incarnation }) => isListed(record, { name, incarnation }))
    .map(({ lagBytes }) => lagBytes);
  if (bytes.length === 0) return record.membership.members.length === 1 ? '-' : 'unknown';
  const slowest = Math.max(...bytes);
  return steps.find(({ below }) => slowest < below)?.text ?? '>4GiB';
}

const isNamed = ({ membership }: AuthorityRecord, name: string): boolean =>
  membership.members.some((member) => member.name === name);

function describe(view: MemberView, record: AuthorityRecord): string {
  const status = statusOf(view);
  const identity = identityOf(view);
  const notes = [
    ...(status === undefined ? ['silent'] : status.phase === 'Following' ? [] : [status.phase]),
    ...(identity !== undefined && !isListed(record, identity) ? ['joining'] : []),
    ...(status?.diverged === undefined ? [] : ['diverged']),
  ];
  return notes.length === 0 ? view.name : `${view.name} (${notes.join(', ')})`;
}
