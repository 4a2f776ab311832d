/**
 * How long a primary is given before its epoch is given up ("released"), so that another may take over without anybody having
 * to doubt it first. What counts is that its Postgres doesn't come to serve though it could (its authority confirmed, its
 * lease held), or fails to start again and again; or that a lease it had is gone and doesn't come back, as where its
 * followers can't hear it, or it can't hear them, while others can (docs/design-traps.md, A13).
 * A lease that comes back undoes the one. The other is tried again later and longer, since there may be nobody else: a
 * recovery that takes long must come to its end some day.
 */
import { bootTimeMs } from '#clock/boot-time.ts';
import { restartAttempts, restartPatienceMs, suspicionMs } from '#core/authority/timing.ts';

/** How long it stays given up before the next try. */
const PAUSE_MS = 30_000;
const MOST_PATIENCE_MS = 600_000;

/** What it was given up for. */
export type Release = 'none' | 'Postgres' | 'Lease';

export interface PatienceView {
  /** It is ordered to be primary, and somebody else could be. */
  readonly isAsked: boolean;
  readonly isServing: boolean;
  readonly isConfirmed: boolean;
  readonly isLeaseHeld: boolean;
}

export class Patience {
  readonly #now: () => number;
  /** Since when it could serve and doesn't; since when it has no lease. */
  #silentSince: number | undefined;
  #leaselessSince: number | undefined;
  #hadLease = false;
  #failedStarts = 0;
  #round = 0;
  #release: Release = 'none';
  #releasedAt = 0;

  constructor(now: () => number = bootTimeMs) {
    this.#now = now;
  }

  get release(): Release {
    return this.#release;
  }

  /** It has waited for its lease long enough to go on without one, behind its gate: who is to grant may need it running. */
  get isTiredOfWaiting(): boolean {
    return this.#leaselessSince !== undefined && !this.#hadLease && this.#now() - this.#leaselessSince >= START_MS;
  }

  /** To be called often, whatever step is under way. */
  look(view: PatienceView): void {
    const now = this.#now();
    if (!view.isAsked || view.isServing) {
      this.forget();
      this.#hadLease = view.isAsked;
      return;
    }
    if (this.#release === 'Lease' && view.isLeaseHeld) this.#begin(0);
    if (this.#release !== 'none') {
      if (now - this.#releasedAt >= PAUSE_MS) this.#begin(this.#round + 1);
      return;
    }
    this.#silentSince = view.isConfirmed && view.isLeaseHeld ? (this.#silentSince ?? now) : undefined;
    this.#leaselessSince = view.isLeaseHeld ? undefined : (this.#leaselessSince ?? now);
    if (view.isLeaseHeld) this.#hadLease = true;
    const patienceMs = Math.min(MOST_PATIENCE_MS, restartPatienceMs * 2 ** this.#round);
    const isOver = (since: number | undefined, ms: number): boolean => since !== undefined && now - since >= ms;
    if (this.#failedStarts >= restartAttempts || isOver(this.#silentSince, patienceMs)) this.#giveUp('Postgres');
    else if (this.#hadLease && isOver(this.#leaselessSince, suspicionMs)) this.#giveUp('Lease');
  }

  startFailed(): void {
    this.#failedStarts += 1;
  }

  /** It serves, or it isn't asked to. */
  forget(): void {
    this.#begin(0);
  }

  #giveUp(release: Release): void {
    this.#release = release;
    this.#releasedAt = this.#now();
  }

  #begin(round: number): void {
    this.#round = round;
    this.#release = 'none';
    this.#failedStarts = 0;
    this.#silentSince = undefined;
    this.#leaselessSince = undefined;
    this.#hadLease = false;
  }
}

/** An ordinary lease comes within two of its periods. */
const START_MS = 1_000;
