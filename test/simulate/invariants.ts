/**
 * What must hold at every instant, whatever happens: invariants 1 to 3 of docs/design.md (7 is `settle.ts`). Checked against the
 * world as a whole, which no program in it can see.
 */
import { contains, type LogEntry } from './log.ts';
import type { SimMember, World } from './world.ts';

export type ViolationKind = 'TwoPrimaries' | 'Lost' | 'Corruption' | 'Stuck';

export class Violation extends Error {
  override readonly name = 'Violation';
  readonly kind: ViolationKind;
  constructor(kind: ViolationKind, message: string) {
    super(`${kind}: ${message}`);
    this.kind = kind;
  }
}

/** A client has this now: neither it nor what lies before it may be lost. */
export function keep(world: World, by: SimMember, entry: LogEntry, how: 'acknowledged' | 'seen'): void {
  for (const kept of world.kept)
    if (!contains(entry, kept) && !contains(kept, entry))
      throw new Violation('Lost', `${by.name} ${how} ${describe(entry)}, beside ${describe(kept)} that a client has`);
  if (world.kept.some((kept) => contains(kept, entry))) return;
  world.kept = [...world.kept.filter((kept) => !contains(entry, kept)), entry];
  checkNewest(world);
}

/** The member of the record has all that clients have. Before it opens, too: it was chosen for that. */
export function checkNewest(world: World): void {
  const { authority, membership } = world.api.record;
  const newest = world.members[authority.member];
  // With k = 0 a failure may cost what only the failed one had; a primary that lost its volume is not the newest for long.
  if (membership.acknowledgements === 0 || newest === undefined) return;
  if (newest.incarnation !== authority.incarnation || newest.log === undefined || newest.rewinding) return;
  for (const entry of world.kept)
    if (!contains(newest.log, entry))
      throw new Violation(
        'Lost',
        `${describe(entry)}, which a client has, isn't in the log of ${newest.name}, primary of epoch ${authority.epoch}`,
      );
}

export function checkServing(world: World, serves: (member: SimMember) => boolean): void {
  const serving = Object.values(world.members).filter(serves);
  if (serving.length > 1)
    throw new Violation(
      'TwoPrimaries',
      `${serving.map(({ name, orders }) => `${name} (epoch ${orders?.epoch})`).join(' and ')} can serve at one instant`,
    );
}

export const describe = (entry: LogEntry): string =>
  `${entry.kind} ${entry.length} of timeline ${entry.timeline} (by ${entry.writer})`;
