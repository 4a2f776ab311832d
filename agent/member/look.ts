/** One look at everything that the next step depends on. It decides nothing (`plan.ts`). */
import type { Orders } from '#core/protocol/orders.ts';
import type { MemberParts } from './parts.ts';
import type { MemberView } from './plan.ts';

export async function lookAt(parts: MemberParts): Promise<MemberView> {
  const { standing, postgres, lease, commits, handOver, patience, rejoining, gate, retry, options } = parts;
  const { inForce: orders, former } = standing;
  const data = await postgres.data.state();
  const { view: server } = postgres;
  const configuredBy = orders ?? former;
  const wantedConfiguration =
    configuredBy === undefined || data === 'absent' ? '' : await postgres.wantedConfiguration(configuredBy);
  const isDownAsPrimary = orders?.role === 'Primary' && server.state === 'stopped' && data === 'primary';
  const confirmedEpoch = gate.confirmedEpoch(server.state === 'running' && server.as === 'primary' && server.isOpen);
  const couldServe =
    isPrimaryOf(orders) && data !== 'absent' && confirmedEpoch === orders?.epoch && lease.isHeld && hasRivals(orders);
  patience.look({ couldServe, isServing: commits.isServing || !hasRivals(orders) });
  return {
    orders,
    former,
    data,
    dataTimeline: isDownAsPrimary ? await postgres.data.timeline() : 0,
    hadData: options.promise.current.systemIdentifier !== '',
    server,
    wantedConfiguration,
    confirmedEpoch,
    isLeaseHeld: lease.isHeld,
    isArmed: lease.isArmed,
    opening: commits.opening,
    openingEpoch: commits.epoch,
    isReleased: isPrimaryOf(orders) && patience.isReleased,
    isHandingOver: handOver.isRunning,
    isRejoinBegun: await rejoining.isBegun(),
    rejoin: orders === undefined ? undefined : rejoining.view(orders),
    isWalRemoved: options.upstream.isWalRemoved,
    retryInMs: retry.remainingMs,
  };
}

/** Somebody else could take over: only then does giving up help anybody. */
const hasRivals = (orders: Orders | undefined): boolean =>
  orders !== undefined && (orders.lease.required > 0 || orders.lease.kubernetes);

const isPrimaryOf = (orders: Orders | undefined): boolean =>
  orders?.role === 'Primary' || orders?.role === 'Initialise';
