/**
 * The next step of a member that is ordered to be primary: on its own data, or by promotion of a standby. Pure; a part of
 * `plan.ts`, whose invariants hold here.
 * Every way to be open leads through the start gate, the lease and the opening gate (docs/design.md, section 4): a first
 * start, a restart after a clean stop or a crash, a promotion.
 */
import type { Orders } from '#core/protocol/orders.ts';
import { delayed, failed, type MemberView, type Step } from './plan.ts';

/** How soon a lease that isn't held is looked at again; the thread that keeps it says nothing of its own accord. */
const LEASE_POLL_MS = 50;

export function nextAsPrimary(view: MemberView, orders: Orders): Step {
  const { data, server } = view;
  if (view.isReleased) {
    return server.state === 'running'
      ? { kind: 'stop', phase: 'Released', why: 'it does not come to serve', mode: 'immediate' }
      : { kind: 'rest', phase: 'Released', problem: 'Postgres does not come to serve here: this epoch is given up' };
  }
  if (data === 'absent') {
    if (orders.role === 'Primary') return failed('ordered to be primary, and there is no data here');
    if (!isConfirmed(view, orders)) return { kind: 'confirm', phase: 'Confirming' };
    return delayed(view.retryInMs, 'Initialising') ?? { kind: 'initialise', phase: 'Initialising' };
  }
  if (view.isRejoinBegun) return failed('ordered to be primary, and the data is half rewound');
  if (server.state === 'stopped') return nextWhileDown(view, orders);
  return server.as === 'standby' ? nextToPromote(view, orders, server.isReady) : nextWhileUp(view, orders, server);
}

function nextWhileDown(view: MemberView, orders: Orders): Step {
  if (view.data === 'standby') {
    // Replaying what it has harms nobody; who may be primary is asked before the promotion.
    return delayed(view.retryInMs, 'Promoting') ?? { kind: 'start', phase: 'Promoting', as: 'standby' };
  }
  // Recovery writes WAL of its own: a member that may have lost its authority must not even start.
  const gate = notYetBehindGate(view, orders, 'Confirming');
  if (gate !== undefined) return gate;
  const pause = delayed(view.retryInMs, 'Starting');
  if (pause !== undefined) return pause;
  if (orders.timeline > 0 && view.dataTimeline > orders.timeline) {
    return failed(`the data is of timeline ${view.dataTimeline}, and the authority of timeline ${orders.timeline}`);
  }
  // The authority was decided anew after a stop, for the same member: on a timeline of its own, like any other.
  if (orders.timeline > 0 && view.dataTimeline > 0 && view.dataTimeline < orders.timeline) {
    return { kind: 'makeStandby', phase: 'Promoting' };
  }
  return { kind: 'start', phase: 'Starting', as: 'primary' };
}

function nextToPromote(view: MemberView, orders: Orders, isReady: boolean): Step {
  if (orders.role === 'Initialise') return failed("ordered to initialise, and the data is a standby's");
  if (view.data !== 'standby') {
    return { kind: 'stop', phase: 'Promoting', why: 'it was promoted by somebody else', mode: 'immediate' };
  }
  if (!isReady) return { kind: 'awaitReady', phase: 'Promoting' };
  return (
    notYetBehindGate(view, orders, 'Promoting') ??
    delayed(view.retryInMs, 'Promoting') ?? { kind: 'promote', phase: 'Promoting' }
  );
}

function nextWhileUp(
  view: MemberView,
  orders: Orders,
  server: Extract<MemberView['server'], { state: 'running' }>,
): Step {
  if (server.restartNonce !== orders.restartNonce) {
    return { kind: 'stop', phase: 'Starting', why: 'the orders ask for a restart', mode: 'fast' };
  }
  if (!server.isReady) return { kind: 'awaitReady', phase: 'Starting' };
  if (orders.timeline > 0 && server.timeline > 0 && server.timeline !== orders.timeline) {
    const why = `it writes timeline ${server.timeline}, and the authority is of timeline ${orders.timeline}`;
    return { kind: 'stop', phase: 'Stopping', why, mode: 'immediate' };
  }
  const { isOpen } = server;
  const phase = isOpen ? 'Primary' : 'Opening';
  // Open at an earlier epoch: it goes on, and serves the new one when the record says so (docs/design-traps.md, A12).
  if (!isConfirmed(view, orders)) return { kind: 'confirm', phase };
  if (server.configuration !== view.wantedConfiguration) {
    // Once it was let open it stays so: those inside may wait for followers, and can't be turned out one by one.
    return { kind: 'reconfigure', phase, access: view.mayHaveClients ? 'open' : 'closed' };
  }
  // A primary that goes on at another epoch says so to its followers, and stays open.
  if (view.opening === 'none' || view.openingEpoch !== orders.epoch) return { kind: 'beginOpening', phase };
  if (isOpen) return { kind: 'maintain', phase };
  // Followers may stream and copy meanwhile: their slots are kept, and their tunnels.
  if (view.opening === 'waiting') return { kind: 'maintain', phase };
  return notYet(view, orders, phase) ?? { kind: 'reconfigure', phase, access: 'open' };
}

function isConfirmed(view: MemberView, orders: Orders): boolean {
  return view.confirmedEpoch === orders.epoch;
}

/**
 * Ordinarily a lease is there before Postgres runs. Where none comes it is only kept shut without: those who are to grant may
 * have to be copied from it first, and behind its gate it acknowledges nothing that nobody has.
 */
function notYetBehindGate(view: MemberView, orders: Orders, phase: Step['phase']): Step | undefined {
  return notYet({ ...view, isLeaseHeld: view.isLeaseHeld || view.mayStartWithoutLease }, orders, phase);
}

/** What is still missing of the authority: its confirmation, or the lease. */
function notYet(view: MemberView, orders: Orders, phase: Step['phase']): Step | undefined {
  if (!isConfirmed(view, orders)) return { kind: 'confirm', phase };
  if (view.isLeaseHeld) return undefined;
  return { kind: 'rest', phase, problem: 'waiting for the grants of followers', retryInMs: LEASE_POLL_MS };
}
