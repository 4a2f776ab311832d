/** One look at everything that the next step depends on. It decides nothing (`plan.ts`). */
import type { Orders } from '#core/protocol/orders.ts';
import type { MemberParts } from './parts.ts';
import type { PatienceView } from './patience.ts';
import type { MemberView } from './plan.ts';

export async function lookAt(parts: MemberParts): Promise<MemberView> {
  const { standing, postgres, lease, commits, handOver, patience, rejoining, gate, retry, options } = parts;
  const { inForce: orders, former } = standing;
  const data = await postgres.data.state();
  const { view: server, mayHaveClients } = postgres;
  const configuredBy = orders ?? former;
  const wantedConfiguration =
    configuredBy === undefined || data === 'absent' ? '' : await postgres.wantedConfiguration(configuredBy);
  const isDownAsPrimary = orders?.role === 'Primary' && server.state === 'stopped' && data === 'primary';
  const confirmedEpoch = gate.confirmedEpoch(server.state === 'running' && server.as === 'primary' && mayHaveClients);
  return {
    orders,
    former,
    data,
    dataTimeline: isDownAsPrimary ? await postgres.data.timeline() : 0,
    hadData: options.promise.current.systemIdentifier !== '',
    server,
    mayHaveClients,
    wantedConfiguration,
    confirmedEpoch,
    isLeaseHeld: lease.isHeld,
    mayStartWithoutLease: patience.isTiredOfWaiting,
    isArmed: lease.isArmed,
    opening: commits.opening,
    openingEpoch: commits.epoch,
    isReleased: isPrimaryOf(orders) && patience.release !== 'none',
    isHandingOver: handOver.isRunning,
    isRejoinBegun: await rejoining.isBegun(),
    rejoin: orders === undefined ? undefined : rejoining.view(orders),
    isWalRemoved: options.upstream.isWalRemoved,
    retryInMs: retry.remainingMs,
  };
}

/** What its own patience goes by, at any moment: from memory alone. */
export function patienceViewOf({ standing, gate, lease, commits, postgres }: MemberParts): PatienceView {
  const { inForce: orders } = standing;
  const { view } = postgres;
  return {
    isAsked: isPrimaryOf(orders) && hasRivals(orders),
    isServing: commits.isServing && view.state === 'running' && view.isOpen,
    isConfirmed: orders !== undefined && gate.confirmedEpoch(view.state === 'running') === orders.epoch,
    isLeaseHeld: lease.isHeld,
  };
}

/** Somebody else could take over: only then does giving up help anybody. */
const hasRivals = (orders: Orders | undefined): boolean =>
  orders !== undefined && (orders.lease.required > 0 || orders.lease.kubernetes);

const isPrimaryOf = (orders: Orders | undefined): boolean =>
  orders?.role === 'Primary' || orders?.role === 'Initialise';
