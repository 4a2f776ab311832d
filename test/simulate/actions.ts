/**
 * Everything that can happen, as data: so that a run is a list of actions, replays from it, and can be shortened by leaving
 * some out. An action that can't happen in a world does nothing and says so.
 */
import * as agent from './agent.ts';
import * as following from './following.ts';
import { checkNewest, checkServing } from './invariants.ts';
import * as leader from './leader.ts';
import * as faults from './member-faults.ts';
import { deliver } from './network.ts';
import * as operator from './operator.ts';
import type { Rules } from './rules.ts';
import { identityOf, type Message, memberOf, type SimMember, type SimOperator, type World } from './world.ts';

export type Action =
  | { readonly do: 'tick'; readonly ms: number }
  /** Everybody who can does what he does all the time: asks for grants, streams, reports. */
  | { readonly do: 'beat' }
  /** Beats, and as much time between them as there is in ordinary life. */
  | { readonly do: 'live'; readonly ms: number }
  | {
      readonly do:
        | 'confirm'
        | 'start'
        | 'writeRow'
        | 'open'
        | 'write'
        | 'acknowledge'
        | 'renew'
        | 'clone'
        | 'beginRewind'
        | 'endRewind'
        | 'release'
        | 'crash'
        | 'restart'
        | 'crashPostgres'
        | 'pause'
        | 'thaw'
        | 'wipe'
        | 'leave'
        | 'stream'
        /** Its agent's own loop, once: whatever it can do now towards its orders. */
        | 'work';
      readonly member: string;
    }
  | { readonly do: 'ask'; readonly member: string; readonly of: string }
  | {
      readonly do:
        | 'poll'
        | 'observe'
        | 'begin'
        /** A takeover is begun though nothing is wrong. */
        | 'suspect'
        | 'step'
        | 'giveUpPut'
        | 'lead'
        | 'changeMembership'
        | 'stop'
        | 'rise'
        /** A takeover's steps, one after the other, until it has to wait. */
        | 'pursue'
        /** Everything that one operator and the agents can do without time passing, once round. */
        | 'rush';
      readonly operator: string;
    }
  | { readonly do: 'order' | 'handOver'; readonly operator: string; readonly member: string }
  /** The oldest such message; `twice` leaves it to come again. */
  | {
      readonly do: 'deliver' | 'lose';
      readonly type: Message['type'];
      readonly from: string;
      readonly to: string;
      readonly twice?: boolean;
    }
  | { readonly do: 'deliverAll' }
  | { readonly do: 'cut' | 'mend'; readonly from: string; readonly to: string }
  /** What these send to those is lost; the way back is open. */
  | { readonly do: 'mute'; readonly from: readonly string[]; readonly to: readonly string[] }
  | { readonly do: 'isolate'; readonly nodes: readonly string[] }
  | { readonly do: 'mendAll' };

/** Does it, if it can happen. @throws Violation where an invariant is broken by it. */
export function apply(world: World, rules: Rules, action: Action): boolean {
  const happened = perform(world, rules, action);
  if (happened) check(world, rules);
  return happened;
}

export function check(world: World, rules: Rules): void {
  checkServing(world, (member) => agent.canServe(world, rules, member));
  checkNewest(world);
}

function perform(world: World, rules: Rules, action: Action): boolean {
  switch (action.do) {
    case 'tick':
      world.nowMs += action.ms;
      for (const member of Object.values(world.members)) agent.handle(world, rules, member);
      return true;
    case 'beat':
      beat(world, rules);
      return true;
    case 'live':
      return live(world, rules, action.ms);
    case 'deliverAll':
      return deliverAll(world, rules);
    case 'deliver':
    case 'lose':
      return travel(world, rules, action);
    case 'ask':
      return agent.ask(world, rules, memberOf(world, action.member), memberOf(world, action.of));
    case 'cut':
      return cut(world, [[action.from, action.to]]);
    case 'mend':
      return mend(world, `${action.from}>${action.to}`);
    case 'mute':
      return cut(
        world,
        action.from.flatMap((from) => action.to.map((to): [string, string] => [from, to])),
      );
    case 'isolate':
      return isolate(world, action.nodes);
    case 'mendAll':
      if (world.cuts.length === 0) return false;
      world.cuts = [];
      return true;
    case 'order':
      return leader.order(world, rules, operatorOf(world, action.operator), [action.member]);
    case 'handOver': {
      const asked = operatorOf(world, action.operator);
      if (!asked.up || asked.attempt !== undefined || asked.wish !== undefined) return false;
      asked.wish = identityOf(memberOf(world, action.member));
      return true;
    }
    default:
      return 'member' in action
        ? ofMember(world, rules, memberOf(world, action.member), action.do)
        : ofOperator(world, rules, operatorOf(world, action.operator), action.do);
  }
}

