/**
 * The two gates of a primary. Start gate: what has to be shown before Postgres is started, or promoted, as primary at all; no
 * lease yet, since where members lost their volumes only a running primary can give new ones the copies that they need before
 * they can grant it one. Opening gate: what before it lets anybody in: one rule for promotion, restart after a clean or an unclean stop, first start
 * and switchover (docs/design.md, section 4, "Start gate", "Opening gate"; traps A6, T1, B2, B11).
 * Invariant: nothing is seen that could still be lost: a transaction written after the end of *this* recovery, on the recorded
 * timeline, is on k followers, and so is everything before it.
 * Leaves writing it, and holding `pg_hba` shut, to the agent.
 */
export interface Start {
  /** Epoch and timeline of the orders taken. */
  readonly ordered: { readonly epoch: number; readonly timeline: number };
  /** The epoch at which the record, or k grants, have named this member; 0 for none. */
  readonly confirmedEpoch: number;
  /** This member's promise, at this epoch, is to itself. */
  readonly leads: boolean;
}

export interface Opening extends Start {
  /** As `expiryOf` says, less the time now; null where none is needed. */
  readonly leaseRemainingMs: number | null;
  /** Timeline that Postgres writes on now. */
  readonly runningTimeline: number;
  /** It was started, or promoted, behind the closed `pg_hba`, and every session from before has ended. */
  readonly isShut: boolean;
  /** Sync list and k of the orders are in force, with the barrier of trap A9. */
  readonly settingsApplied: boolean;
  /**
   * The row of this very opening. Cancelled: its COMMIT came back with the warning of a wait that was cut short, which is no
   * proof of anything.
   */
  readonly row: 'Unwritten' | 'Waiting' | 'Cancelled' | 'Committed';
}

const startConditions: readonly ((start: Start) => string | undefined)[] = [
  ({ confirmedEpoch, ordered }) =>
    confirmedEpoch === ordered.epoch ? undefined : `epoch ${ordered.epoch} isn't confirmed yet`,
  ({ leads, ordered }) => (leads ? undefined : `epoch ${ordered.epoch} isn't promised to this member`),
];

const openingConditions: readonly ((opening: Opening) => string | undefined)[] = [
  ...startConditions,
  ({ leaseRemainingMs }) => (leaseRemainingMs === null || leaseRemainingMs > 0 ? undefined : 'the lease is not held'),
  ({ runningTimeline, ordered }) =>
    ordered.timeline === 0 || runningTimeline === ordered.timeline
      ? undefined
      : `Postgres writes on timeline ${runningTimeline}, not ${ordered.timeline}`,
  ({ isShut }) => (isShut ? undefined : 'sessions from before may still be there'),
  ({ settingsApplied }) => (settingsApplied ? undefined : 'the synchronous list is not in force yet'),
  ({ row }) => {
    if (row === 'Committed') return undefined;
    return row === 'Cancelled'
      ? 'the wait for followers was cut short: the row is to be written anew'
      : 'not enough followers have the row of this opening yet';
  },
];

/** What keeps a member from starting, or promoting, Postgres as primary; undefined when it may. */
export const whyNotStart = (start: Start): string | undefined => firstReason(startConditions, start);

/** What keeps a running primary from letting everybody in; undefined when it may. */
export const whyShut = (opening: Opening): string | undefined => firstReason(openingConditions, opening);

function firstReason<T>(conditions: readonly ((of: T) => string | undefined)[], of: T): string | undefined {
  for (const condition of conditions) {
    const reason = condition(of);
    if (reason !== undefined) return reason;
  }
  return undefined;
}
