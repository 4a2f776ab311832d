/**
 * To whom a planned switchover may go: the checks of one member, the durability that would be left, and the order of those who
 * pass. Pure. Everything is checked before the primary is touched; who in the end has every acknowledged commit is checked
 * again, by positions, once it has stopped (`core/authority/choose.ts`).
 */
import { type AuthorityRecord, isListed, isPrimary, mayAcknowledge } from '#core/authority/record.ts';
import type { MemberIdentity } from '#core/identity.ts';
import { fencedNames } from './fencing.ts';
import { identityOf, type MemberView, primaryStatus, regionIn, statusOf } from './members.ts';
import type { RegionView, Snapshot } from './snapshot.ts';

export interface Refusal {
  /** CamelCase. */
  readonly reason: string;
  readonly message: string;
}

export interface TargetInput {
  readonly snapshot: Snapshot;
  readonly record: AuthorityRecord;
  /** Members that still have to be replaced or restarted don't help a rolling change. */
  readonly mustBeUpToDate: boolean;
}

type Check = (view: MemberView, input: TargetInput) => Refusal | undefined;

const refuse = (reason: string, message: string): Refusal => ({ reason, message });

const checks: readonly Check[] = [
  ({ name, declared }) =>
    declared ? undefined : refuse('TargetLeaving', `no RegionalReplica asks for ${name} any more`),
  ({ name, promotable }) =>
    promotable ? undefined : refuse('TargetNotPromotable', `the RegionalReplica of ${name} says promotable: false`),
  ({ name }, { snapshot }) =>
    fencedNames(snapshot.shard).has(name)
      ? refuse('TargetFenced', `${name} is kept down by the annotation meridian.db/fence`)
      : undefined,
  (view) =>
    statusOf(view) === undefined
      ? refuse(
          'TargetUnreachable',
          `${view.name} does not answer: ${view.answer.kind === 'silent' ? view.answer.why : ''}`,
        )
      : undefined,
  (view, { record }) => {
    const member = identityOf(view);
    return member !== undefined && isListed(record, member)
      ? undefined
      : refuse('TargetNotAMember', `${view.name} is not in the membership (yet): it may not have every commit`);
  },
  (view) =>
    statusOf(view)?.diverged === undefined
      ? undefined
      : refuse('TargetDiverged', `the data of ${view.name} has left the history of the primary`),
  ({ name, volumeGoing }) =>
    volumeGoing ? refuse('TargetVolumeGoing', `the volume of ${name} is marked for deletion`) : undefined,
  ({ name, pod }) => (pod?.ending === true ? refuse('TargetEnding', `the pod of ${name} is being deleted`) : undefined),
  tooFarBehind,
  (view, { mustBeUpToDate }) =>
    mustBeUpToDate && (view.pod?.outdated === true || statusOf(view)?.postgres?.pendingRestart === true)
      ? refuse('TargetOutdated', `${view.name} has the old settings itself`)
      : undefined,
  (view, { snapshot }) =>
    snapshot.regions.some(({ name, drain }) => drain && name === view.region)
      ? refuse('TargetRegionDrained', `the region ${view.region ?? ''} of ${view.name} is drained`)
      : undefined,
  durabilityAfter,
];

/** While the primary is gone nobody streams: how far a member got is then decided by the positions that fences show. */
function tooFarBehind(view: MemberView, { snapshot, record }: TargetInput): Refusal | undefined {
  const primary = primaryStatus(record, snapshot.views);
  if (primary === undefined) return undefined;
  const standby = primary.standbys.find(
    ({ name, incarnation }) => name === view.name && incarnation === identityOf(view)?.incarnation,
  );
  const status = statusOf(view);
  if (standby?.state !== 'streaming' || status?.upstream?.streaming !== true)
    return refuse(
      'TargetNotStreaming',
      `${view.name} does not stream from the primary: it is ${status?.phase ?? 'silent'}`,
    );
  if (!status.upstream.caughtUp)
    return refuse('TargetTooFarBehind', `${view.name} is ${status.upstream.lagBytes} bytes behind the primary`);
  return undefined;
}

/** k others have to be able to acknowledge to it; the primary before is one of them, when it stays. */
function durabilityAfter(view: MemberView, { snapshot, record }: TargetInput): Refusal | undefined {
  const { shard, views } = snapshot;
  const needed = record.membership.acknowledgements;
  const target = identityOf(view);
  const primary = primaryStatus(record, views);
  if (needed === 0 || target === undefined || primary === undefined) return undefined;
  const after: AuthorityRecord = {
    ...record,
    authority: { ...record.authority, member: target.name, incarnation: target.incarnation, region: view.region ?? '' },
  };
  const able = record.membership.members.filter((member) => {
    if (!mayAcknowledge(after, member, shard.spec.durability.scope, regionIn(views))) return false;
    const other = views.find(({ name }) => name === member.name);
    if (isPrimary(record, member)) return other?.declared === true && !fencedNames(shard).has(member.name);
    return primary.standbys.some(
      ({ name, incarnation, state }) =>
        name === member.name && incarnation === member.incarnation && state === 'streaming',
    );
  });
  if (able.length >= needed) return undefined;
  return refuse(
    'DurabilityWouldNotHold',
    `with ${view.name} as primary ${able.length} of the ${needed} acknowledgements that are needed could be had: commits would wait`,
  );
}

export interface Candidates {
  /** Those who may take over now, the best first. */
  readonly able: readonly { readonly view: MemberView; readonly member: MemberIdentity; readonly region: string }[];
  /** Why the others may not, in the order of their names. */
  readonly refusals: readonly Refusal[];
}

/** @param among The members to choose from; the primary itself is passed over. */
export function candidates(among: readonly MemberView[], input: TargetInput): Candidates {
  const { snapshot, record } = input;
  const others = among.filter(({ name }) => name !== record.authority.member);
  const judged = others.map((view) => ({ view, refusal: firstRefusal(view, input) }));
  const able = judged.flatMap(({ view, refusal }) => {
    const member = identityOf(view);
    return refusal === undefined && member !== undefined ? [{ view, member, region: view.region ?? '' }] : [];
  });
  const near = nearness(snapshot.shard.spec.primaryRegion, snapshot.regions);
  return {
    able: able.toSorted(
      (a, b) =>
        near(a.region) - near(b.region) || lagOf(a.view) - lagOf(b.view) || (a.member.name < b.member.name ? -1 : 1),
    ),
    refusals: judged.flatMap(({ refusal }) => refusal ?? []),
  };
}

function firstRefusal(view: MemberView, input: TargetInput): Refusal | undefined {
  for (const check of checks) {
    const refusal = check(view, input);
    if (refusal !== undefined) return refusal;
  }
  return undefined;
}

/** 0 for the preferred region, then in its order; regions that it doesn't list come last. */
function nearness(preferred: string, regions: readonly RegionView[]): (region: string) => number {
  const order = [preferred, ...(regions.find(({ name }) => name === preferred)?.proximity ?? [])];
  return (region) => (order.includes(region) ? order.indexOf(region) : order.length);
}

const lagOf = (view: MemberView): number => statusOf(view)?.upstream?.lagBytes ?? 0;
