/**
 * A takeover in the small world, one step at a time, so that a test can end it between any two: an operator replica that fences,
 * waits the old lease out, chooses by positions and swaps with the real decisions, and sends orders with the real builder.
 * How the steps follow from each other is explored by the simulator of `core/authority`; here it only makes new epochs for the
 * shard's controller to go on from.
 */
import { choose } from '#core/authority/choose.ts';
import { announced, decidedRecord, withdrawn } from '#core/authority/decision.ts';
import { type Counted, isEnough } from '#core/authority/fence.ts';
import { positionOf } from '#core/authority/position.ts';
import { decideFence } from '#core/authority/promise.ts';
import { type AuthorityRecord, primaryOf, sameMember } from '#core/authority/record.ts';
import type { MemberIdentity } from '#core/identity.ts';
import { sameStatus } from '#kube/conditions.ts';
import { takeoverOrders } from '#operator/controllers/shard/takeover-orders.ts';
import { type SimulatedMember, textOf } from './simulated-member.ts';
import { keyspace } from './simulated-operator.ts';
import { shardUid, type World } from './world.ts';

export interface TakeoverWish {
  readonly target?: MemberIdentity;
  /** The primary is asked to stop first, so that the target gets all of its log. */
  readonly isPlanned: boolean;
}

/** Each value is a step that was taken; a takeover that can't go on ends early. */
export function* takeover(world: World, { target, isPlanned }: TakeoverWish): Generator<string, void> {
  const record = world.record;
  if (record === undefined || record.authority.state === 'Initialising') return;
  let version = world.shard.metadata.resourceVersion;
  const listed = [...world.members.values()].filter((member) =>
    record.membership.members.some((other) => sameMember(other, member)),
  );
  const epoch = epochAbove(record, listed);
  const swap = (next: AuthorityRecord, status: object): boolean => {
    // As an operator does on a conflict: another version of the same record is as good.
    if (sameStatus(world.record, base)) version = world.shard.metadata.resourceVersion;
    return world.swap(version, next, status);
  };
  let base: AuthorityRecord = record;
  if (isPlanned) {
    const announcement = target && announced(record, target);
    if (announcement === undefined || !swap(announcement, {})) return;
    base = announcement;
    yield 'announced';
    const primary = listed.find((member) => sameMember(primaryOf(record), member));
    if (primary === undefined || !fence(world, primary, epoch)) {
      if (swap(withdrawn(base), {})) yield 'withdrawn';
      return;
    }
    // Its followers get the last of its log while it stops.
    for (const member of listed) if (isFollowing(member, primary) && !member.stalled) member.flushed = primary.flushed;
    yield `fenced ${primary.name}`;
  }
  const counted: Counted[] = [];
  for (const member of isPlanned
    ? listed.filter((one) => sameMember(one, primaryOf(record)) || isTarget(one, target))
    : listed) {
    if (!fence(world, member, epoch)) continue;
    const position = positionOf(record, { timeline: member.timeline, lsn: textOf(member.flushed) });
    if (position !== undefined && !member.rewinding && member.data !== 'absent')
      counted.push({ member: { name: member.name, incarnation: member.incarnation }, position, grantsEndMs: 0 });
    yield `fenced ${member.name}`;
  }
  if (!isEnough(record, counted)) return;
  // Its lease is over by now, and its handle has fired.
  for (const member of listed)
    if (sameMember(member, primaryOf(record))) Object.assign(member, { running: false, open: false });
  yield 'waited out';
  const choice = choose({
    record,
    counted,
    candidates: listed.map(({ name, region, promotable, declared }) => ({
      name,
      region,
      promotable: promotable && declared,
    })),
    regions: ['eu', 'us', 'ap'],
    wanted: target,
  });
  if (choice.kind !== 'Chosen') return;
  const decided = decidedRecord(base, {
    epoch,
    member: choice.member,
    region: choice.region,
    position: choice.position,
    since: new Date(world.now).toISOString(),
  });
  if (!swap(decided, isPlanned ? {} : { lastFailover: failoverOf(base, decided, world) })) return;
  yield `decided ${choice.member.name}`;
  for (const { view, orders } of takeoverOrders({
    shard: world.shard,
    keyspace,
    record: decided,
    views: world.views(),
  })) {
    world.order(view.name, { ...orders, leaderTerm: 0, sequence: 0 });
    yield `ordered ${view.name}`;
  }
}

function epochAbove({ authority }: AuthorityRecord, members: readonly SimulatedMember[]): number {
  const promised = members
    .filter(({ reachable, down }) => reachable && !down)
    .map(({ promise }) => (promise.grantee === '' ? promise.epoch : promise.epoch + 1));
  return Math.max(authority.epoch + 1, ...promised);
}

function fence(world: World, member: SimulatedMember, epoch: number): boolean {
  if (!member.reachable || member.down) return false;
  const decision = decideFence({ shardUid, member, epoch }, member, member.promise);
  if (decision.kind === 'Refuse') return false;
  Object.assign(member, { promise: { ...member.promise, ...decision.promise }, running: false, open: false });
  world.check();
  return true;
}

const isTarget = (member: SimulatedMember, target: MemberIdentity | undefined): boolean =>
  target !== undefined && sameMember(member, target);

const isFollowing = ({ orders, data, timeline, down }: SimulatedMember, primary: SimulatedMember): boolean =>
  !down && data === 'standby' && orders?.source?.name === primary.name && timeline === primary.timeline;

function failoverOf(before: AuthorityRecord, after: AuthorityRecord, world: World) {
  const acknowledgements = before.membership.acknowledgements;
  return {
    epoch: after.authority.epoch,
    from: before.authority.member,
    fromIncarnation: before.authority.incarnation,
    to: after.authority.member,
    reason: 'it was lost',
    at: new Date(world.now).toISOString(),
    acknowledgements,
    exact: false,
    ...(acknowledgements === 0 ? { lostFrom: after.history.at(-1)?.forkLsn ?? '0/0' } : {}),
  };
}
