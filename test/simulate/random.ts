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
  /** The action that is drawn. */
  readonly what: Action['do'];
  readonly weight: number;
  readonly draw: Draw;
}

const member = (random: Random, world: World): string => random.of(Object.keys(world.members));
/** Mostly the one that matters. */
const primary = (random: Random, world: World): string =>
  random.next() < 0.7 ? world.api.record.authority.member : member(random, world);
const operator = (random: Random, world: World): string => random.of(Object.keys(world.operators));
const node = (random: Random, world: World): string =>
  random.of([...Object.keys(world.members), ...Object.keys(world.operators), 'api']);
const message: Draw = (random, world) => {
  if (world.messages.length === 0) return undefined;
  const { type, from, to } = random.of(world.messages);
  return { do: 'deliver', type, from, to, ...(random.next() < 0.05 && { twice: true }) };
};

const does = (what: Action['do'], weight: number, who = member): Choice => ({
  what,
  weight,
  draw: (random, world) => ({ do: what, member: who(random, world) }) as Action,
});
const operates = (what: Action['do'], weight: number): Choice => ({
  what,
  weight,
  draw: (random, world) => ({ do: what, operator: operator(random, world) }) as Action,
});

const ordinary: readonly Choice[] = [
  { what: 'tick', weight: 4, draw: (random) => ({ do: 'tick', ms: random.of([100, 300, 700, 1_500]) }) },
  { what: 'live', weight: 6, draw: (random) => ({ do: 'live', ms: random.of([300, 600, 900, 2_100]) }) },
  { what: 'beat', weight: 5, draw: () => ({ do: 'beat' }) },
  { what: 'deliverAll', weight: 4, draw: () => ({ do: 'deliverAll' }) },
  { what: 'deliver', weight: 20, draw: message },
  {
    what: 'ask',
    weight: 4,
    draw: (random, world) => ({ do: 'ask', member: primary(random, world), of: member(random, world) }),
  },
  {
    what: 'order',
    weight: 12,
    draw: (random, world) => ({ do: 'order', operator: operator(random, world), member: member(random, world) }),
  },
  { what: 'mendAll', weight: 2, draw: () => ({ do: 'mendAll' }) },
  does('work', 10),
  does('stream', 6),
  does('confirm', 2, primary),
  does('start', 3, primary),
  does('writeRow', 3, primary),
  does('open', 3, primary),
  does('write', 6, primary),
  does('acknowledge', 6, primary),
  does('renew', 1, primary),
  does('clone', 2),
  does('beginRewind', 2),
  does('endRewind', 2),
  does('thaw', 5),
  does('restart', 8),
  operates('poll', 4),
  operates('observe', 5),
  operates('begin', 4),
  operates('step', 10),
  operates('pursue', 5),
  operates('rush', 16),
  operates('giveUpPut', 1),
  operates('changeMembership', 4),
  operates('rise', 5),
  operates('lead', 0.5),
];

const faults: readonly Choice[] = [
  {
    what: 'lose',
    weight: 4,
    draw: (random, world) => {
      const drawn = message(random, world);
      return drawn?.do === 'deliver' ? { do: 'lose', type: drawn.type, from: drawn.from, to: drawn.to } : undefined;
    },
  },
  {
    what: 'handOver',
    weight: 2,
    draw: (random, world) => ({ do: 'handOver', operator: operator(random, world), member: member(random, world) }),
  },
  operates('suspect', 6),
  operates('stop', 1),
  does('crash', 2),
  does('crash', 1, primary),
  does('crashPostgres', 2, primary),
  does('pause', 2, primary),
  does('pause', 1),
  does('wipe', 2),
  does('wipe', 1, primary),
  does('leave', 0.7),
  does('release', 0.7, primary),
  {
    what: 'cut',
    weight: 3,
    draw: (random, world) => ({ do: 'cut', from: node(random, world), to: node(random, world) }),
  },
  {
    what: 'isolate',
    weight: 1.5,
    draw: (random, world) => ({ do: 'isolate', nodes: [primary(random, world)] }),
  },
  {
    what: 'mute',
    weight: 1.5,
    draw: (random, world) => {
      const one = primary(random, world);
      const others = Object.keys(world.members).filter((name) => name !== one && random.next() < 0.8);
      return random.next() < 0.5 ? { do: 'mute', from: [one], to: others } : { do: 'mute', from: others, to: [one] };
    },
  },
  {
    what: 'isolate',
    weight: 1.5,
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
  /** It shows only after the faults have stopped. */
  readonly whileSettling: boolean;
}

export interface RunOptions {
  readonly steps: number;
  readonly shapes?: readonly (readonly [number, number])[];
  /** Whether the faults stop at the end and progress is required. */
  readonly settles: boolean;
  /** The k that is wanted; drawn where it isn't given. */
  readonly wish?: number;
  /** What is to happen more often, or less, than otherwise: a factor by action. */
  readonly emphasis?: Readonly<Partial<Record<Action['do'], number>>>;
}

/** How often something is drawn anew that can't happen just then. */
const draws = 8;

/** One walk; the same for the same seed and rules. */
export function run(seed: number, rules: Rules, options: RunOptions): Run {
  const random = new Random(seed);
  const drawn = shapeOf(random, options.shapes);
  const shape = options.wish === undefined ? drawn : { ...drawn, wish: options.wish };
  const everyday = weightsOf(ordinary, options, () => random.of([0.1, 0.5, 1, 1, 3, 8]));
  // Some kinds of fault not at all, some often; few of them at once in most runs, since what is always down shows nothing.
  const storm = weightsOf(faults, options, () => random.of([0, 0, 1, 3, 10]));
  const faultRate = random.of([0.01, 0.03, 0.08, 0.15]);
  const world = startWorld(shape, rules);
  const actions: Action[] = [];
  let whileSettling = false;
  try {
    for (let step = 0; step < options.steps; step += 1) {
      for (let attempt = 0; attempt < draws; attempt += 1) {
        const action =
          attempt === 0 && random.next() < faultRate
            ? draw(random, world, faults, storm)
            : draw(random, world, ordinary, everyday);
        if (action === undefined) continue;
        // Also what doesn't happen is kept: an operator that looks, and sees nothing to do, has looked.
        actions.push(action);
        if (apply(world, rules, action)) break;
      }
    }
    whileSettling = true;
    if (options.settles) settle(world, rules);
    return { shape, actions, violation: undefined, whileSettling: false };
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return { shape, actions, violation: error, whileSettling };
  }
}

const weightsOf = (choices: readonly Choice[], { emphasis }: RunOptions, factor: () => number): readonly number[] =>
  choices.map(({ what, weight }) => weight * (emphasis?.[what] ?? factor()));

function draw(
  random: Random,
  world: World,
  choices: readonly Choice[],
  weights: readonly number[],
): Action | undefined {
  let point = random.next() * weights.reduce((sum, weight) => sum + weight, 0);
  for (const [index, weight] of weights.entries()) {
    point -= weight;
    if (point < 0) return choices[index]?.draw(random, world);
  }
  return undefined;
}
