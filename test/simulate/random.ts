/**
 * Random walks from a seed. Every run draws its own shape and its own weights ("swarm testing"): a run that is all partitions,
 * or has no crashes at all, finds what an average one never does.
 */
import type { Action } from './actions.ts';
import { apply } from './actions.ts';
import { Violation } from './invariants.ts';
import type { Rules } from './rules.ts';
import { settle } from './settle.ts';
import { startWorld } from './start.ts';
import type { Shape, World } from './world.ts';

export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = (seed * 2654435761 + 1) >>> 0;
    for (let warm = 0; warm < 4; warm += 1) this.next();
  }
  /** 0 to 1 (mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }
  below(n: number): number {
    return Math.floor(this.next() * n);
  }
  of<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new Error('nothing to choose from');
    return item;
  }
}

export const shapes: readonly (readonly [number, number])[] = [
  [2, 0],
  [2, 1],
  [3, 0],
  [3, 1],
  [3, 2],
  [4, 0],
  [4, 1],
  [4, 2],
  [5, 1],
  [5, 2],
];

export function shapeOf(random: Random, only?: readonly (readonly [number, number])[]): Shape {
  const [members, k] = random.of(only ?? shapes);
  const mayWish = random.next() < 0.2;
  return {
    members,
    k,
    operators: 1 + random.below(2),
    delays: random.next() < 0.5,
    onLoss: random.next() < 0.4 ? 'ShrinkMembership' : 'Block',
    drift: random.of([0, 0, 0.01]),
    wish: mayWish ? random.below(Math.min(3, members)) : k,
  };
}

type Draw = (random: Random, world: World) => Action | undefined;
interface Choice {
  readonly weight: number;
  /** A fault: drawn anew for each run, and often left out. */
  readonly isFault: boolean;
  readonly draw: Draw;
}

const member = (random: Random, world: World): string => random.of(Object.keys(world.members));
const operator = (random: Random, world: World): string => random.of(Object.keys(world.operators));
const node = (random: Random, world: World): string =>
  random.of([...Object.keys(world.members), ...Object.keys(world.operators), 'api']);

const does = (what: string, weight: number, isFault = false): Choice => ({
  weight,
  isFault,
  draw: (random, world) => ({ do: what, member: member(random, world) }) as Action,
});
const operates = (what: string, weight: number, isFault = false): Choice => ({
  weight,
  isFault,
  draw: (random, world) => ({ do: what, operator: operator(random, world) }) as Action,
});

const choices: readonly Choice[] = [
  { weight: 10, isFault: false, draw: (random) => ({ do: 'tick', ms: random.of([100, 300, 700, 1_500]) }) },
  { weight: 12, isFault: false, draw: () => ({ do: 'beat' }) },
  { weight: 6, isFault: false, draw: () => ({ do: 'deliverAll' }) },
  {
    weight: 20,
    isFault: false,
    draw: (random, world) => {
      if (world.messages.length === 0) return undefined;
      const { type, from, to } = random.of(world.messages);
      return { do: 'deliver', type, from, to, ...(random.next() < 0.05 && { twice: true }) };
    },
  },
  {
    weight: 3,
    isFault: true,
    draw: (random, world) => {
      if (world.messages.length === 0) return undefined;
      const { type, from, to } = random.of(world.messages);
      return { do: 'lose', type, from, to };
    },
  },
  { weight: 6, isFault: false, draw: (random, world) => ({ do: 'ask', member: member(random, world), of: member(random, world) }) },
  does('stream', 10),
  does('confirm', 4),
  does('start', 6),
  does('writeRow', 5),
  does('open', 6),
  does('write', 8),
  does('acknowledge', 8),
  does('renew', 2),
  does('clone', 3),
  does('beginRewind', 2),
  does('endRewind', 3),
  does('thaw', 3),
  does('restart', 4),
  operates('poll', 6),
  operates('observe', 5),
  operates('begin', 6),
  operates('step', 16),
  operates('giveUpPut', 2),
  operates('changeMembership', 4),
  operates('rise', 3),
  { weight: 10, isFault: false, draw: (random, world) => ({ do: 'order', operator: operator(random, world), member: member(random, world) }) },
  { weight: 2, isFault: false, draw: () => ({ do: 'mendAll' }) },
  { weight: 2, isFault: true, draw: (random, world) => ({ do: 'handOver', operator: operator(random, world), member: member(random, world) }) },
  operates('lead', 1, true),
  operates('stop', 1, true),
  does('crash', 2, true),
  does('crashPostgres', 2, true),
  does('pause', 2, true),
  does('wipe', 1, true),
  does('leave', 0.5, true),
  does('release', 0.5, true),
  { weight: 2, isFault: true, draw: (random, world) => ({ do: 'cut', from: node(random, world), to: node(random, world) }) },
  {
    weight: 1.5,
    isFault: true,
    draw: (random, world) => ({
      do: 'isolate',
      nodes: [...Object.keys(world.members), ...Object.keys(world.operators), 'api'].filter(() => random.next() < 0.4),
    }),
  },
];

export interface Run {
  readonly shape: Shape;
  readonly actions: readonly Action[];
  readonly violation: Violation | undefined;
}

export interface RunOptions {
  readonly steps: number;
  readonly shapes?: readonly (readonly [number, number])[];
  /** Whether the faults stop at the end and progress is required. */
  readonly settles: boolean;
}

/** One walk; the same for the same seed and rules. */
export function run(seed: number, rules: Rules, options: RunOptions): Run {
  const random = new Random(seed);
  const shape = shapeOf(random, options.shapes);
  const weights = choices.map(({ weight, isFault }) => {
    if (!isFault) return weight * random.of([0.3, 1, 1, 3]);
    return random.next() < 0.4 ? 0 : weight * random.of([0.3, 1, 2]);
  });
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const world = startWorld(shape, rules);
  const actions: Action[] = [];
  try {
    for (let step = 0; step < options.steps; step += 1) {
      const action = draw(random, world, weights, total);
      if (action === undefined) continue;
      actions.push(action);
      if (!apply(world, rules, action)) actions.pop();
    }
    if (options.settles) settle(world, rules);
    return { shape, actions, violation: undefined };
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return { shape, actions, violation: error };
  }
}

function draw(random: Random, world: World, weights: readonly number[], total: number): Action | undefined {
  let point = random.next() * total;
  for (const [index, weight] of weights.entries()) {
    point -= weight;
    if (point < 0) return choices[index]?.draw(random, world);
  }
  return undefined;
}
