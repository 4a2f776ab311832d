/**
 * Whether the primary should be somewhere else, and who or what asks for it. Pure.
 * In order of precedence: somebody's own word (the annotation), a member that goes, a region that is drained, another
 * preferred region, a volume that goes, a rolling change. A failover is none of these: that primary is gone already.
 *
 * A changed preference against a failover: `status.preferred` is the `spec.primaryRegion` that was last looked at, and the epoch
 * of that look. Only another value asks for a switchover, and only within that epoch: after any change of authority, a
 * failover too, the present value counts as looked at. So the primary never goes back by itself, and a switchover that was
 * undone isn't tried for ever.
 */
import type { AuthorityRecord } from '#core/authority/record.ts';
import { annotations } from '#core/names.ts';
import type { ShardStatus, ShardSwitchover } from '#crds/index.ts';
import type { MemberView } from './members.ts';
import type { Rollout } from './rollout.ts';
import type { Snapshot } from './snapshot.ts';

export interface Intent {
  readonly reason: ShardSwitchover['reason'];
  /** In words, as the middle of a sentence. */
  readonly why: string;
  /** The value of the annotation. */
  readonly request?: string;
  /** To choose from. */
  readonly among: readonly MemberView[];
  readonly mustBeUpToDate: boolean;
}

export const requestOf = ({ shard }: Pick<Snapshot, 'shard'>): string | undefined =>
  shard.metadata.annotations?.[annotations.switchover];

/** The present preference as it stands in the status: `pending` where it asks for a switchover. */
export function preferenceOf(
  { shard }: Pick<Snapshot, 'shard'>,
  record: AuthorityRecord,
): { readonly preferred: NonNullable<ShardStatus['preferred']>; readonly isPending: boolean } {
  const seen = shard.status?.preferred;
  const { primaryRegion } = shard.spec;
  const isPending =
    seen !== undefined &&
    seen.region !== primaryRegion &&
    seen.epoch === record.authority.epoch &&
    record.authority.region !== primaryRegion;
  return { preferred: isPending ? seen : { region: primaryRegion, epoch: record.authority.epoch }, isPending };
}

export function intentOf(snapshot: Snapshot, record: AuthorityRecord, rollout: Rollout): Intent | undefined {
  const { shard, views, regions } = snapshot;
  const { member, region } = record.authority;
  const primary = views.find(({ name }) => name === member);
  const request = requestOf(snapshot);
  if (request !== undefined)
    return {
      reason: 'Annotation',
      why: `the annotation ${annotations.switchover} asks for ${request}`,
      request,
      among: named(request, views),
      mustBeUpToDate: false,
    };
  const anybody = { among: views, mustBeUpToDate: false };
  if (primary?.declared === false)
    return { reason: 'Leaving', why: `no RegionalReplica asks for the primary ${member} any more`, ...anybody };
  if (regions.some(({ name, drain }) => drain && name === region))
    return { reason: 'RegionDrained', why: `region ${region} is drained`, ...anybody };
  if (preferenceOf(snapshot, record).isPending)
    return {
      reason: 'PreferredRegion',
      why: `spec.primaryRegion was changed to ${shard.spec.primaryRegion}`,
      among: views.filter((view) => view.region === shard.spec.primaryRegion),
      mustBeUpToDate: false,
    };
  if (primary?.volumeGoing === true)
    return { reason: 'VolumeGoing', why: `the volume of the primary ${member} is marked for deletion`, ...anybody };
  if (rollout.state === 'PrimaryWaits')
    return {
      reason: 'Rollout',
      why: `${member} is the last with the old settings`,
      among: views,
      mustBeUpToDate: true,
    };
  return undefined;
}

/** A member's name is taken for one; anything else for a region. */
export function named(request: string, views: readonly MemberView[]): readonly MemberView[] {
  const member = views.filter(({ name }) => name === request);
  return member.length > 0 ? member : views.filter(({ region }) => region === request);
}
