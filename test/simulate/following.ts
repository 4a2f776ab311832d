/** A simulated member as a follower: where its log comes from, and how it gets back to the history of its primary. */
import type { AuthorityRecord } from '#core/authority/record.ts';
import type { Rejoin } from '#core/authority/rejoin.ts';
import { replicationName } from '#core/identity.ts';
import type { Orders } from '#core/protocol/orders.ts';
import { isPrimaryProcess, standing, works } from './agent.ts';
import { Violation } from './invariants.ts';
import { at, commonEnd, contains, positionIn } from './log.ts';
import { areLinked, send } from './network.ts';
import type { Rules } from './rules.ts';
import { local, memberOf, type SimMember, type World } from './world.ts';

/** The record as its orders tell it. */
function recordOf(orders: Orders): AuthorityRecord {
  const source = orders.source ?? orders.member;
  return {
    authority: {
      epoch: orders.epoch,
      timeline: orders.timeline,
      member: source.name,
      incarnation: source.incarnation,
      region: '',
      since: '',
      state: 'Active',
    },
    membership: { generation: orders.generation, members: [], acknowledgements: orders.synchronous.acknowledgements },
    history: orders.history,
  };
}

function rejoin(rules: Rules, member: SimMember, orders: Orders): Rejoin | undefined {
  return member.log === undefined ? undefined : rules.rejoinOf(recordOf(orders), positionIn(member.log));
}

/** The primary's process that its tunnel leads to. */
function sourceOf(world: World, rules: Rules, member: SimMember): SimMember | undefined {
  const orders = standing(rules, member);
  if (orders?.role !== 'Follower' || orders.source === undefined || !works(member)) return undefined;
  if (!rules.mayStream(member.promise, orders.epoch)) return undefined;
  const source = memberOf(world, orders.source.name);
  if (!works(source) || source.incarnation !== orders.source.incarnation) return undefined;
  if (!areLinked(world, member.name, source.name) || source.orders?.epoch !== orders.epoch) return undefined;
  if (source.postgres === 'stopping') return source;
  return isPrimaryProcess(source) && rules.mayStream(source.promise, orders.epoch) ? source : undefined;
}

export function stream(world: World, rules: Rules, member: SimMember, entries: number): boolean {
  const source = sourceOf(world, rules, member);
  const orders = member.orders;
  if (source === undefined || orders === undefined || member.log === undefined || member.rewinding) return false;
  // Reports alone need no second look.
  if (member.log !== source.log && rejoin(rules, member, orders)?.kind !== 'Stream') return false;
  if (!contains(source.log, member.log))
    throw new Violation('Corruption', `${member.name} streams from ${source.name} onto a log that isn't a part of it`);
  const length = Math.min(member.log.length + entries, source.log?.length ?? 0);
  if (length > member.log.length) member.walHeardAtMs = local(world, member);
  member.log = at(source.log, length) ?? member.log;
  member.postgres = 'standby';
  send(world, rules, {
    type: 'flushed',
    from: member.name,
    to: source.name,
    sender: replicationName(member),
    entry: member.log,
    starts: source.starts,
  });
  return true;
}

/** First copy of an empty volume. */
export function clone(world: World, rules: Rules, member: SimMember): boolean {
  const source = sourceOf(world, rules, member);
  if (source === undefined || member.log !== undefined || source.postgres === 'stopping') return false;
  member.log = source.log;
  member.postgres = 'standby';
  return true;
}

export function beginRewind(world: World, rules: Rules, member: SimMember): boolean {
  const orders = standing(rules, member);
  if (orders?.role !== 'Follower' || !orders.mayRewind || !works(member) || member.rewinding) return false;
  const source = sourceOf(world, rules, member);
  if (source === undefined || source.postgres === 'stopping') return false;
  if (rejoin(rules, member, orders)?.kind !== 'Diverged') return false;
  member.rewinding = true;
  member.postgres = 'down';
  return true;
}

/** What is rewound is consistent only once it has all that the source had meanwhile. */
export function endRewind(world: World, rules: Rules, member: SimMember): boolean {
  const source = sourceOf(world, rules, member);
  if (source === undefined || !member.rewinding || source.postgres === 'stopping') return false;
  member.log = source.log;
  member.rewinding = false;
  member.postgres = 'standby';
  return true;
}

/** Between two fenced members: what `to` lacks, from `from`. */
export function ship(world: World, from: SimMember, to: SimMember, epoch: number): boolean {
  if (!works(from) || !works(to) || !areLinked(world, from.name, to.name)) return false;
  const isFenced = (member: SimMember): boolean => member.promise.epoch === epoch && member.promise.grantee === '';
  if (!isFenced(from) || !isFenced(to) || from.log === undefined || to.log === undefined) return false;
  if (commonEnd(from.log, to.log) !== to.log) return false;
  to.log = from.log;
  return true;
}
