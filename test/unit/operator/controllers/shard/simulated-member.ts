/** One member of the small world: what it is, and what its agent says of it. A model: nothing here decides. */
import { firstPromise, type PromiseRecord } from '#agent/promise/record.ts';
import type { AuthorityRecord } from '#core/authority/record.ts';
import { type Rejoin, rejoinOf } from '#core/authority/rejoin.ts';
import { type MemberIdentity, nobody } from '#core/identity.ts';
import { formatLsn, type Lsn } from '#core/lsn.ts';
import { digestOfOrders } from '#core/protocol/digest.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { AgentStatus } from '#core/protocol/status.ts';

export interface SimulatedMember {
  readonly name: string;
  readonly region: string;
  declared: boolean;
  promotable: boolean;
  incarnation: string;
  /** Its incarnation as its RegionalReplica says it, which is some time after it was made. */
  published: string | undefined;
  podUid: string;
  outdated: boolean;
  /** Its volume is marked for deletion, and goes with its pod. */
  volumeGoing: boolean;
  /** By operators. */
  reachable: boolean;
  /** Nothing of it runs. */
  down: boolean;
  promise: PromiseRecord;
  orders: Orders | undefined;
  applied: boolean;
  data: 'absent' | 'primary' | 'standby';
  /** The timeline of what it has. */
  timeline: number;
  /** Its Postgres runs as primary; `open` once its gate is. */
  running: boolean;
  open: boolean;
  /** Where the row of this opening lies. */
  openedAt: bigint;
  /** The list that the running Postgres works by, which is that of former orders until the present ones are applied. */
  inForce: Orders['synchronous'];
  /** It streams, and flushes nothing for now. */
  stalled: boolean;
  /** The primary no longer has the log that it needs. */
  lacksLog: boolean;
  /** Its data is neither what it was nor what it is to be. */
  rewinding: boolean;
  rejoined: AgentStatus['rejoined'];
  restartNonce: string;
  pendingRestart: boolean;
  flushed: bigint;
}

export function newMember(name: string, incarnation: string): SimulatedMember {
  return {
    name,
    region: name.slice(2, 4),
    declared: true,
    promotable: true,
    incarnation,
    published: undefined,
    podUid: `pod-${incarnation}`,
    outdated: false,
    volumeGoing: false,
    reachable: true,
    down: false,
    promise: firstPromise(incarnation),
    orders: undefined,
    applied: false,
    data: 'absent',
    timeline: 1,
    running: false,
    open: false,
    openedAt: 0n,
    inForce: { acknowledgements: 1, members: [nobody] },
    stalled: false,
    lacksLog: false,
    rewinding: false,
    rejoined: undefined,
    restartNonce: '',
    pendingRestart: false,
    flushed: 0n,
  };
}

/** It has promised a later epoch than that of its orders: it works by none until it gets others. */
export const isFenced = ({ promise, orders }: SimulatedMember): boolean => promise.epoch > (orders?.epoch ?? 0);

/** By the history in its own orders, as the agent does. */
export function rejoin(member: SimulatedMember): Rejoin {
  const { orders, timeline, flushed } = member;
  const record: AuthorityRecord = {
    authority: {
      epoch: orders?.epoch ?? 0,
      timeline: orders?.timeline ?? 0,
      member: orders?.source?.name ?? '',
      incarnation: '',
      region: '',
      since: '',
      state: 'Active',
    },
    membership: { generation: 1, members: [], acknowledgements: 0 },
    history: orders?.history ?? [],
  };
  return rejoinOf(record, { timeline, lsn: textOf(flushed) });
}

export const textOf = (lsn: bigint): string => formatLsn(lsn as Lsn);

export const same = (a: MemberIdentity, b: { readonly name: string; readonly incarnation: string }): boolean =>
  a.name === b.name && a.incarnation === b.incarnation;

function phaseOf(member: SimulatedMember): AgentStatus['phase'] {
  const { orders, running, open, data, rewinding } = member;
  if (orders === undefined) return 'Waiting';
  if (open) return 'Primary';
  if (running) return 'Opening';
  if (isFenced(member)) return 'Fenced';
  if (orders.role === 'Hold') return 'Holding';
  if (rewinding) return 'Rewinding';
  if (orders.role === 'Primary') return 'Confirming';
  if (data === 'standby') return 'Following';
  return orders.role === 'Follower' ? 'Cloning' : 'Initialising';
}

/** By far the most costly part of a status, which is asked for many times between two orders. */
const digests = new WeakMap<Orders, string>();

function digestOf(orders: Orders): string {
  const known = digests.get(orders) ?? digestOfOrders(orders);
  digests.set(orders, known);
  return known;
}

export interface Streaming {
  readonly isStreaming: boolean;
  readonly standbys: AgentStatus['standbys'];
}

export function statusOf(member: SimulatedMember, { isStreaming, standbys }: Streaming): AgentStatus {
  const { orders, promise } = member;
  const isUp = member.running || (member.data === 'standby' && !member.rewinding && orders?.role !== 'Hold');
  return {
    member: { name: member.name, incarnation: member.incarnation },
    region: member.region,
    phase: phaseOf(member),
    problem: '',
    hasData: member.data !== 'absent',
    ...(promise.epoch === 0
      ? {}
      : {
          promise: {
            shardUid: promise.shardUid,
            epoch: promise.epoch,
            grantee: promise.grantee,
            generation: promise.generation,
          },
        }),
    systemIdentifier: '7',
    ...(orders === undefined
      ? {}
      : {
          orders: {
            role: orders.role,
            epoch: orders.epoch,
            leaderTerm: orders.leaderTerm,
            sequence: orders.sequence,
            generation: orders.generation,
            digest: digestOf(orders),
            applied: member.applied,
            restartNonce: orders.restartNonce,
          },
        }),
    ...(isUp
      ? {
          postgres: {
            running: true,
            open: member.running ? member.open : true,
            inRecovery: !member.running,
            version: '17',
            timeline: member.timeline,
            lsn: { written: textOf(member.flushed), flushed: textOf(member.flushed), replayed: textOf(member.flushed) },
            epoch: 1,
            pendingRestart: member.pendingRestart,
            restartNonce: member.restartNonce,
          },
        }
      : {}),
    ...(orders?.role === 'Follower' && orders.source !== undefined
      ? {
          upstream: {
            member: orders.source.name,
            streaming: isStreaming,
            lagBytes: 0,
            caughtUp: isStreaming && !member.stalled,
            needsCopy: member.lacksLog,
          },
        }
      : {}),
    ...divergedOf(member),
    ...(member.rejoined === undefined ? {} : { rejoined: member.rejoined }),
    standbys,
    slots: [],
  };
}

function divergedOf(member: SimulatedMember): Pick<AgentStatus, 'diverged'> {
  if (member.orders?.role !== 'Follower' || member.data !== 'standby' || isFenced(member)) return {};
  const need = rejoin(member);
  if (need.kind !== 'Diverged') return {};
  return {
    diverged: {
      timeline: member.timeline,
      forkLsn: textOf(need.forkLsn),
      lsn: textOf(member.flushed),
      transactions: Number(member.flushed - need.forkLsn),
      keptIn: 'kept/1',
      waiting: !member.orders.mayRewind,
    },
  };
}
