/**
 * When two worlds are the same: whatever decides what can still happen, with times as what is left of them, so that a state
 * reached later or by other ways is known again.
 */

import { createHash } from 'node:crypto';
import { leaseMs, promiseOwnedMs, suspicionMs } from '#core/authority/timing.ts';
import { local, type SimMember, type SimOperator, type World } from './world.ts';

/** What is left until `at`; all that is over is alike. */
const left = (at: number, now: number): number => Math.max(0, Math.round(at - now));
/** How long ago; all that is long enough ago is alike. */
const age = (at: number | undefined, now: number, bound: number): number =>
  at === undefined ? -1 : Math.min(bound, Math.round(now - at));

const byName = ([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number => (a < b ? -1 : 1);

export function stateKey(world: World): string {
  const { authority, membership } = world.api.record;
  const state = [
    Object.values(world.members).map((member) => memberKey(world, member)),
    Object.values(world.operators).map((operator) => operatorKey(world, operator)),
    [authority.epoch, authority.member, authority.incarnation, authority.state, authority.target?.name],
    [membership.generation, membership.acknowledgements, membership.members.map(({ incarnation }) => incarnation)],
    [world.api.lease.holder, world.cuts, world.kept.map(({ id }) => id), world.leaderTerm],
  ];
  return createHash('sha1').update(JSON.stringify(state)).digest('base64');
}

function memberKey(world: World, member: SimMember): unknown {
  const now = local(world, member);
  const { promise, orders } = member;
  const held = (of: Readonly<Record<string, number>>): unknown =>
    Object.entries(of)
      .toSorted(byName)
      .map(([name, until]) => [name, left(until, now)]);
  return [
    [member.up, member.paused, member.postgres, member.volume, member.rewinding, member.released, member.declared],
    [promise.epoch, promise.grantee, promise.generation, promise.leaderTerm, promise.longestLeaseMs],
    orders && [orders.epoch, orders.generation, orders.role, orders.lease, orders.synchronous, orders.mayRewind],
    [member.log?.id, member.row?.id, member.confirmed?.epoch, age(member.confirmed?.atMs, now, 5_000)],
    [left(member.grantedUntilMs, now), left(member.horizonMs, now), left(member.kubernetesUntilMs, now)],
    [age(member.startedAtMs, now, leaseMs), age(member.promisedAtMs, now, promiseOwnedMs)],
    [age(member.servingHeardAtMs, now, suspicionMs), age(member.walHeardAtMs, now, suspicionMs)],
    held(member.held),
    member.former && held(member.former.held),
    Object.entries(member.reported)
      .toSorted(byName)
      .map(([name, entry]) => [name, entry.id]),
  ];
}

function operatorKey(world: World, operator: SimOperator): unknown {
  const now = local(world, operator);
  const { attempt } = operator;
  return [
    [operator.up, operator.term, world.api.version - operator.cache.version, operator.wish?.name],
    operator.lease && [operator.lease.holder, age(operator.lease.sinceMs, now, 15_000)],
    operator.noted,
    Object.entries(operator.watch).map(([name, ping]) => [
      name,
      ping.kind === 'Silent'
        ? age(ping.sinceMs, now, suspicionMs)
        : [age(ping.atMs, now, suspicionMs), ping.answer.promise.epoch],
    ]),
    attempt && [
      [attempt.intent, attempt.isFalseAlarm, attempt.waitsForPut, world.api.version - attempt.version],
      age(attempt.startedAtMs, now, 10_000),
      Object.entries(attempt.pings).map(([name, ping]) => [name, ping.kind === 'Answered' ? ping.answer.promise : 0]),
      Object.entries(attempt.fences).map(([name, outcome]) => [
        name,
        outcome.kind === 'Fenced'
          ? [outcome.fenced.epoch, outcome.fenced.position, left(outcome.atMs + outcome.fenced.leaseRemainingMs, now)]
          : outcome.kind,
      ]),
    ],
  ];
}
