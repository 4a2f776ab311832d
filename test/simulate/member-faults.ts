/** What can befall a simulated member, and how it comes up again. */
import { firstPromise } from '#agent/promise/record.ts';
import { isPrimaryProcess, standing, stopLeading, works } from './agent.ts';
import type { Rules } from './rules.ts';
import { local, type SimMember, type World } from './world.ts';

/** The pod is gone, with all that it remembered; the volume stays. */
export function crash(member: SimMember): boolean {
  if (!member.up) return false;
  member.up = false;
  member.paused = false;
  member.postgres = 'down';
  stopLeading(member);
  member.grantedUntilMs = 0;
  member.servingHeardAtMs = undefined;
  member.walHeardAtMs = undefined;
  member.leaseSeen = undefined;
  return true;
}

export function restart(world: World, rules: Rules, member: SimMember): boolean {
  if (member.up) return false;
  member.up = true;
  member.startedAtMs = local(world, member);
  member.promisedAtMs = member.startedAtMs;
  member.promise = rules.promiseOnDisk(member.promise, member.orders);
  if (standing(rules, member)?.role === 'Follower' && member.log !== undefined && !member.rewinding)
    member.postgres = 'standby';
  return true;
}

/** Postgres alone; the agent goes on, and starts it again behind the gate. */
export function crashPostgres(member: SimMember): boolean {
  if (!works(member) || (!isPrimaryProcess(member) && member.postgres !== 'stopping')) return false;
  member.postgres = 'down';
  member.row = undefined;
  member.reported = {};
  return true;
}

/** The volume is gone, and the member comes up on an empty one. */
export function wipe(world: World, rules: Rules, member: SimMember): boolean {
  crash(member);
  member.volume += 1;
  member.incarnation = rules.incarnationOf(member.name, member.volume);
  member.promise = firstPromise(member.incarnation);
  member.orders = undefined;
  member.log = undefined;
  member.rewinding = false;
  member.horizonMs = 0;
  return restart(world, rules, member);
}
