/**
 * A primary that its followers don't hear, or that doesn't hear them, while the operator reaches everybody: another opens
 * before the cut is mended (trap A13). The cut lasts for the whole run; messages come in any order, some are lost.
 */
import { suspicionMs } from '#core/authority/timing.ts';
import { type Action, apply } from './actions.ts';
import { canServe, leads, standsUntil } from './agent.ts';
import { Violation } from './invariants.ts';
import { Random } from './random.ts';
import type { Rules } from './rules.ts';
import { settle } from './settle.ts';
import { startWorld } from './start.ts';
import { local, type SimMember, type World } from './world.ts';

export const directions = ['primary unheard by followers', 'followers unheard by primary'] as const;
export type Direction = (typeof directions)[number];

export interface OneWay {
  readonly members: number;
  readonly k: number;
  readonly direction: Direction;
  readonly seed: number;
}

const roundMs = 100;
const asksEveryMs = 300;
const operatorLooksEveryMs = 400;
/** Of a message: to come in this round, and to come at all. */
const arrives = 0.7;
const isLost = 0.03;
const op = { operator: 'op1' };

/**
 * How long nobody could serve for, from the cut; then the cut is mended, and the rest must come back too.
 * @throws Violation, also where it takes longer than `patienceMs`
 */
export function cutOneWay({ members, k, direction, seed }: OneWay, rules: Rules, patienceMs: number): number {
  const random = new Random(seed);
  const shape = { members, k, operators: 1, delays: true, onLoss: 'Block', drift: 0, wish: k } as const;
  const world = startWorld(shape, rules);
  const act = (action: Action): boolean => apply(world, rules, action);
  for (const follower of Object.keys(world.members).filter((name) => name !== 'a'))
    act(
      direction === 'primary unheard by followers'
        ? { do: 'cut', from: 'a', to: follower }
        : { do: 'cut', from: follower, to: 'a' },
    );
  const leaselessSinceMs = new Map<string, number>();
  const beganAtMs = world.nowMs;
  for (let round = 0; world.nowMs - beganAtMs <= patienceMs; round += 1) {
    act({ do: 'tick', ms: roundMs });
    if (round % 3 === 0) act({ do: 'write', member: 'a' });
    if (round % (asksEveryMs / roundMs) === 0) act({ do: 'beat' });
    for (const member of Object.values(world.members)) {
      // The dead man's handle ends the whole pod; it comes up again.
      act({ do: 'restart', member: member.name });
      act({ do: 'work', member: member.name });
      if (!isTired(world, rules, member, leaselessSinceMs)) continue;
      act({ do: 'crashPostgres', member: member.name });
      act({ do: 'release', member: member.name });
    }
    travel(world, random, act);
    if (round % (operatorLooksEveryMs / roundMs) === 0) lookRound(world, act);
    for (let steps = 0; steps < 3; steps += 1) {
      if (!isAsking(world)) act({ do: 'step', ...op });
      travel(world, random, act);
    }
    const open = Object.values(world.members).find((member) => canServe(world, rules, member));
    if (open !== undefined && open.name !== 'a') {
      const tookMs = world.nowMs - beganAtMs;
      settle(world, rules);
      return tookMs;
    }
  }
  const { epoch, member } = world.api.record.authority;
  const states = Object.values(world.members).map(({ name, postgres }) => `${name} ${postgres}`);
  throw new Violation(
    'Stuck',
    `${direction}: nobody else opened in ${patienceMs} ms; epoch ${epoch} of ${member}, ${states.join(', ')}`,
  );
}

/** As the agent's patience has it: a lease that it had is gone, and doesn't come back. */
function isTired(world: World, rules: Rules, member: SimMember, since: Map<string, number>): boolean {
  const now = local(world, member);
  const until = standsUntil(world, rules, member);
  if (leads(rules, member) === undefined || until === null || until > now) {
    since.delete(member.name);
    return false;
  }
  const sinceMs = since.get(member.name) ?? now;
  since.set(member.name, sinceMs);
  // Only one that had it: who is on the way to its first lease is given time.
  return member.name === 'a' && now - sinceMs >= suspicionMs;
}

function lookRound(world: World, act: (action: Action) => boolean): void {
  act({ do: 'observe', ...op });
  act({ do: 'poll', ...op });
  if (!act({ do: 'giveUpPut', ...op })) act({ do: 'begin', ...op });
  for (const member of Object.keys(world.members)) act({ do: 'order', ...op, member });
  act({ do: 'changeMembership', ...op });
}

/** An attempt waits for whoever it has just asked who he is; what is lost it has waited out. */
const isAsking = ({ messages }: World): boolean =>
  messages.some((message) => (message.type === 'ping' || message.type === 'pong') && message.attempt > 0);

/** Each of what is under way comes, is lost or stays, in any order. */
function travel(world: World, random: Random, act: (action: Action) => boolean): void {
  const underWay = [...world.messages];
  while (underWay.length > 0) {
    const [message] = underWay.splice(random.below(underWay.length), 1);
    if (message === undefined) continue;
    const { type, from, to } = message;
    const point = random.next();
    if (point < isLost) act({ do: 'lose', type, from, to });
    else if (point < isLost + arrives) act({ do: 'deliver', type, from, to });
  }
}
