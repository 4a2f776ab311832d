/**
 * Every step of every workflow, times what can happen to whoever runs it there, times what its successor knows. The points are
 * counted while a workflow runs, not chosen: whatever is added to one is tried, too.
 */
import { type Action, apply } from './actions.ts';
import { deliver } from './network.ts';
import type { Rules } from './rules.ts';
import { settle } from './settle.ts';
import { startWorld } from './start.ts';
import type { Message, Shape, World } from './world.ts';

export interface Workflow {
  readonly name: string;
  readonly shape: Pick<Shape, 'members' | 'k' | 'wish' | 'onLoss'>;
  readonly begins: readonly Action[];
}

const block = { onLoss: 'Block' } as const;

export const workflows: readonly Workflow[] = [
  {
    name: 'failover of a dead primary',
    shape: { members: 3, k: 1, wish: 1, ...block },
    begins: [
      { do: 'write', member: 'a' },
      { do: 'crash', member: 'a' },
    ],
  },
  {
    name: 'failover of a frozen primary',
    shape: { members: 4, k: 2, wish: 2, ...block },
    begins: [
      { do: 'write', member: 'a' },
      { do: 'pause', member: 'a' },
    ],
  },
  {
    name: 'failover on a false alarm',
    shape: { members: 3, k: 1, wish: 1, ...block },
    begins: [
      { do: 'suspect', operator: 'op1' },
      { do: 'write', member: 'a' },
    ],
  },
  {
    name: 'failover without acknowledgements',
    shape: { members: 3, k: 0, wish: 0, ...block },
    begins: [{ do: 'crash', member: 'a' }],
  },
  {
    name: 'failover with a lost volume',
    shape: { members: 2, k: 1, wish: 1, ...block },
    begins: [{ do: 'wipe', member: 'a' }],
  },
  {
    name: 'switchover',
    shape: { members: 3, k: 1, wish: 1, ...block },
    begins: [
      { do: 'write', member: 'a' },
      { do: 'handOver', operator: 'op1', member: 'b' },
    ],
  },
  {
    name: 'removal and return of a member',
    shape: { members: 4, k: 1, wish: 1, ...block },
    begins: [{ do: 'leave', member: 'b' }],
  },
  {
    name: 'raising k',
    shape: { members: 4, k: 1, wish: 2, ...block },
    begins: [],
  },
  {
    name: 'raising k from 0',
    shape: { members: 3, k: 0, wish: 1, ...block },
    begins: [],
  },
  {
    name: 'lowering k to 0',
    shape: { members: 3, k: 1, wish: 0, ...block },
    begins: [],
  },
];

export const fates = [
  /** It dies before its request goes out. */
  'before the request',
  /** Its request takes effect; it dies before it hears so. */
  'after the effect',
  /** Its request takes effect; the answer reaches it after another has led and finished. */
  'a late answer',
] as const;
export type Fate = (typeof fates)[number];

export const views = ['fresh', 'stale', 'missed an event'] as const;
export type View = (typeof views)[number];

/** One of the countable steps: what the operator does to others. */
function stepsOf(world: World): readonly Action[] {
  const operator = 'op1';
  return [
    ...Array.from({ length: 4 }, (): Action => ({ do: 'step', operator })),
    { do: 'changeMembership', operator },
    ...Object.keys(world.members).map((member): Action => ({ do: 'order', operator, member })),
  ];
}

const maxRounds = 60;

/** Runs op1 until its step `point` is due; false when the workflow ends before. `visit` does that step. */
function driveTo(world: World, rules: Rules, point: number, visit: (action: Action) => void): boolean {
  let count = 0;
  const members = Object.keys(world.members);
  const operator = 'op1';
  for (let round = 0; round < maxRounds; round += 1) {
    apply(world, rules, { do: 'live', ms: 300 });
    for (const member of members) apply(world, rules, { do: 'work', member });
    apply(world, rules, { do: 'observe', operator });
    apply(world, rules, { do: 'poll', operator });
    apply(world, rules, { do: 'begin', operator });
    for (const action of stepsOf(world)) {
      const before = { messages: world.messages.length, version: world.api.version };
      if (count === point && wouldHappen(world, action)) {
        visit(action);
        return true;
      }
      if (apply(world, rules, action) || world.api.version !== before.version) count += 1;
    }
  }
  return false;
}

/** Only what may do something is a point; asking costs nothing. */
const wouldHappen = (world: World, action: Action): boolean =>
  action.do !== 'step' || world.operators['op1']?.attempt !== undefined;

/** False where the workflow has no such step. @throws Violation */
export function crashAt(workflow: Workflow, rules: Rules, point: number, fate: Fate, view: View): boolean {
  const world = startWorld({ ...workflow.shape, operators: 2, delays: false, drift: 0 }, rules);
  for (const action of workflow.begins) apply(world, rules, action);
  const kept: Message[] = [];
  const reached = driveTo(world, rules, point, (action) => {
    if (view === 'missed an event') apply(world, rules, { do: 'observe', operator: 'op2' });
    meet(world, rules, action, fate, kept);
    if (view === 'fresh') apply(world, rules, { do: 'observe', operator: 'op2' });
  });
  if (!reached) return false;
  // The successor acts on what it knows before anything is mended.
  apply(world, rules, { do: 'lead', operator: 'op2' });
  for (const member of Object.keys(world.members)) apply(world, rules, { do: 'order', operator: 'op2', member });
  apply(world, rules, { do: 'changeMembership', operator: 'op2' });
  settle(world, rules, ['op2']);
  if (fate !== 'a late answer') return true;
  for (const message of kept) deliver(world, rules, message);
  for (let step = 0; step < 6; step += 1) apply(world, rules, { do: 'step', operator: 'op1' });
  for (const member of Object.keys(world.members)) apply(world, rules, { do: 'order', operator: 'op1', member });
  apply(world, rules, { do: 'changeMembership', operator: 'op1' });
  settle(world, rules);
  return true;
}

function meet(world: World, rules: Rules, action: Action, fate: Fate, kept: Message[]): void {
  if (fate !== 'before the request') {
    if (fate === 'a late answer') world.shape = { ...world.shape, delays: true };
    apply(world, rules, action);
    for (let times = 0; times < 4 && world.messages.length > 0; times += 1) {
      const messages = world.messages;
      world.messages = [];
      for (const message of messages) {
        if (message.to === 'op1') kept.push(message);
        else deliver(world, rules, message);
      }
    }
    world.shape = { ...world.shape, delays: false };
  }
  if (fate !== 'a late answer') apply(world, rules, { do: 'stop', operator: 'op1' });
}
