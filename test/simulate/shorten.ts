/**
 * A counterexample made short (delta debugging): actions are left out, in ever smaller chunks, for as long as the same kind of
 * violation comes of the rest. And printed, with what each action did to the shard.
 */
import { type Action, apply } from './actions.ts';
import { describe, Violation, type ViolationKind } from './invariants.ts';
import { nextAction } from './operator.ts';
import type { Rules } from './rules.ts';
import { settle } from './settle.ts';
import { startWorld } from './start.ts';
import type { Shape, World } from './world.ts';

/** What comes of these actions: the violation, or undefined. */
export function replay(
  shape: Shape,
  rules: Rules,
  actions: readonly Action[],
  settles: boolean,
): Violation | undefined {
  const world = startWorld(shape, rules);
  try {
    for (const action of actions) apply(world, rules, action);
    if (settles) settle(world, rules);
    return undefined;
  } catch (error) {
    if (error instanceof Violation) return error;
    throw error;
  }
}

export function shorten(
  shape: Shape,
  rules: Rules,
  actions: readonly Action[],
  kind: ViolationKind,
  settles: boolean,
): readonly Action[] {
  const breaks = (some: readonly Action[]): boolean => replay(shape, rules, some, settles)?.kind === kind;
  let kept = actions;
  for (let chunk = Math.ceil(kept.length / 2); chunk >= 1; ) {
    let hasShrunk = false;
    for (let from = 0; from < kept.length; ) {
      const without = [...kept.slice(0, from), ...kept.slice(from + chunk)];
      if (breaks(without)) {
        kept = without;
        hasShrunk = true;
      } else from += chunk;
    }
    if (chunk === 1 && !hasShrunk) break;
    if (chunk > 1 || !hasShrunk) chunk = Math.max(1, Math.floor(chunk / 2));
  }
  return kept;
}

/** The actions, each with what it changed. */
export function trace(shape: Shape, rules: Rules, actions: readonly Action[]): readonly string[] {
  const world = startWorld(shape, rules);
  const lines: string[] = [];
  let before = picture(world);
  for (const action of actions) {
    const next = action.do === 'step' ? world.operators[action.operator] : undefined;
    const does = next === undefined ? '' : ` (${wordsOf(nextAction(world, rules, next)?.kind)})`;
    let broken = '';
    let happened = true;
    try {
      happened = apply(world, rules, action);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      broken = `  *** ${error.message}`;
    }
    const after = picture(world);
    const changed = [...after]
      .filter(([key, value]) => before.get(key) !== value)
      .map(([key, value]) => `${key}: ${value}`);
    lines.push(
      `${words(action)}${does}${happened ? '' : ' (nothing happens)'}${changed.length > 0 ? `  -> ${changed.join('; ')}` : ''}${broken}`,
    );
    before = after;
  }
  return lines;
}

const wordsOf = (kind: string | undefined): string => kind ?? 'waits';

function words(action: Action): string {
  const { do: what, ...rest } = action;
  return [
    what,
    ...Object.entries(rest).map(([key, value]) => `${key}=${Array.isArray(value) ? value.join('+') : String(value)}`),
  ].join(' ');
}

/** What is worth showing of a world, part by part. */
function picture(world: World): ReadonlyMap<string, string> {
  const { authority, membership } = world.api.record;
  const parts = new Map<string, string>([
    [
      'record',
      `epoch ${authority.epoch} ${authority.member} ${authority.state}, generation ${membership.generation} {${membership.members.map(({ incarnation }) => incarnation).join(' ')}} k=${membership.acknowledgements}`,
    ],
    ['clients have', world.kept.map(describe).join(' and ')],
  ]);
  for (const member of Object.values(world.members)) {
    const state = !member.up ? 'gone' : member.paused ? `paused ${member.postgres}` : member.postgres;
    const log = member.log === undefined ? 'no data' : `${member.log.timeline}:${member.log.length}`;
    parts.set(
      member.name,
      `${state}${member.rewinding ? ' rewinding' : ''}${member.released ? ' released' : ''} at ${log}, promised ${member.promise.epoch} to ${member.promise.grantee || 'nobody'}, works by ${member.orders?.role ?? 'nothing'} ${member.orders?.epoch ?? ''}/${member.orders?.generation ?? ''}`,
    );
  }
  return parts;
}
