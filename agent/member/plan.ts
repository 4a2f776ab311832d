/**
 * What the agent does next: a pure function of the orders and of what is there. One step at a time; when the step is done
 * the loop looks again, so it doesn't matter where the agent was interrupted. Nothing is remembered between two looks
 * but what `MemberView` holds.
 * Invariant: `open` on a primary, and `initialise`, follow only a confirmation of this very epoch (the start gate).
 */

import type { DataState } from '#agent/postgres/data-directory.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { AgentPhase } from '#core/protocol/status.ts';

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
    };

export interface MemberView {
  readonly orders: Orders | undefined;
  readonly data: DataState;
  /** This member's promise was made beside a data directory. */
  readonly hadData: boolean;
  readonly server: ServerView;
  /** Digest of the configuration that the orders ask for. */
  readonly wantedConfiguration: string;
  /** Epoch for which the record named this member, when it was last read and not too long ago; 0 for none. */
  readonly confirmedEpoch: number;
  /** The primary has no longer what a follower's data needs: only another copy helps. */
  readonly isWalRemoved: boolean;
  /** A start or a copy failed a moment ago: not again before this much time has passed, ms. */
  readonly retryInMs: number;
}

export type Step =
  /** Nothing to do in this phase; look again when something changes. */
  | { readonly kind: 'rest'; readonly phase: AgentPhase; readonly problem?: string; readonly retryInMs?: number }
  | { readonly kind: 'stop'; readonly phase: AgentPhase; readonly why: string }
  | { readonly kind: 'confirm'; readonly phase: AgentPhase }
  | { readonly kind: 'initialise'; readonly phase: AgentPhase }
  /** Throw the data away, and with it this identity. */
  | { readonly kind: 'discard'; readonly phase: AgentPhase }
  /** The data has gone by itself: give up the identity that it was acknowledged under, and wait for orders. */
  | { readonly kind: 'startOver'; readonly phase: AgentPhase }
  | { readonly kind: 'clone'; readonly phase: AgentPhase }
  | { readonly kind: 'makeStandby'; readonly phase: AgentPhase }
  | { readonly kind: 'start'; readonly phase: AgentPhase; readonly as: 'primary' | 'standby' }
  | { readonly kind: 'awaitReady'; readonly phase: AgentPhase }
  | { readonly kind: 'reconfigure'; readonly phase: AgentPhase; readonly access: 'closed' | 'open' }
  /** All is as ordered: keep slots and lists in order. */
  | { readonly kind: 'maintain'; readonly phase: AgentPhase };

export function nextStep(view: MemberView): Step {
  const { orders, server } = view;
  if (server.state === 'running' && view.data === 'absent') {
    return { kind: 'stop', phase: 'Failed', why: 'its data directory is gone' };
  }
  if (view.data === 'absent' && view.hadData) return { kind: 'startOver', phase: 'Waiting' };
  if (orders === undefined) {
    return server.state === 'running'
      ? { kind: 'stop', phase: 'Waiting', why: 'there are no orders' }
      : { kind: 'rest', phase: 'Waiting' };
  }
  switch (orders.role) {
    case 'Hold':
      return server.state === 'running'
        ? { kind: 'stop', phase: 'Holding', why: 'the orders say Hold' }
        : { kind: 'rest', phase: 'Holding' };
    case 'Initialise':
    case 'Primary':
      return nextAsPrimary(view, orders);
    case 'Follower':
      return nextAsFollower(view, orders);
  }
}

function nextAsPrimary(view: MemberView, orders: Orders): Step {
  const { data, server } = view;
  const isConfirmed = view.confirmedEpoch === orders.epoch;
  if (data === 'absent') {
    if (orders.role === 'Primary') return failed('ordered to be primary, and there is no data here');
    if (!isConfirmed) return { kind: 'confirm', phase: 'Confirming' };
    return delayed(view, 'Initialising') ?? { kind: 'initialise', phase: 'Initialising' };
  }
  if (data === 'standby')
    return failed("ordered to be primary, and the data is a standby's: promotion is another order");
  if (server.state === 'stopped') {
    // Recovery writes WAL of its own: a member that may have lost its authority must not even start.
    if (!isConfirmed) return { kind: 'confirm', phase: 'Confirming' };
    return delayed(view, 'Starting') ?? { kind: 'start', phase: 'Starting', as: 'primary' };
  }
  if (server.as !== 'primary') return { kind: 'stop', phase: 'Starting', why: 'it runs as a standby' };
  if (server.restartNonce !== orders.restartNonce) {
    return { kind: 'stop', phase: 'Starting', why: 'the orders ask for a restart' };
  }
  if (!server.isReady) return { kind: 'awaitReady', phase: 'Starting' };
  if (!server.isOpen) {
    if (!isConfirmed) return { kind: 'confirm', phase: 'Confirming' };
    return { kind: 'reconfigure', phase: 'Starting', access: 'open' };
  }
  // Open at an earlier epoch: it goes on, and serves the new one when the record says so (docs/design-traps.md, A12).
  if (!isConfirmed) return { kind: 'confirm', phase: 'Primary' };
  if (server.configuration !== view.wantedConfiguration) {
    return { kind: 'reconfigure', phase: 'Primary', access: 'open' };
  }
  return { kind: 'maintain', phase: 'Primary' };
}

function nextAsFollower(view: MemberView, orders: Orders): Step {
  const { data, server } = view;
  // The signal file goes when somebody promotes it by hand.
  if (server.state === 'running' && (server.as !== 'standby' || data !== 'standby')) {
    return { kind: 'stop', phase: 'Starting', why: 'it runs as a primary' };
  }
  if (data === 'absent') return delayed(view, 'Cloning') ?? { kind: 'clone', phase: 'Cloning' };
  if (data === 'primary') return { kind: 'makeStandby', phase: 'Starting' };
  if (server.state === 'stopped')
    return delayed(view, 'Starting') ?? { kind: 'start', phase: 'Starting', as: 'standby' };
  if (server.restartNonce !== orders.restartNonce) {
    return { kind: 'stop', phase: 'Starting', why: 'the orders ask for a restart' };
  }
  if (!server.isReady) return { kind: 'awaitReady', phase: 'Starting' };
  if (!server.isOpen || server.configuration !== view.wantedConfiguration) {
    return { kind: 'reconfigure', phase: 'Following', access: 'open' };
  }
  // One that is counted stays what it is until the membership goes on without it (docs/design-traps.md, A2).
  if (view.isWalRemoved && !isCounted(orders)) return { kind: 'discard', phase: 'Following' };
  return { kind: 'maintain', phase: 'Following' };
}

function isCounted({ member, synchronous }: Orders): boolean {
  return synchronous.members.some(
    ({ name, incarnation }) => name === member.name && incarnation === member.incarnation,
  );
}

const failed = (problem: string): Step => ({ kind: 'rest', phase: 'Failed', problem });

function delayed(view: MemberView, phase: AgentPhase): Step | undefined {
  return view.retryInMs > 0 ? { kind: 'rest', phase, retryInMs: view.retryInMs } : undefined;
}
