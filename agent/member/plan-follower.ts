/**
 * The next step of a member that is ordered to follow: it copies where it has nothing, goes back where its data has left its
 * primary's history, and follows. Pure; a part of `plan.ts`, whose invariants hold here.
 */
import type { Orders } from '#core/protocol/orders.ts';
import { delayed, type MemberView, type Step } from './plan.ts';

const UNKNOWN_AGAIN_MS = 250;

export function nextAsFollower(view: MemberView, orders: Orders): Step {
  const { data, server } = view;
  if (server.state === 'running') {
    // The signal file goes when somebody promotes it by hand.
    if (server.as !== 'standby' || data !== 'standby') {
      return { kind: 'stop', phase: 'Stopping', why: 'it runs as a primary', mode: 'immediate' };
    }
    // It was about to be promoted: only a stop shows that it wasn't.
    if (view.isArmed) return { kind: 'stop', phase: 'Starting', why: 'it was to be promoted', mode: 'immediate' };
  }
  if (data === 'absent') return delayed(view.retryInMs, 'Cloning') ?? { kind: 'clone', phase: 'Cloning' };
  return (
    nextOnTheWayBack(view, orders) ??
    (server.state === 'running' ? nextWhileUp(view, orders, server) : nextWhileDown(view))
  );
}

/** Before anything is streamed: whether what is here is a part of the history that it is to follow (A24). */
function nextOnTheWayBack(view: MemberView, orders: Orders): Step | undefined {
  const { server, rejoin } = view;
  const isUp = server.state === 'running';
  if (isUp && !server.isReady) {
    if (rejoin === undefined) return { kind: 'assess', phase: 'Starting' };
    if (rejoin.kind !== 'NeverWhole') return undefined;
    return {
      kind: 'stop',
      phase: 'Rewinding',
      why: "what it needs to be whole isn't its primary's",
      mode: 'immediate',
    };
  }
  switch (rejoin?.kind) {
    case undefined:
    case 'Recovering':
    case 'NeverWhole':
      return { kind: 'assess', phase: isUp ? 'Following' : 'Starting' };
    case 'Follow':
      return undefined;
    case 'Misled':
      return isUp
        ? { kind: 'stop', phase: 'Starting', why: 'it waits for a timeline that is nobody’s', mode: 'fast' }
        : undefined;
    case 'Unknown':
      // A copy that was never started says nothing yet: it is asked again when it runs.
      return isUp
        ? { kind: 'rest', phase: 'Following', problem: rejoin.reason, retryInMs: UNKNOWN_AGAIN_MS }
        : undefined;
    case 'NeedsCopy':
      if (isCounted(orders))
        return { kind: 'rest', phase: 'Failed', problem: `${rejoin.reason}; it is kept while it counts` };
      return { kind: 'discard', phase: 'Rewinding' };
    case 'Diverged':
    case 'Interrupted':
      if (isUp)
        return { kind: 'stop', phase: 'Rewinding', why: "its data has left its primary's history", mode: 'immediate' };
      if (rejoin.kind === 'Diverged' && !orders.mayRewind) {
        return {
          kind: 'rest',
          phase: 'Rewinding',
          problem: 'its data has left the history of its primary; it may not be rewound yet',
        };
      }
      return delayed(view.retryInMs, 'Rewinding') ?? { kind: 'rewind', phase: 'Rewinding' };
  }
}

function nextWhileDown({ data, retryInMs }: MemberView): Step {
  if (data === 'primary') return { kind: 'makeStandby', phase: 'Starting' };
  return delayed(retryInMs, 'Starting') ?? { kind: 'start', phase: 'Starting', as: 'standby' };
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
