/**
 * What the agent does next: a pure function of the orders and of what is there. One step at a time; when the step is done
 * the loop looks again, so it doesn't matter where the agent was interrupted. Nothing is remembered between two looks
 * but what `MemberView` holds.
 * Invariants: `initialise`, `start` as primary, `promote` and `open` follow only a confirmation of this very epoch (the start
 * gate); `open` on a primary only a lease that is held and its opening commit (the opening gate); the dead man's handle is let
 * go only when Postgres is down, and no primary runs on without it.
 */
import type { DataState } from '#agent/postgres/data-directory.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { AgentPhase } from '#core/protocol/status.ts';
import type { OpeningState } from './commits.ts';
import { nextAsFollower } from './plan-follower.ts';
import { nextAsPrimary } from './plan-primary.ts';
import type { RejoinView } from './rejoining.ts';

export type ServerView =
  | { readonly state: 'stopped' }
  | {
      readonly state: 'running';
      readonly as: 'primary' | 'standby';
      /** False while it recovers: it refuses connections. */
      readonly isReady: boolean;
      /** The access file that lets the network in is in force. */
      readonly isOpen: boolean;
      /** Digest of the configuration in force. */
      readonly configuration: string;
      readonly restartNonce: string;
      /** That a primary writes; 0 until it is known. */
      readonly timeline: number;
    };

export interface MemberView {
  /** Those in force. */
  readonly orders: Orders | undefined;
  /** Those taken last, where a promise has outdated them: the member is fenced. */
  readonly former: Orders | undefined;
  readonly data: DataState;
  /** Of data that is down and no standby's; 0 where it isn't known or doesn't matter. */
  readonly dataTimeline: number;
  /** This member's promise was made beside a data directory. */
  readonly hadData: boolean;
  readonly server: ServerView;
  /** What runs was opened, or may have been: the end of an attempt to do so didn't come. */
  readonly mayHaveClients: boolean;
  /** Digest of the configuration that the orders ask for. */
  readonly wantedConfiguration: string;
  /** Epoch for which the record (or, while it can't be read, k grants) named this member not too long ago; 0 for none. */
  readonly confirmedEpoch: number;
  /** The lease is held under the settings of the orders, or none is needed. */
  readonly isLeaseHeld: boolean;
  /** It was waited for, long enough: Postgres may run without it, behind its gate. */
  readonly mayStartWithoutLease: boolean;
  /** Process 1 holds the dead man's handle. */
  readonly isArmed: boolean;
  readonly opening: OpeningState;
  /** That its commits name; 0 for none. */
  readonly openingEpoch: number;
  /** Its primary's authority was given up: Postgres doesn't come to serve here. */
  readonly isReleased: boolean;
  /** A primary that was fenced for a handover is on its way down. */
  readonly isHandingOver: boolean;
  /** A way back of this data was begun and hasn't ended: it can't be started. */
  readonly isRejoinBegun: boolean;
  /** What this data needs before it can follow by these orders; undefined until that was looked at. */
  readonly rejoin: RejoinView | undefined;
  /** The primary has no longer what a follower's data needs: only another copy helps. */
  readonly isWalRemoved: boolean;
  /** A start or a copy failed a moment ago: not again before this much time has passed, ms. */
  readonly retryInMs: number;
}

/** fast: clients are turned out and the log is sent to its end. immediate: at once, as in a crash, so that nothing that waits is reported or shown as done. */
export type StopMode = 'fast' | 'immediate';

