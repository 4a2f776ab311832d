/**
 * The status that the operator reads, put together from what the agent knows and what Postgres showed last. Pure: facts
 * in, facts out, nothing decided.
 */

import type { CloneProgress } from '#agent/postgres/clone.ts';
import type { Observation } from '#agent/postgres/observations.ts';
import type { PromiseRecord } from '#agent/promise/record.ts';
import { type MemberIdentity, replicationName } from '#core/identity.ts';
import { digestOfOrders } from '#core/protocol/digest.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { AgentPhase, AgentStatus } from '#core/protocol/status.ts';
import type { ServerView } from './plan.ts';

export interface StatusFacts {
  readonly member: MemberIdentity;
  readonly region: string;
  readonly phase: AgentPhase;
  readonly problem: string;
  readonly hasData: boolean;
  readonly promise: PromiseRecord;
  readonly orders: Orders | undefined;
  /** Since when the orders are in effect (monotonic, ms): undefined while they aren't. */
  readonly appliedAt: number | undefined;
  readonly server: ServerView;
  readonly observation: Observation;
  readonly isWalRemoved: boolean;
  readonly clone: CloneProgress | undefined;
  readonly diverged: AgentStatus['diverged'];
  readonly rejoined: AgentStatus['rejoined'];
  readonly certificateNotAfter: Date;
}

/** A follower that lags by no more than one WAL segment has caught up: a busy primary is always a little ahead. */
export const caughtUpBytes = 16 * 1024 * 1024;

export function statusOf(facts: StatusFacts): AgentStatus {
  const { member, region, phase, problem, hasData, promise, orders, clone } = facts;
  const { seen } = facts.observation;
  return {
    member,
    region,
    phase,
    problem,
    hasData,
    ...(promise.epoch > 0
      ? {
          promise: {
            shardUid: promise.shardUid,
            epoch: promise.epoch,
            grantee: promise.grantee,
            generation: promise.generation,
          },
        }
      : {}),
    ...(promise.systemIdentifier === '' ? {} : { systemIdentifier: promise.systemIdentifier }),
    ...(orders === undefined ? {} : { orders: summaryOf(orders, isShownApplied(facts)) }),
    ...postgresOf(facts),
    ...upstreamOf(facts),
    standbys: (seen?.standbys ?? []).flatMap((standby) => {
      const [name = '', incarnation] = standby.applicationName.split('/');
      // Base copies and other purposes have names of another form.
      if (incarnation === undefined || replicationName({ name, incarnation }) !== standby.applicationName) return [];
      if (!/^[0-9a-f]{16}$/.test(incarnation) || name.includes(' ')) return [];
      const { state, flushed, replayed, lagBytes, sync } = standby;
      return [{ name, incarnation, state, flushed, replayed, lagBytes, sync }];
    }),
    slots: [...(seen?.slots ?? [])],
    ...(clone === undefined ? {} : { clone }),
    ...(facts.diverged === undefined ? {} : { diverged: facts.diverged }),
    ...(facts.rejoined === undefined ? {} : { rejoined: facts.rejoined }),
    certificateNotAfter: facts.certificateNotAfter.toISOString(),
  };
}

/**
 * Whoever reads "applied" takes the positions beside it for positions past the barrier, so these must have been looked up
 * after it (docs/design-traps.md, A9). A stopped Postgres has none.
 */
function isShownApplied({ appliedAt, server, observation }: StatusFacts): boolean {
  if (appliedAt === undefined) return false;
  return server.state === 'stopped' || observation.begunAt >= appliedAt;
}

function summaryOf(orders: Orders, applied: boolean): NonNullable<AgentStatus['orders']> {
  const { role, epoch, leaderTerm, sequence, generation, restartNonce } = orders;
  return { role, epoch, leaderTerm, sequence, generation, digest: digestOfOrders(orders), applied, restartNonce };
}

function postgresOf({ server, observation: { seen }, promise }: StatusFacts): Pick<AgentStatus, 'postgres'> {
  if (server.state === 'stopped' || seen === undefined) return {};
  const { inRecovery, version, timeline, written, flushed, replayed, replayAgeMs, pendingRestart } = seen;
  return {
    postgres: {
      running: true,
      open: server.isOpen,
      inRecovery,
      version,
      timeline,
      lsn: { written, flushed, replayed },
      ...(inRecovery && replayAgeMs !== undefined ? { replayAgeMs } : {}),
      epoch: promise.epoch,
      pendingRestart,
      restartNonce: server.restartNonce,
    },
  };
}

function upstreamOf({ orders, observation: { seen }, isWalRemoved }: StatusFacts): Pick<AgentStatus, 'upstream'> {
  if (orders?.role !== 'Follower' || orders.source === undefined) return {};
  const streaming = seen?.receiver?.isStreaming ?? false;
  const lagBytes = seen?.receiver?.lagBytes ?? 0;
  return {
    upstream: {
      member: orders.source.name,
      streaming,
      lagBytes,
      caughtUp: streaming && lagBytes <= caughtUpBytes,
      ...(isWalRemoved ? { needsCopy: true } : {}),
    },
  };
}
