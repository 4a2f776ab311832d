/**
 * One attempt at ending an epoch: from a GET of the Shard to a decision in its record, or to the reason why not.
 * What to do next is `core/authority/takeover.ts`'s decision after every answer; here it is done, and what came of it noted.
 * Invariants: every PUT carries the resourceVersion of a read that showed this attempt's record; an answer that didn't come
 * (409, time-out) is unknown until the next GET; whoever stood still meanwhile begins anew. Dying anywhere leaves promises
 * and a record from which the next attempt, of any replica, goes on.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Candidate } from '#core/authority/choose.ts';
import type { WatchedLease } from '#core/authority/fence.ts';
import { type AuthorityRecord, isPrimary, primaryOf, sameMember } from '#core/authority/record.ts';
import { answerOf, type Pings } from '#core/authority/suspicion.ts';
import {
  decideTakeover,
  type FenceOutcome,
  type TakeoverAction,
  type TakeoverIntent,
} from '#core/authority/takeover.ts';
import { type MemberIdentity, replicationName } from '#core/identity.ts';
import { ApiError } from '#kube/errors.ts';
import type { Shard } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import type { FenceReply } from '../agents/client.ts';
import { recordOf } from '../controllers/shard/snapshot.ts';
import type { HeardPosition } from './last-heard.ts';
import { recordChange } from './record-change.ts';

/** Everything an attempt does to the world. All of it is bounded in time. */
export interface AttemptMeans {
  readonly nowMs: () => number;
  readonly wallClock: () => Date;
  readonly signal: AbortSignal;
  /** GET, no cache. */
  readonly read: () => Promise<Stored<Shard>>;
  /** PUT /status. */
  readonly write: (shard: Stored<Shard>) => Promise<Stored<Shard>>;
  /** Asks all members who they are, anew. */
  readonly ping: (record: AuthorityRecord) => Promise<Pings>;
  readonly fence: (member: MemberIdentity, epoch: number, handover: boolean) => Promise<FenceReply>;
  readonly ship: (record: AuthorityRecord, from: MemberIdentity, to: MemberIdentity, epoch: number) => Promise<void>;
  /** Looks at the shard's Kubernetes Lease, and says since when it has been seen as it is. */
  readonly watchLease: () => Promise<WatchedLease | undefined>;
  /** The same by a look of now. @throws ApiError */
  readonly lookAtLease: () => Promise<WatchedLease | undefined>;
  readonly handLease: (holder: MemberIdentity, epoch: number) => Promise<void>;
  readonly candidates: (shard: Stored<Shard>) => readonly Candidate[];
  readonly regions: (shard: Stored<Shard>) => readonly string[];
  /** How far a primary's log went when it was last heard; for people. */
  readonly heard: (primary: MemberIdentity) => HeardPosition | undefined;
  /** Why this record must not be acted upon; undefined when it may. */
  readonly distrust: (shard: Stored<Shard>, record: AuthorityRecord, pings: Pings) => string | undefined;
  /** Fulfilled when this shard may be promoted: only so many are at once. */
  readonly takeTurn: (shard: Stored<Shard>) => Promise<void>;
  /** Fulfilled after so long, or as soon as `sooner` is. */
  readonly pause: (ms: number, sooner?: Promise<unknown>) => Promise<void>;
  /** For Events, log and metrics; each step once. */
  readonly tell: (step: AttemptStep, shard: Stored<Shard>) => void;
}

export type AttemptStep =
  | { readonly kind: 'Began'; readonly why: string }
  | { readonly kind: 'Announced' | 'Withdrawn' | 'LeaseHanded'; readonly why: string }
  | { readonly kind: 'Fenced'; readonly epoch: number; readonly members: readonly string[]; readonly waitMs: number }
  | { readonly kind: 'WaitedOut'; readonly epoch: number }
  | { readonly kind: 'Shipping'; readonly from: string; readonly to: string; readonly epoch: number }
  | { readonly kind: 'Refused'; readonly member: string; readonly why: string }
  | { readonly kind: 'Decided'; readonly record: AuthorityRecord; readonly why: string };

export type AttemptOutcome =
  | {
      readonly kind: 'Decided';
      readonly shard: Stored<Shard>;
      readonly record: AuthorityRecord;
      readonly before: AuthorityRecord;
    }
  /** Authority, membership or history are another's by now. */
  | { readonly kind: 'Overtaken'; readonly why: string }
  | {
      readonly kind: 'Stopped';
      readonly why: string;
      readonly retryInMs: number | undefined;
      readonly missing: readonly string[];
    };

/** Longer than any attempt takes that comes to something; the next one begins with a new read. */
const attemptPatienceMs = 60_000;
/** No step takes so much longer than its bound, unless this process stood still. */
const stillnessMs = 3_000;
/** Bound of whatever is awaited in one turn. */
const turnMs = 3_500;
const askAgainMs = 150;
/** Nobody has answered any fence for so long: who can be reached is looked at anew. */
const silenceMs = 4_000;
const retryMs = 1_000;