export type Step =
  /** Nothing to do in this phase; look again when something changes. */
  | { readonly kind: 'rest'; readonly phase: AgentPhase; readonly problem?: string; readonly retryInMs?: number }
  | { readonly kind: 'stop'; readonly phase: AgentPhase; readonly why: string; readonly mode: StopMode }
  /** Show that nothing of Postgres is left, and let the dead man's handle go. */
  | { readonly kind: 'disarm'; readonly phase: AgentPhase }
  | { readonly kind: 'confirm'; readonly phase: AgentPhase }
  | { readonly kind: 'initialise'; readonly phase: AgentPhase }
  /** Throw the data away, and with it this identity. */
  | { readonly kind: 'discard'; readonly phase: AgentPhase }
  /** The data has gone by itself: give up the identity that it was acknowledged under, and wait for orders. */
  | { readonly kind: 'startOver'; readonly phase: AgentPhase }
  | { readonly kind: 'clone'; readonly phase: AgentPhase }
  /** Find out whether this data is a part of its primary's history. */
  | { readonly kind: 'assess'; readonly phase: AgentPhase }
  | { readonly kind: 'rewind'; readonly phase: AgentPhase }
  | { readonly kind: 'makeStandby'; readonly phase: AgentPhase }
  | { readonly kind: 'start'; readonly phase: AgentPhase; readonly as: 'primary' | 'standby' }
  | { readonly kind: 'awaitReady'; readonly phase: AgentPhase }
  | { readonly kind: 'promote'; readonly phase: AgentPhase }
  /** Begin the commit that opens a primary; it goes on by itself. */
  | { readonly kind: 'beginOpening'; readonly phase: AgentPhase }
  | { readonly kind: 'reconfigure'; readonly phase: AgentPhase; readonly access: 'closed' | 'open' }
  /** All is as ordered: keep slots and lists in order. */
  | { readonly kind: 'maintain'; readonly phase: AgentPhase };

export function nextStep(view: MemberView): Step {
  const { orders, former, server } = view;
  if (server.state === 'running' && view.data === 'absent') {
    return { kind: 'stop', phase: 'Failed', why: 'its data directory is gone', mode: 'immediate' };
  }
  // Never by way of the steps here. Whatever led to it: nobody would end this one when its lease runs out.
  if (server.state === 'running' && server.as === 'primary' && !view.isArmed)
    return { kind: 'stop', phase: 'Stopping', why: "the dead man's handle is not armed", mode: 'immediate' };
  if (server.state === 'stopped' && view.isArmed)
    return { kind: 'disarm', phase: orders === undefined ? 'Stopping' : 'Starting' };
  if (view.data === 'absent' && view.hadData) return { kind: 'startOver', phase: 'Waiting' };
  if (orders === undefined && former !== undefined) return nextWhileFenced(view, former);
  if (orders === undefined) {
    return server.state === 'running'
      ? { kind: 'stop', phase: 'Waiting', why: 'there are no orders', mode: 'immediate' }
      : { kind: 'rest', phase: 'Waiting' };
  }
  switch (orders.role) {
    case 'Hold':
      return server.state === 'running'
        ? { kind: 'stop', phase: 'Holding', why: 'the orders say Hold', mode: 'fast' }
        : { kind: 'rest', phase: 'Holding' };
    case 'Initialise':
    case 'Primary':
      return nextAsPrimary(view, orders);
    case 'Follower':
      return nextAsFollower(view, orders);
  }
}

/**
 * It has promised an epoch whose primary it doesn't know yet. A standby goes on (or starts again) without a source, so that
 * it replays what it has, can be promoted at once, and can give others what they lack. What was a primary becomes one once
 * it is down: nothing but a promotion on another timeline makes it write again.
 */
function nextWhileFenced(view: MemberView, former: Orders): Step {
  const { server, data, retryInMs, isHandingOver } = view;
  if (server.state === 'running') {
    if (server.as === 'primary') {
      return isHandingOver
        ? { kind: 'rest', phase: 'Stopping' }
        : { kind: 'stop', phase: 'Stopping', why: 'a higher epoch is promised', mode: 'immediate' };
    }
    if (data !== 'standby') {
      return {
        kind: 'stop',
        phase: 'Stopping',
        why: 'it was promoted, and a higher epoch is promised',
        mode: 'immediate',
      };
    }
    return server.isReady ? { kind: 'rest', phase: 'Fenced' } : { kind: 'awaitReady', phase: 'Fenced' };
  }
  if (data === 'absent' || former.role === 'Hold' || view.isRejoinBegun) return { kind: 'rest', phase: 'Fenced' };
  if (data === 'primary') return { kind: 'makeStandby', phase: 'Fenced' };
  return delayed(retryInMs, 'Fenced') ?? { kind: 'start', phase: 'Fenced', as: 'standby' };
}

export const failed = (problem: string): Step => ({ kind: 'rest', phase: 'Failed', problem });

export function delayed(retryInMs: number, phase: AgentPhase): Step | undefined {
  return retryInMs > 0 ? { kind: 'rest', phase, retryInMs } : undefined;
}
