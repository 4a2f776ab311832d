/**
 * The state of a simulated shard: members with their disks and processes, operators, the API server, the network, and what has
 * been acknowledged or seen. Plain data, so that it can be copied, compared and replayed; who changes it how is in
 * `agent.ts`, `operator.ts` and `network.ts`.
 */
import type { PromiseRecord } from '#agent/promise/record.ts';
import type { AuthorityRecord } from '#core/authority/record.ts';
import type { Ping } from '#core/authority/suspicion.ts';
import type { FenceOutcome, TakeoverIntent } from '#core/authority/takeover.ts';
import type { MemberIdentity } from '#core/identity.ts';
import type { AuthorityAnswer, FenceQuestion } from '#core/protocol/authority.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { LogEntry } from './log.ts';

/** local = rate * now + offset. */
export interface Clock {
  readonly offsetMs: number;
  readonly rate: number;
}

/** down, a running standby, a primary behind its gate, an open primary, one that ends its last session for a handover. */
export type PostgresState = 'down' | 'standby' | 'shut' | 'open' | 'stopping';

export interface SimMember {
  readonly name: string;
  readonly region: string;
  readonly promotable: boolean;
  readonly clock: Clock;
  /** A RegionalReplica asks for it. */
  declared: boolean;

  // The volume.
  /** How many it has had. */
  volume: number;
  incarnation: string;
  promise: PromiseRecord;
  orders: Orders | undefined;
  log: LogEntry | undefined;
  /** A rewind was begun and hasn't ended: there is no position. */
  rewinding: boolean;

  // The machine and the process. Times are on its own clock.
  up: boolean;
  paused: boolean;
  startedAtMs: number;
  /** How often Postgres was started: the sessions of one start don't outlive it. */
  starts: number;
  postgres: PostgresState;
  released: boolean;
  confirmed: { readonly epoch: number; readonly atMs: number } | undefined;
  /** The row of this opening. */
  row: LogEntry | undefined;
  promisedAtMs: number;

  // As a grantor.
  grantedUntilMs: number;
  servingHeardAtMs: number | undefined;
  walHeardAtMs: number | undefined;

  // As a holder.
  held: Record<string, number>;
  kubernetesUntilMs: number;
  leaseSeen: { readonly version: number; readonly sinceMs: number } | undefined;
  /** By which it stood before the present settings, until those are first fulfilled. */
  former: { readonly lease: Orders['lease']; readonly held: Record<string, number> } | undefined;
  /** Until when a router that asked may deliver. */
  horizonMs: number;
  /** What followers of this session have reported flushed. */
  reported: Record<string, LogEntry>;
}

export interface Snapshot {
  readonly record: AuthorityRecord;
  readonly version: number;
}

export interface Attempt {
  readonly id: number;
  readonly intent: TakeoverIntent;
  readonly startedAtMs: number;
  record: AuthorityRecord;
  version: number;
  readAtMs: number;
  pings: Record<string, Ping & { readonly position?: { timeline: number; lsn: string } | null }>;
  fences: Record<string, FenceOutcome>;
  /** Whatever it asks, the primary seems gone to it: safety never rests on a suspicion being right. */
  readonly isFalseAlarm: boolean;
  /** A PUT whose outcome isn't known yet. */
  waitsForPut: boolean;
}

export interface SimOperator {
  readonly name: string;
  readonly clock: Clock;
  up: boolean;
  /** 0: not the leader, as far as it knows. */
  term: number;
  sequence: number;
  /** What its informer has; may be behind. */
  cache: Snapshot;
  watch: Record<string, Ping>;
  lease: { readonly version: number; readonly holder: string; readonly sinceMs: number } | undefined;
  wish: MemberIdentity | undefined;
  attempt: Attempt | undefined;
  /** The position of a membership change that Postgres makes first, with the orders that it belongs to. */
  noted: { readonly digest: string; readonly term: number; readonly lsn: number } | undefined;
}

export type Message = { readonly from: string; readonly to: string } & (
  | {
      readonly type: 'request';
      readonly epoch: number;
      readonly generation: number;
      readonly sentAtMs: number;
      readonly starts: number;
      readonly sender: string;
    }
  | {
      readonly type: 'grant';
      readonly epoch: number;
      readonly generation: number;
      readonly sentAtMs: number;
      readonly starts: number;
      readonly sender: string;
    }
  | { readonly type: 'flushed'; readonly entry: LogEntry; readonly starts: number; readonly sender: string }
  | { readonly type: 'ping'; readonly attempt: number }
  | {
      readonly type: 'pong';
      readonly attempt: number;
      readonly answer: AuthorityAnswer;
      readonly position: { timeline: number; lsn: string } | null;
    }
  | { readonly type: 'fence'; readonly attempt: number; readonly question: FenceQuestion }
  | { readonly type: 'fenced'; readonly attempt: number; readonly member: string; readonly outcome: FenceReply }
  | { readonly type: 'orders'; readonly orders: Orders }
  | {
      readonly type: 'put';
      readonly attempt: number;
      readonly record: AuthorityRecord;
      readonly version: number;
    }
  | { readonly type: 'stored'; readonly attempt: number; readonly took: boolean; readonly snapshot: Snapshot }
);

export type FenceReply =
  | Omit<Extract<FenceOutcome, { kind: 'Fenced' }>, 'atMs'>
  | Omit<Extract<FenceOutcome, { kind: 'Refused' }>, 'atMs'>;

export interface World {
  shape: Shape;
  nowMs: number;
  members: Record<string, SimMember>;
  operators: Record<string, SimOperator>;
  api: {
    record: AuthorityRecord;
    version: number;
    lease: { readonly holder: string; readonly version: number };
  };
  leaderTerm: number;
  attempts: number;
  messages: Message[];
  /** `from>to`. */
  cuts: readonly string[];
  /** Acknowledged to a client, or shown to one: the furthest such entry of each line. */
  kept: readonly LogEntry[];
  writes: number;
}

/** What a run is about. */
export interface Shape {
  readonly members: number;
  readonly k: number;
  readonly operators: number;
  /** Messages lie about until they are delivered; else they arrive at once or never. */
  readonly delays: boolean;
  readonly onLoss: 'Block' | 'ShrinkMembership';
  /** Of members' and operators' clocks, in parts of 1. */
  readonly drift: number;
  readonly wish: number;
}

export const identityOf = ({ name, incarnation }: Pick<SimMember, 'name' | 'incarnation'>): MemberIdentity => ({
  name,
  incarnation,
});

export const local = (world: World, { clock }: { readonly clock: Clock }): number =>
  world.nowMs * clock.rate + clock.offsetMs;

export const memberOf = (world: World, name: string): SimMember => {
  const member = world.members[name];
  if (member === undefined) throw new Error(`no member ${name}`);
  return member;
};

/** Entries and records are shared, everything that changes is copied. */
export function copyOf(world: World): World {
  return {
    ...world,
    members: mapValues(world.members, (member) => ({
      ...member,
      held: { ...member.held },
      former: member.former && { ...member.former, held: { ...member.former.held } },
      reported: { ...member.reported },
    })),
    operators: mapValues(world.operators, (operator) => ({
      ...operator,
      watch: { ...operator.watch },
      attempt: operator.attempt && {
        ...operator.attempt,
        pings: { ...operator.attempt.pings },
        fences: { ...operator.attempt.fences },
      },
    })),
    api: { ...world.api },
    messages: [...world.messages],
  };
}

function mapValues<T, U>(of: Readonly<Record<string, T>>, by: (value: T) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(of).map(([key, value]) => [key, by(value)]));
}
