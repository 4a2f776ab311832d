/**
 * Whether this member's log is a part of the line that leads to its primary's timeline, by the history that came with its
 * orders (the comparison itself is `core/authority/position.ts`), and which stretches of it are not. Pure.
 */
import { divergenceFrom } from '#core/authority/position.ts';
import { formatLsn, type Lsn, parseLsn } from '#core/lsn.ts';
import type { Orders } from '#core/protocol/orders.ts';
import { type Line, timelineOf } from './position.ts';

export interface Divergence {
  readonly timeline: number;
  readonly forkLsn: Lsn;
}

/** Undefined where it hasn't diverged, or the orders don't say what it should be a part of. */
export function divergenceOf(
  position: { readonly timeline: number; readonly lsn: string },
  { history, timeline }: Pick<Orders, 'history' | 'timeline'>,
): Divergence | undefined {
  if (timeline === 0) return undefined;
  return divergenceFrom({ history }, { timeline: position.timeline, lsn: parseLsn(position.lsn) }, timeline);
}

export interface DivergedStretch {
  readonly timeline: number;
  readonly from: Lsn;
  readonly to: Lsn;
}

/** What lies past the fork, oldest first. Nothing where the data says nothing of the timeline it forked on. */
function divergedStretches({ stretches, end }: Line, { timeline, forkLsn }: Divergence): DivergedStretch[] {
  return stretches
    .map((stretch, index) => ({
      timeline: stretch.timeline,
      from: stretch.begin,
      to: stretches[index + 1]?.begin ?? end,
    }))
    .filter((stretch) => stretch.timeline >= timeline)
    .map((stretch) => (stretch.timeline === timeline ? { ...stretch, from: forkLsn } : stretch))
    .filter((stretch) => stretch.to > stretch.from);
}

/** Both of what is on disk; undefined where it hasn't diverged. */
export function divergedFrom(
  line: Line,
  orders: Pick<Orders, 'history' | 'timeline'>,
): { readonly divergence: Divergence; readonly stretches: readonly DivergedStretch[] } | undefined {
  const divergence = divergenceOf({ timeline: timelineOf(line), lsn: formatLsn(line.end) }, orders);
  return divergence === undefined ? undefined : { divergence, stretches: divergedStretches(line, divergence) };
}