export async function runAttempt(intent: TakeoverIntent, reason: string, means: AttemptMeans): Promise<AttemptOutcome> {
  return new Attempt(intent, reason, means).run();
}

class StoodStill extends Error {}

class Attempt {
  readonly #intent: TakeoverIntent;
  readonly #reason: string;
  readonly #means: AttemptMeans;
  readonly #startedAtMs: number;
  readonly #fences = new Map<string, FenceOutcome>();
  readonly #asking = new Map<string, Promise<void>>();
  readonly #told = new Set<string>();
  #pings: Pings = new Map();
  #shard!: Stored<Shard>;
  #record!: AuthorityRecord;
  #readAtMs = 0;
  #answeredAtMs: number | undefined;
  #hasTurn = false;

  constructor(intent: TakeoverIntent, reason: string, means: AttemptMeans) {
    this.#intent = intent;
    this.#reason = reason;
    this.#means = means;
    this.#startedAtMs = means.nowMs();
  }

  async run(): Promise<AttemptOutcome> {
    try {
      const obstacle = await this.#begin();
      if (obstacle !== undefined) return obstacle;
      for (;;) {
        const { signal, nowMs } = this.#means;
        if (signal.aborted) return stopped('this operator ends');
        if (nowMs() - this.#startedAtMs > attemptPatienceMs) return stopped('it took too long', 0);
        const outcome = await this.#turn();
        if (outcome !== undefined) return outcome;
      }
    } catch (error) {
      if (error instanceof StoodStill) return stopped('this operator stood still meanwhile', 0);
      if (error instanceof ApiError) return stopped(`the API server: ${error.message}`, retryMs);
      throw error;
    }
  }

  async #begin(): Promise<AttemptOutcome | undefined> {
    const { read, ping, distrust, nowMs } = this.#means;
    const sentAtMs = nowMs();
    this.#shard = await this.#bounded(read());
    const record = recordOf(this.#shard);
    if (record === undefined) return stopped('there is no record of authority');
    this.#record = record;
    this.#readAtMs = sentAtMs;
    this.#pings = await this.#bounded(ping(record));
    const doubt = distrust(this.#shard, record, this.#pings);
    return doubt === undefined ? undefined : stopped(doubt, retryMs);
  }

  async #turn(): Promise<AttemptOutcome | undefined> {
    const action = await this.#next();
    switch (action.kind) {
      case 'Nothing':
        return stopped(action.why, action.retryInMs, this.#silent());
      case 'Ping':
        this.#pings = await this.#bounded(this.#means.ping(this.#record));
        return undefined;
      case 'Reread':
        return this.#reread();
      case 'Announce':
        return this.#announce(action);
      case 'Fence':
        this.#tellOnce('Began', { kind: 'Began', why: this.#reason });
        this.#askToBeFenced(action.members, action.epoch, action.handover);
        this.#answeredAtMs ??= this.#means.nowMs();
        // With enough of them it isn't left at that: they have promised, and wait for the decision.
        if (action.untilMs === undefined && this.#means.nowMs() - this.#answeredAtMs > silenceMs)
          return stopped('nobody answers any more', 0);
        await this.#pauseUntilAnswer(this.#patienceOf(action));
        return undefined;
      case 'WaitOut':
        return this.#waitOut(action);
      case 'Ship':
        return this.#ship(action);
      case 'HandLease':
        return this.#handLease(action);
      case 'Decide':
        return this.#decide(action);
      default:
        return action satisfies never;
    }
  }

  async #next(): Promise<TakeoverAction> {
    const { nowMs, wallClock, candidates, regions, watchLease } = this.#means;
    const needsLease = this.#record.membership.acknowledgements === 0;
    const kubernetesLease = needsLease ? await this.#bounded(watchLease()) : undefined;
    return decideTakeover({
      record: this.#record,
      recordReadAtMs: this.#readAtMs,
      intent: this.#intent,
      pings: this.#pings,
      fences: this.#fences,
      candidates: candidates(this.#shard),
      regions: regions(this.#shard),
      kubernetesLease,
      startedAtMs: this.#startedAtMs,
      nowMs: nowMs(),
      since: wallClock().toISOString(),
    });
  }

  async #reread(): Promise<AttemptOutcome | undefined> {
    const sentAtMs = this.#means.nowMs();
    const shard = await this.#bounded(this.#means.read());
    if (!isDeepStrictEqual(recordOf(shard), this.#record))
      return { kind: 'Overtaken', why: 'the record was changed by somebody else' };
    this.#shard = shard;
    this.#readAtMs = sentAtMs;
    this.#pings = await this.#bounded(this.#means.ping(this.#record));
    return undefined;
  }

  async #announce(action: Extract<TakeoverAction, { kind: 'Announce' }>): Promise<AttemptOutcome | undefined> {
    const sentAtMs = this.#means.nowMs();
    const written = await this.#swap(action.record, undefined);
    if (written === undefined) return { kind: 'Overtaken', why: 'the record was changed by somebody else' };
    if (written === 'unchanged') return undefined;
    this.#record = recordOf(written) ?? action.record;
    this.#readAtMs = sentAtMs;
    if (action.record.authority.state === 'Stopping') {
      this.#means.tell({ kind: 'Announced', why: action.why }, written);
      return undefined;
    }
    this.#means.tell({ kind: 'Withdrawn', why: action.why }, written);
    return stopped(action.why);
  }

  /**
   * The record in place of ours. Undefined: it is another's by now. `unchanged`: ours wasn't written, and the read that showed
   * so is what the next try carries.
   */
  async #swap(record: AuthorityRecord, why: string | undefined): Promise<Stored<Shard> | 'unchanged' | undefined> {
    const { read, write, wallClock } = this.#means;
    const heard = this.#heard();
    const change = recordChange({ shard: this.#shard, before: this.#record, record, why, at: wallClock(), heard });
    try {
      this.#shard = await this.#bounded(write({ ...this.#shard, status: { ...this.#shard.status, ...change } }));
      return this.#shard;
    } catch (error) {
      if (!(error instanceof ApiError) || !(error.isConflict || error.isTransient)) throw error;
    }
    const sentAtMs = this.#means.nowMs();
    const shard = await this.#bounded(read());
    const present = recordOf(shard);
    this.#shard = shard;
    if (isDeepStrictEqual(present, recordOf({ ...shard, status: { ...shard.status, ...change } }))) return shard;
    if (!isDeepStrictEqual(present, this.#record)) return undefined;
    this.#readAtMs = sentAtMs;
    return 'unchanged';
  }

  #heard(): HeardPosition | undefined {
    const primary = primaryOf(this.#record);
    const outcome = this.#fences.get(replicationName(primary));
    const said = outcome?.kind === 'Fenced' ? outcome.fenced.position : null;
    return said ?? this.#means.heard(primary);
  }

  /** Each at most once at a time; nobody waits for the slow ones. */
  #askToBeFenced(members: readonly MemberIdentity[], epoch: number, handover: boolean): void {
    for (const member of members) {
      const name = replicationName(member);
      if (this.#asking.has(name)) continue;
      const asked = this.#askOne(member, epoch, handover && isPrimary(this.#record, member)).finally(() =>
        this.#asking.delete(name),
      );
      // It notes every failure by itself; this only keeps an impossible one from ending the process.
      asked.catch(() => undefined);
      this.#asking.set(name, asked);
    }
  }

  async #askOne(member: MemberIdentity, epoch: number, handover: boolean): Promise<void> {
    const { fence, nowMs, pause } = this.#means;
    const name = replicationName(member);
    const before = this.#fences.get(name);
    const tooSoonMs = before === undefined ? 0 : askAgainMs - (nowMs() - before.atMs);
    if (tooSoonMs > 0) await pause(tooSoonMs);
    const reply = await fence(member, epoch, handover);
    const atMs = nowMs();
    if (reply.kind !== 'unknown') this.#answeredAtMs = atMs;
    switch (reply.kind) {
      case 'fenced':
        this.#fences.set(
          name,
          sameMember(reply.fenced.member, member)
            ? { kind: 'Fenced', fenced: reply.fenced, atMs }
            : { kind: 'Silent', atMs },
        );
        if (reply.fenced.position === null) this.#tellRefused(member, `no position: ${reply.fenced.problem}`);
        return;
      case 'refused':
        if (reply.refusal.code !== 'Busy') {
          this.#fences.set(name, { kind: 'Refused', refusal: reply.refusal, atMs });
          this.#tellRefused(member, `${reply.refusal.code}: ${reply.refusal.message}`);
        } else if (before?.kind !== 'Fenced') this.#fences.set(name, { kind: 'Silent', atMs });
        return;
      case 'unknown':
        // What it said before still holds: a promise isn't taken back.
        if (before?.kind !== 'Fenced') this.#fences.set(name, { kind: 'Silent', atMs });
        return;
      default:
        return reply satisfies never;
    }
  }

  /** How long a question may take before what to do is asked again. */
  #patienceOf({ members, untilMs }: Extract<TakeoverAction, { kind: 'Fence' }>): number {
    if (members.length === 0) return askAgainMs;
    return untilMs === undefined ? turnMs : Math.min(turnMs, Math.max(10, untilMs - this.#means.nowMs()));
  }

  async #waitOut(action: Extract<TakeoverAction, { kind: 'WaitOut' }>): Promise<undefined> {
    const { nowMs } = this.#means;
    const waitMs = action.untilMs - nowMs();
    this.#tellFenced(action.epoch, waitMs);
    this.#askToBeFenced(action.fence, action.epoch, false);
    await this.#pauseUntilAnswer(Math.min(Math.max(10, waitMs), 1_000));
    return undefined;
  }

  async #ship({ from, to, epoch, fence }: Extract<TakeoverAction, { kind: 'Ship' }>): Promise<undefined> {
    const { ship, pause } = this.#means;
    this.#tellFenced(epoch, 0);
    this.#askToBeFenced(fence, epoch, false);
    this.#tellOnce('Shipping', { kind: 'Shipping', from: from.name, to: to.name, epoch });
    await this.#bounded(ship(this.#record, from, to, epoch));
    // For what it takes to connect and stream a little; then it is asked how far it has come.
    await pause(300);
    this.#askToBeFenced([to], epoch, false);
    await this.#pauseUntilAnswer(turnMs);
    return undefined;
  }

  async #handLease({ holder, epoch }: Extract<TakeoverAction, { kind: 'HandLease' }>): Promise<undefined> {
    await this.#bounded(this.#means.handLease(holder, epoch));
    this.#tellOnce('LeaseHanded', { kind: 'LeaseHanded', why: `the shard's Lease was handed to ${holder.name}` });
    return undefined;
  }

  async #decide({ record, why }: Extract<TakeoverAction, { kind: 'Decide' }>): Promise<AttemptOutcome | undefined> {
    const { takeTurn, tell } = this.#means;
    this.#tellFenced(record.authority.epoch, 0);
    this.#tellOnce('WaitedOut', { kind: 'WaitedOut', epoch: record.authority.epoch });
    if (!this.#hasTurn) {
      // Others may be more important; what is known is looked at again afterwards.
      await takeTurn(this.#shard);
      this.#hasTurn = true;
      return undefined;
    }
    const before = this.#record;
    if (!(await this.#isLeaseHanded(record))) return undefined;
    const written = await this.#swap(record, this.#reason);
    if (written === undefined) return { kind: 'Overtaken', why: 'the record was changed by somebody else' };
    if (written === 'unchanged') return undefined;
    const decided = recordOf(written) ?? record;
    tell({ kind: 'Decided', record: decided, why }, written);
    return { kind: 'Decided', shard: written, record: decided, before };
  }

  /**
   * k = 0, right before the decision: a turn may be long in coming, and what the watch shows may be as old. Where it can't be
   * looked at nothing is decided; where it is another's by now, what to do is decided anew.
   */
  async #isLeaseHanded({ authority, membership }: AuthorityRecord): Promise<boolean> {
    if (membership.acknowledgements > 0) return true;
    const lease = await this.#bounded(this.#means.lookAtLease());
    return lease?.holder === replicationName({ name: authority.member, incarnation: authority.incarnation });
  }

  /** Until any question is answered. */
  async #pauseUntilAnswer(ms: number): Promise<void> {
    const asking = [...this.#asking.values()];
    await this.#bounded(this.#means.pause(ms, asking.length === 0 ? undefined : Promise.race(asking)));
  }

  /** @throws StoodStill where it took so long that this process, or its machine, must have stood still. */
  async #bounded<T>(work: Promise<T>): Promise<T> {
    const beganMs = this.#means.nowMs();
    try {
      return await work;
    } finally {
      if (this.#means.nowMs() - beganMs > turnMs + stillnessMs) {
        // The throw replaces whatever the work gave: it is old.
        // oxlint-disable-next-line no-unsafe-finally
        throw new StoodStill();
      }
    }
  }

  #tellFenced(epoch: number, waitMs: number): void {
    const members = [...this.#fences.values()].flatMap((outcome) =>
      outcome.kind === 'Fenced' && outcome.fenced.epoch === epoch ? [outcome.fenced.member.name] : [],
    );
    this.#tellOnce(`Fenced ${epoch}`, { kind: 'Fenced', epoch, members: members.toSorted(), waitMs });
  }

  #tellRefused(member: MemberIdentity, why: string): void {
    this.#tellOnce(`${member.name} ${why}`, { kind: 'Refused', member: member.name, why });
  }

  #tellOnce(what: string, step: AttemptStep): void {
    if (this.#told.has(what)) return;
    this.#told.add(what);
    this.#means.tell(step, this.#shard);
  }

  #silent(): readonly string[] {
    return this.#record.membership.members
      .filter((member) => answerOf(this.#pings, member) === undefined)
      .map(({ name }) => name);
  }
}

const stopped = (why: string, retryInMs?: number, missing: readonly string[] = []): AttemptOutcome => ({
  kind: 'Stopped',
  why,
  retryInMs,
  missing,
});
