/**
 * What a leading operator does: orders for every member, and changes of the membership. Two may believe that they lead: the
 * term sorts out their orders, the version of the record their writes.
 */
import type { MemberFacts, MembershipChange, MembershipInput } from '#core/authority/membership-change.ts';
import { type AuthorityRecord, isPrimary, primaryOf } from '#core/authority/record.ts';
import type { RejoiningMember } from '#core/authority/rejoin.ts';
import { type MemberIdentity, replicationName } from '#core/identity.ts';
import { digestOfOrders } from '#core/protocol/digest.ts';
import type { Orders } from '#core/protocol/orders.ts';
import { expiry, flushedLsn, leads, positionOnDisk, shardUid, works } from './agent.ts';
import { lsnOf } from './log.ts';
import { areLinked, send } from './network.ts';
import type { Rules } from './rules.ts';
import { identityOf, local, memberOf, type SimMember, type SimOperator, type World } from './world.ts';

export function lead(world: World, operator: SimOperator): boolean {
  if (!operator.up || !areLinked(world, operator.name, 'api') || operator.term === world.leaderTerm) return false;
  world.leaderTerm += 1;
  operator.term = world.leaderTerm;
  operator.sequence = 0;
  operator.noted = undefined;
  return true;
}

const regionOf = (name: string): string => `r${name.charCodeAt(0) - 96}`;

/** What its agent would say now; undefined while it can't be asked. */
const statusOf = (world: World, operator: SimOperator, name: string): SimMember | undefined => {
  const member = memberOf(world, name);
  return works(member) && areLinked(world, operator.name, name) ? member : undefined;
};

function primaryStatus(
  world: World,
  rules: Rules,
  operator: SimOperator,
  record: AuthorityRecord,
): SimMember | undefined {
  const status = statusOf(world, operator, record.authority.member);
  if (status === undefined || !isPrimary(record, identityOf(status))) return undefined;
  return leads(rules, status)?.epoch === record.authority.epoch ? status : undefined;
}

function factsOf(world: World, rules: Rules, operator: SimOperator, record: AuthorityRecord): readonly MemberFacts[] {
  const primary = primaryStatus(world, rules, operator, record);
  const known = new Map<string, MemberIdentity>();
  for (const member of record.membership.members) known.set(replicationName(member), member);
  for (const member of Object.values(world.members)) {
    const status = statusOf(world, operator, member.name);
    if (status !== undefined) known.set(replicationName(status), identityOf(status));
  }
  return [...known.values()].map((member) => {
    const status = statusOf(world, operator, member.name);
    const isItself = status?.incarnation === member.incarnation;
    const reported = primary?.reported[replicationName(member)];
    const end = primary?.log?.length ?? 0;
    const streaming = reported !== undefined && isItself && status !== undefined && isAttached(rules, status, record);
    return {
      member,
      declared: memberOf(world, member.name).declared,
      replaced: status !== undefined && !isItself,
      stale: false,
      volumeGoing: false,
      diverged: isItself && status !== undefined && isDiverged(rules, status, record),
      streaming,
      caughtUp: streaming && (status?.log?.length ?? 0) >= end - 1,
      flushed: streaming ? flushedLsn(reported) : undefined,
      awayMs: status === undefined && !streaming ? 60_000 : 0,
    };
  });
}

const isAttached = (rules: Rules, member: SimMember, record: AuthorityRecord): boolean =>
  member.orders?.epoch === record.authority.epoch &&
  member.orders.role === 'Follower' &&
  member.postgres === 'standby' &&
  rules.mayStream(member.promise, record.authority.epoch);

function isDiverged(rules: Rules, member: SimMember, record: AuthorityRecord): boolean {
  if (isPrimary(record, identityOf(member))) return false;
  if (member.rewinding) return true;
  const position = positionOnDisk(member);
  return position !== null && rules.rejoinOf(record, position).kind !== 'Stream';
}

function membershipInput(world: World, rules: Rules, operator: SimOperator): MembershipInput {
  const { record } = operator.cache;
  const primary = primaryStatus(world, rules, operator, record);
  return {
    record,
    wish: { acknowledgements: world.shape.wish, scope: 'AnyMember', onLoss: world.shape.onLoss },
    regionOf,
    members: factsOf(world, rules, operator, record),
    primaryIsOpen: primary?.postgres === 'open',
    primaryIsOpening: primary?.postgres === 'shut',
  };
}