type MemberAction = Extract<Action, { member: string; operator?: never; of?: never }>['do'];

function ofMember(world: World, rules: Rules, member: SimMember, what: string): boolean {
  switch (what as MemberAction) {
    case 'confirm':
      return agent.confirm(world, rules, member);
    case 'start':
      return agent.start(world, rules, member);
    case 'writeRow':
      return agent.writeRow(member);
    case 'open':
      return agent.open(world, rules, member);
    case 'write':
      return agent.write(world, rules, member);
    case 'acknowledge':
      return agent.acknowledge(world, rules, member);
    case 'renew':
      return agent.renew(world, rules, member);
    case 'clone':
      return following.clone(world, rules, member);
    case 'beginRewind':
      return following.beginRewind(world, rules, member);
    case 'endRewind':
      return following.endRewind(world, rules, member);
    case 'release':
      return agent.release(rules, member);
    case 'crash':
      return faults.crash(member);
    case 'restart':
      return faults.restart(world, rules, member);
    case 'crashPostgres':
      return faults.crashPostgres(member);
    case 'pause':
      if (!agent.works(member)) return false;
      member.paused = true;
      return true;
    case 'thaw':
      if (!member.paused) return false;
      member.paused = false;
      return true;
    case 'wipe':
      return mayWipe(world, member) && faults.wipe(world, rules, member);
    case 'leave':
      return leave(world, member);
    case 'stream':
      return following.stream(world, rules, member, 1);
    case 'work':
      return work(world, rules, member);
    default:
      throw new Error(`no such action: ${what}`);
  }
}

type OperatorAction = Extract<Action, { operator: string; member?: never }>['do'];

function ofOperator(world: World, rules: Rules, of: SimOperator, what: string): boolean {
  switch (what as OperatorAction) {
    case 'poll':
      return operator.poll(world, rules, of);
    case 'observe':
      return operator.observe(world, of);
    case 'begin':
      return operator.begin(world, rules, of);
    case 'suspect':
      return operator.begin(world, rules, of, true);
    case 'step':
      return operator.step(world, rules, of);
    case 'giveUpPut':
      return operator.giveUpPut(world, of);
    case 'lead':
      return leader.lead(world, of);
    case 'changeMembership':
      return leader.changeMembership(world, rules, of);
    case 'stop':
      return operator.crashOperator(of);
    case 'rise':
      return operator.restartOperator(world, of);
    case 'pursue':
      return pursue(world, rules, of);
    case 'rush':
      return rush(world, rules, of);
    default:
      throw new Error(`no such action: ${what}`);
  }
}

function operatorOf(world: World, name: string): SimOperator {
  const found = world.operators[name];
  if (found === undefined) throw new Error(`no operator ${name}`);
  return found;
}

function beat(world: World, rules: Rules): void {
  const members = Object.values(world.members);
  for (const member of members) {
    if (member.orders?.role !== 'Primary') continue;
    agent.renew(world, rules, member);
    for (const other of members) agent.ask(world, rules, member, other);
  }
  for (const member of members) following.stream(world, rules, member, 1_000);
}

const roundMs = 300;

function live(world: World, rules: Rules, ms: number): boolean {
  for (let passed = 0; passed < ms; passed += roundMs) {
    beat(world, rules);
    for (let times = 0; times < 3 && deliverAll(world, rules); times += 1);
    perform(world, rules, { do: 'tick', ms: roundMs });
    check(world, rules);
  }
  return true;
}

