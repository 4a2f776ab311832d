/**
 * Invariant 7: once faults stop, the shard comes back by itself. Everything is mended, started and thawed; then everybody does
 * what he does all the time, in turn, until a new write is acknowledged and everybody is where he belongs, or it takes too long.
 */
import { type Action, apply } from './actions.ts';
import { canServe, leads } from './agent.ts';
import { Violation } from './invariants.ts';
import type { Rules } from './rules.ts';
import type { SimMember, World } from './world.ts';

const roundMs = 300;
/** Longer than all patience of the protocol in a row: an abandoned fence, a Kubernetes Lease, a handover undone. */
const patienceMs = 120_000;

/**
 * @param only The operators that run; the others stay as they are.
 * @returns how long it took, in simulated time.
 */
export function settle(world: World, rules: Rules, only?: readonly string[]): number {
  const act = (action: Action): boolean => apply(world, rules, action);
  act({ do: 'mendAll' });
  const members = Object.keys(world.members);
  const operators = only ?? Object.keys(world.operators);
  for (const member of members) {
    act({ do: 'thaw', member });
    act({ do: 'restart', member });
    const of = world.members[member];
    // What couldn't be started was repaired.
    if (of !== undefined) of.declared = true;
  }
  for (const operator of operators) act({ do: 'rise', operator });
  const beganAtMs = world.nowMs;
  while (world.nowMs - beganAtMs < patienceMs) {
    if (isWell(world, rules) && makesProgress(world, rules)) return world.nowMs - beganAtMs;
    round(world, act, members, operators);
  }
  throw new Violation('Stuck', `no progress in ${patienceMs / 1000} s without faults: ${whyNot(world, rules)}`);
}

function round(
  world: World,
  act: (action: Action) => boolean,
  members: readonly string[],
  operators: readonly string[],
): void {
  act({ do: 'tick', ms: roundMs });
  // The dead man's handle ends the whole pod; it comes up again.
  for (const member of members) act({ do: 'restart', member });
  act({ do: 'beat' });
  drain(act);
  for (const member of members) act({ do: 'work', member });
  act({ do: 'beat' });
  drain(act);
  const leader = operators.find((operator) => world.operators[operator]?.term === world.leaderTerm);
  if (leader === undefined) act({ do: 'lead', operator: operators[0] ?? '' });
  for (const operator of operators) {
    act({ do: 'observe', operator });
    act({ do: 'poll', operator });
    drain(act);
    if (!act({ do: 'giveUpPut', operator })) act({ do: 'begin', operator });
    for (let step = 0; step < 8 && act({ do: 'step', operator }); step += 1) drain(act);
    act({ do: 'changeMembership', operator });
    drain(act);
    act({ do: 'observe', operator });
    for (const member of members) act({ do: 'order', operator, member });
    drain(act);
  }
}

/** Until nothing is under way. */
function drain(act: (action: Action) => boolean): void {
  for (let times = 0; times < 6 && act({ do: 'deliverAll' }); times += 1);
}

function isWell(world: World, rules: Rules): boolean {
  return whyNot(world, rules) === '';
}

function whyNot(world: World, rules: Rules): string {
  const { authority, membership } = world.api.record;
  if (authority.state !== 'Active') return `the record says ${authority.state}`;
  const primary = world.members[authority.member];
  if (primary === undefined || primary.incarnation !== authority.incarnation) return 'the primary is another one';
  if (!canServe(world, rules, primary))
    return `${primary.name} is ${primary.postgres}, lease ${Math.round(primary.horizonMs)}, leads ${leads(rules, primary)?.epoch}`;
  if (membership.acknowledgements !== world.shape.wish)
    return `k is ${membership.acknowledgements}, not ${world.shape.wish}`;
  const outside = Object.values(world.members).find((member) => !isBack(world, member));
  if (outside !== undefined)
    return `${outside.name}/${outside.incarnation} is ${outside.postgres}, at ${outside.log?.length} of ${primary.log?.length}, ordered ${outside.orders?.role} at ${outside.orders?.epoch}, promised ${outside.promise.epoch}, listed: ${membership.members.map(({ name, incarnation }) => `${name}/${incarnation}`).join(' ')}`;
  const gone = membership.members.find(({ name, incarnation }) => world.members[name]?.incarnation !== incarnation);
  return gone === undefined ? '' : `${gone.name}/${gone.incarnation} is listed still`;
}

/** Listed, and following the same record. */
function isBack(world: World, member: SimMember): boolean {
  const { membership, authority } = world.api.record;
  const isListed = membership.members.some(
    ({ name, incarnation }) => name === member.name && incarnation === member.incarnation,
  );
  return (
    isListed &&
    member.orders?.epoch === authority.epoch &&
    (member.postgres === 'standby' || member.postgres === 'open')
  );
}

function makesProgress(world: World, rules: Rules): boolean {
  const act = (action: Action): boolean => apply(world, rules, action);
  const primary = world.api.record.authority.member;
  const writes = world.writes;
  act({ do: 'write', member: primary });
  act({ do: 'beat' });
  drain(act);
  if (world.writes === writes) return false;
  const of = world.members[primary];
  return (
    world.api.record.membership.acknowledgements === 0 ||
    (of !== undefined && act({ do: 'acknowledge', member: primary }))
  );
}