function ordersFor(
  rules: Rules,
  operator: SimOperator,
  input: MembershipInput,
  change: MembershipChange | undefined,
  member: MemberIdentity,
): Orders | undefined {
  const { record } = operator.cache;
  const isLeader = isPrimary(record, member);
  // The primary's name on another volume: who leads is to be decided, not copied over.
  if (!isLeader && member.name === record.authority.member) return undefined;
  const settings = rules.settingsDuring(record, isLeader ? change : undefined, 'AnyMember', regionOf);
  return {
    shard: { namespace: 'sim', name: 'shard', uid: shardUid, keyspace: 'k', database: 'd' },
    member,
    role: isLeader ? 'Primary' : 'Follower',
    epoch: record.authority.epoch,
    leaderTerm: operator.term,
    sequence: operator.sequence,
    generation: record.membership.generation,
    ...(!isLeader && { source: { ...primaryOf(record), address: '', tunnelPort: 8421 } }),
    synchronous: { acknowledgements: settings.acknowledgements, members: [...settings.members] },
    lease: rules.leaseSettings(record, isLeader ? change : undefined),
    timeline: record.authority.timeline,
    history: record.history.map((entry) => ({ ...entry })),
    mayRewind: rules.mayRewind(record, member, rejoining(input), input.primaryIsOpen),
    takeover: false,
    slots: [],
    parameters: {},
    restartNonce: '',
  };
}

const rejoining = (input: MembershipInput): readonly RejoiningMember[] =>
  input.members.map(({ member, diverged, replaced, stale, awayMs }) => ({
    member,
    diverged: diverged === true,
    gone: replaced,
    stale,
    // As in the controller: who streams is known from the primary only.
    awayMs: input.primaryIsOpen || input.primaryIsOpening === true ? awayMs : 0,
  }));

/** Level-triggered: the whole wish, by what its informer and the agents say now. */
export function order(world: World, rules: Rules, operator: SimOperator, names: readonly string[]): boolean {
  if (!operator.up || operator.term === 0) return false;
  const reachable = names.flatMap((name) => statusOf(world, operator, name) ?? []);
  if (reachable.length === 0) return false;
  const input = membershipInput(world, rules, operator);
  const change = rules.nextChange(input);
  let hasSent = false;
  for (const status of reachable) {
    const orders = ordersFor(rules, operator, input, change, identityOf(status));
    // What it works by already, from this term, isn't sent again.
    if (orders === undefined || (status.orders !== undefined && areSame(status.orders, orders))) continue;
    operator.sequence += 1;
    hasSent =
      send(world, rules, {
        type: 'orders',
        from: operator.name,
        to: status.name,
        orders: { ...orders, sequence: operator.sequence },
      }) || hasSent;
  }
  return hasSent;
}

/** Epoch and generation stand for all that comes from the record; the rest is what may differ at one record. */
const areSame = (a: Orders, b: Orders): boolean =>
  a.epoch === b.epoch &&
  a.generation === b.generation &&
  a.leaderTerm === b.leaderTerm &&
  a.role === b.role &&
  a.mayRewind === b.mayRewind &&
  a.member.incarnation === b.member.incarnation &&
  JSON.stringify([a.lease, a.synchronous]) === JSON.stringify([b.lease, b.synchronous]);

/** One step of the change that is due, if any. */
export function changeMembership(world: World, rules: Rules, operator: SimOperator): boolean {
  if (!operator.up || operator.term === 0) return false;
  const input = membershipInput(world, rules, operator);
  const change = rules.nextChange(input);
  if (change === undefined) return false;
  const { record, version } = operator.cache;
  if (!rules.recordGoesFirst(change, record)) note(world, rules, operator, input, change);
  const lsn = operator.noted?.lsn;
  if (!rules.isSafeToRecord(change, lsn === undefined ? undefined : (BigInt(lsn) as ReturnType<typeof lsnOf>), input))
    return false;
  operator.noted = undefined;
  const membership = rules.changedMembership(record.membership, change);
  return send(world, rules, {
    type: 'put',
    from: operator.name,
    to: 'api',
    attempt: 0,
    record: { ...record, membership },
    version,
  });
}

/** The position once the primary is shown to work by the changed orders of this term, for as long as it does. */
function note(
  world: World,
  rules: Rules,
  operator: SimOperator,
  input: MembershipInput,
  change: MembershipChange,
): void {
  const primary = primaryStatus(world, rules, operator, input.record);
  const wished = primary && ordersFor(rules, operator, input, change, identityOf(primary));
  const digest = wished === undefined ? '' : digestOfOrders(wished);
  const taken = primary?.orders;
  const isApplied =
    primary !== undefined &&
    taken !== undefined &&
    (primary.postgres === 'open' || primary.postgres === 'shut') &&
    taken.leaderTerm === operator.term &&
    digestOfOrders(taken) === digest &&
    holdsLease(world, rules, primary);
  if (!isApplied) {
    operator.noted = undefined;
    return;
  }
  if (operator.noted?.digest === digest && operator.noted.term === operator.term) return;
  operator.noted = { digest, term: operator.term, lsn: Number(lsnOf(primary.log)) };
}

function holdsLease(world: World, rules: Rules, primary: SimMember): boolean {
  const until = expiry(rules, primary);
  return until === null || until > local(world, primary);
}