const agentLoop = [
  'confirm',
  'renew',
  'start',
  'writeRow',
  'clone',
  'beginRewind',
  'endRewind',
  'stream',
  'open',
] as const;

/** What an agent has to do besides keeping leases and streaming, in the order of its life. */
export function work(world: World, rules: Rules, member: SimMember): boolean {
  let happened = false;
  for (const what of agentLoop) happened = ofMember(world, rules, member, what) || happened;
  return happened;
}

const maxSteps = 12;

function pursue(world: World, rules: Rules, of: SimOperator): boolean {
  let happened = operator.poll(world, rules, of);
  happened = operator.begin(world, rules, of) || happened;
  for (let steps = 0; steps < maxSteps && operator.step(world, rules, of); steps += 1) {
    check(world, rules);
    if (of.attempt === undefined) break;
  }
  return happened;
}

function rush(world: World, rules: Rules, of: SimOperator): boolean {
  const drain = (): void => {
    for (let times = 0; times < 4 && deliverAll(world, rules); times += 1) check(world, rules);
  };
  operator.observe(world, of);
  pursue(world, rules, of);
  drain();
  leader.changeMembership(world, rules, of);
  drain();
  operator.observe(world, of);
  leader.order(world, rules, of, Object.keys(world.members));
  drain();
  beat(world, rules);
  drain();
  for (const member of Object.values(world.members)) {
    work(world, rules, member);
    check(world, rules);
  }
  return of.up;
}

/** In the order they were sent. */
function deliverAll(world: World, rules: Rules): boolean {
  const messages = world.messages;
  world.messages = [];
  for (const message of messages) deliver(world, rules, message);
  return messages.length > 0;
}

function travel(world: World, rules: Rules, action: Extract<Action, { do: 'deliver' | 'lose' }>): boolean {
  const index = world.messages.findIndex(
    ({ type, from, to }) => type === action.type && from === action.from && to === action.to,
  );
  const message = world.messages[index];
  if (message === undefined) return false;
  if (action.twice !== true) world.messages.splice(index, 1);
  if (action.do === 'deliver') deliver(world, rules, message);
  return true;
}

function cut(world: World, links: readonly (readonly [string, string])[]): boolean {
  const added = links.map(([from, to]) => `${from}>${to}`).filter((link) => !world.cuts.includes(link));
  if (added.length === 0) return false;
  world.cuts = [...world.cuts, ...added].toSorted();
  return true;
}

function mend(world: World, link: string): boolean {
  if (!world.cuts.includes(link)) return false;
  world.cuts = world.cuts.filter((other) => other !== link);
  return true;
}

function isolate(world: World, nodes: readonly string[]): boolean {
  const everybody = [...Object.keys(world.members), ...Object.keys(world.operators), 'api'];
  const outside = everybody.filter((name) => !nodes.includes(name));
  return cut(
    world,
    nodes.flatMap((inside) =>
      outside.flatMap((other): [string, string][] => [
        [inside, other],
        [other, inside],
      ]),
    ),
  );
}

/**
 * At most k volumes may be lost at a time: those that the record lists and that are lost, or half rewound, already count, until
 * the record has let them go.
 */
function mayWipe(world: World, member: SimMember): boolean {
  const { members, acknowledgements } = world.api.record.membership;
  const lost = members.filter((listed) => {
    const now = memberOf(world, listed.name);
    return now.incarnation !== listed.incarnation || now.log === undefined || now.rewinding;
  });
  const isOneOfThem = members.some(
    (listed) => listed.name === member.name && listed.incarnation === member.incarnation,
  );
  return lost.length + (isOneOfThem ? 1 : 0) <= acknowledgements;
}

/** Scaled away; and wanted again. */
function leave(world: World, member: SimMember): boolean {
  const others = Object.values(world.members).filter((other) => other !== member && other.declared);
  if (member.declared && others.length < world.shape.k + 1) return false;
  member.declared = !member.declared;
  return true;
}
