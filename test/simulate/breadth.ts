/**
 * Breadth-first over everything that can happen next, from a shard in some situation, as far as a number of states goes.
 * What random walks seldom do in a row is done here in every order; how deep that went is said with the result.
 */
import { type Action, apply } from './actions.ts';
import { Violation } from './invariants.ts';
import type { Rules } from './rules.ts';
import { startWorld } from './start.ts';
import { stateKey } from './state-key.ts';
import { copyOf, type Shape, type World } from './world.ts';

export interface Situation {
  readonly name: string;
  readonly actions: readonly Action[];
}

const op1 = { operator: 'op1' };

/** Where things can go wrong within few steps. */
export const situations: readonly Situation[] = [
  { name: 'at rest', actions: [] },
  {
    name: 'fenced, not decided, the primary alive',
    actions: [
      { do: 'suspect', ...op1 },
      { do: 'step', ...op1 },
      { do: 'step', ...op1 },
    ],
  },
  {
    name: 'decided, the old primary alive, the new one not ordered yet',
    actions: [
      { do: 'suspect', ...op1 },
      { do: 'pause', member: 'a' },
      { do: 'step', ...op1 },
      { do: 'step', ...op1 },
      { do: 'tick', ms: 3_100 },
      { do: 'step', ...op1 },
      { do: 'thaw', member: 'a' },
    ],
  },
  {
    name: 'the new primary behind its gate',
    actions: [
      { do: 'pause', member: 'a' },
      { do: 'suspect', ...op1 },
      { do: 'rush', ...op1 },
      { do: 'tick', ms: 3_100 },
      { do: 'rush', ...op1 },
      { do: 'thaw', member: 'a' },
    ],
  },
  {
    name: 'a handover announced',
    actions: [
      { do: 'handOver', ...op1, member: 'b' },
      { do: 'begin', ...op1 },
      { do: 'step', ...op1 },
      { do: 'step', ...op1 },
    ],
  },
  {
    name: 'a member on its way out',
    actions: [
      { do: 'leave', member: 'b' },
      { do: 'order', ...op1, member: 'a' },
      { do: 'write', member: 'a' },
      { do: 'stream', member: 'b' },
    ],
  },
];

function actionsIn(world: World): readonly Action[] {
  const members = Object.keys(world.members);
  const operators = Object.keys(world.operators);
  const ofMembers = (['work', 'stream', 'crash', 'restart', 'pause', 'thaw', 'wipe', 'crashPostgres'] as const).flatMap(
    (what) => members.map((member): Action => ({ do: what, member })),
  );
  const ofOperators = (['step', 'begin', 'suspect', 'observe', 'changeMembership', 'poll'] as const).flatMap((what) =>
    operators.map((operator): Action => ({ do: what, operator })),
  );
  const primaries = members.filter((name) => world.members[name]?.orders?.role === 'Primary');
  return [
    { do: 'tick', ms: 1_500 },
    { do: 'beat' },
    ...ofOperators,
    ...ofMembers,
    ...operators.flatMap((operator) => members.map((member): Action => ({ do: 'order', operator, member }))),
    ...primaries.flatMap((member): Action[] => [
      ...(world.writes < 2 ? [{ do: 'write', member } as const] : []),
      { do: 'acknowledge', member },
      ...members.map((of): Action => ({ do: 'ask', member, of })),
    ]),
  ];
}

interface Node {
  readonly world: World;
  readonly path: Path | undefined;
  readonly depth: number;
}
interface Path {
  readonly action: Action;
  readonly before: Path | undefined;
}

export interface Explored {
  readonly states: number;
  readonly transitions: number;
  /** All states up to here were gone through. */
  readonly depth: number;
  readonly found: { readonly actions: readonly Action[]; readonly violation: Violation } | undefined;
}

export function explore(shape: Shape, rules: Rules, situation: Situation, maxStates: number): Explored {
  const root = startWorld(shape, rules);
  for (const action of situation.actions) apply(root, rules, action);
  const seen = new Set([stateKey(root)]);
  let level: Node[] = [{ world: root, path: undefined, depth: 0 }];
  let transitions = 0;
  let depth = 0;
  while (level.length > 0) {
    const next: Node[] = [];
    for (const node of level) {
      for (const action of actionsIn(node.world)) {
        const world = copyOf(node.world);
        const path = { action, before: node.path };
        try {
          if (!apply(world, rules, action)) continue;
        } catch (error) {
          if (!(error instanceof Violation)) throw error;
          return {
            states: seen.size,
            transitions,
            depth,
            found: { actions: [...situation.actions, ...stepsOf(path)], violation: error },
          };
        }
        transitions += 1;
        const key = stateKey(world);
        if (seen.has(key)) continue;
        seen.add(key);
        next.push({ world, path, depth: node.depth + 1 });
        if (seen.size >= maxStates) return { states: seen.size, transitions, depth, found: undefined };
      }
    }
    level = next;
    depth += 1;
  }
  return { states: seen.size, transitions, depth, found: undefined };
}

function stepsOf(path: Path | undefined): readonly Action[] {
  const steps: Action[] = [];
  for (let at = path; at !== undefined; at = at.before) steps.unshift(at.action);
  return steps;
}
