/**
 * The takeover service: watches the authority of every shard and ends epochs whose primary is lost, or that are handed over.
 * Runs in every replica, leading or not; who acts first is a matter of rank (`heartbeat.ts`), and safety rests on promises and
 * on the record alone (docs/design.md, section 4; docs/design-traps.md, A16).
 * Decides nothing: `core/authority` does. Invariant: shards don't wait for one another, but for their turn to be promoted.
 */
import { once } from 'node:events';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import { isEnough } from '#core/authority/fence.ts';
import { type AuthorityRecord, primaryOf, sameMember } from '#core/authority/record.ts';
import {
  answerOf,
  type Pings,
  type Suspicion,
  silentForMs,
  suspicionOf,
  unreachableMs,
} from '#core/authority/suspicion.ts';
import type { TakeoverIntent } from '#core/authority/takeover.ts';
import { rankDelayMs } from '#core/authority/timing.ts';
import type { EventRecorder } from '#kube/events.ts';
import { type Shard, shards } from '#kube/meridian.ts';
import { keyOf, type Stored } from '#kube/objects.ts';
import { fencedNames } from '../controllers/shard/fencing.ts';
import { recordOf } from '../controllers/shard/snapshot.ts';
import type { Cache } from '../runtime/controller.ts';
import { runAttempt } from './attempt.ts';
import type { AskedMember, AuthorityWatch } from './authority-watch.ts';
import type { ShardLeaseWatch } from './lease-watch.ts';
import type { ShardMeans } from './means.ts';
import { promote } from './promotion.ts';
import { type Addresses, askedMembers, memberAddresses } from './shard-view.ts';
import { makeTakeoverMetrics, Story, type TakeoverMetrics } from './story.ts';
import type { HandoverWish, TakeoverKind, TakeoverOutcome, TakeoverReport, Takeovers } from './takeovers.ts';
import { type Turn, Turns } from './turns.ts';

export interface TakeoverOptions {
  readonly cache: Cache;
  readonly watch: AuthorityWatch;
  readonly means: Pick<ShardMeans, 'pause' | 'leaseWatch' | 'hear' | 'keepOnly' | 'ofAttempt' | 'ofPromotion'>;
  readonly heartbeats: {
    readonly rank: number;
    readonly isLedByAnother: boolean;
    beatSoon(): void;
    othersReaching(shard: string): readonly string[];
  };
  /** Gives the leadership up, where this replica has it. @returns Whether it had. */
  readonly resign: () => boolean;
  readonly recorder: Pick<EventRecorder, 'record'>;
  readonly log: Logger;
  readonly metrics: Registry;
  readonly nowMs: () => number;
  readonly signal: AbortSignal;
}

interface OfShard {
  /** Newer than the watch's where we wrote it. */
  shard: Stored<Shard>;
  suspicion: Suspicion;
  suspectedSinceMs: number | undefined;
  /** Of the primary: its last question wasn't answered. */
  isSilent: boolean;
  /** The primary is silent, and who answers isn't enough. */
  unreachedSinceMs: number | undefined;
  canReach: boolean;
  notBeforeMs: number;
  wish: HandoverWish | undefined;
  running: Promise<void> | undefined;
  lease: ShardLeaseWatch | undefined;
  /** When it was told last for which reason that it waits. */
  readonly waitsToldMs: Map<string, number>;
  report: (Omit<TakeoverReport, 'ageMs'> & { readonly atMs: number }) | undefined;
}

const lookEveryMs = 200;
const askEveryMs = 450;
/** Where a primary is silent: what its followers say decides, and every moment counts. */
const askSoonerMs = 150;
/**
 * A handover is the leader's, and a primary may take its time to stop: only then do others go on with it. Sooner where the
 * leader isn't heard of any more, or is ourselves and knows nothing of it.
 */
const handoverOwnedMs = 12_000;
const maxPromotions = 8;
/** A leader that can't do what another says that it can do. */
const unreachedBeforeResigningMs = 3_000;
const retryMs = 1_000;
/** The same reason to wait is an Event again after so long. */
const tellAgainMs = 30_000;

export class TakeoverService implements Takeovers {
  readonly #options: TakeoverOptions;
  readonly #metrics: TakeoverMetrics;
  readonly #shards = new Map<string, OfShard>();
  readonly #turns = new Turns(maxPromotions);
  readonly #promotions = new Set<Promise<void>>();
  #reaches: readonly string[] = [];

  constructor(options: TakeoverOptions) {
    this.#options = options;
    this.#metrics = makeTakeoverMetrics(options.metrics, {
      suspected: () => [...this.#shards.values()].filter(({ suspicion }) => suspicion.kind !== 'None').length,
      rank: () => options.heartbeats.rank,
      silent: () => options.watch.silent,
    });
  }

  /** Until the signal aborts and what is under way has ended: it is ended in order, and nothing is begun any more. */
  async run(): Promise<void> {
    const { signal, log } = this.#options;
    const ended = signal.aborted ? Promise.resolve() : once(signal, 'abort');
    while (!signal.aborted) {
      try {
        this.#look();
      } catch (error) {
        log.error({ err: error }, 'looking at the authority of shards failed');
      }
      await this.#options.means.pause(lookEveryMs, ended);
    }
    await Promise.all([...this.#shards.values()].flatMap(({ running }) => running ?? []));
    await Promise.all(this.#promotions);
  }

  /** Shards in trouble that this replica could fail over. */
  get reaches(): readonly string[] {
    return this.#reaches;
  }

  handOver(shard: Stored<Shard>, wish: HandoverWish): void {
    const state = this.#of(shard);
    if (state.running !== undefined) return;
    state.wish = wish;
    this.#start(state, 'asked for');
  }

  reportOf(shardUid: string): TakeoverReport | undefined {
    const report = [...this.#shards.values()].find(({ shard }) => shard.metadata.uid === shardUid)?.report;
    if (report === undefined) return undefined;
    const { atMs, ...rest } = report;
    return { ...rest, ageMs: this.#options.nowMs() - atMs };
  }

  #look(): void {
    const { cache, watch, heartbeats, means } = this.#options;
    const present = cache.list(shards);
    const addresses = memberAddresses(cache);
    const keys = new Set(present.map(keyOf));
    for (const key of this.#shards.keys()) if (!keys.has(key)) this.#shards.delete(key);
    means.keepOnly(new Set(present.map(({ metadata }) => metadata.uid)));
    const asked = present.flatMap((shard) => {
      const record = recordOf(shard);
      return record === undefined ? [] : askedMembers(shard, record, addresses);
    });
    watch.keepOnly(asked);
    void watch.ask(asked, askEveryMs);
    void watch.ask(
      present.flatMap((shard) => this.#askedSooner(shard, addresses)),
      askSoonerMs,
    );
    const reaches: string[] = [];
    for (const shard of present) {
      const state = this.#of(shard);
      this.#judge(state);
      if (state.canReach) reaches.push(keyOf(shard));
    }
    const changed = reaches.length !== this.#reaches.length || reaches.some((key) => !this.#reaches.includes(key));
    this.#reaches = reaches;
    if (changed) heartbeats.beatSoon();
  }

  #askedSooner(shard: Stored<Shard>, addresses: Addresses): AskedMember[] {
    const record = this.#shards.get(keyOf(shard))?.isSilent === true ? recordOf(shard) : undefined;
    return record === undefined ? [] : askedMembers(shard, record, addresses);
  }

  #of(shard: Stored<Shard>): OfShard {
    const key = keyOf(shard);
    let state = this.#shards.get(key);
    if (state?.shard.metadata.uid !== shard.metadata.uid) state = undefined;
    if (state === undefined) {
      state = {
        shard,
        suspicion: { kind: 'None', why: '' },
        suspectedSinceMs: undefined,
        isSilent: false,
        unreachedSinceMs: undefined,
        canReach: false,
        notBeforeMs: 0,
        wish: undefined,
        running: undefined,
        lease: undefined,
        waitsToldMs: new Map(),
        report: undefined,
      };
      this.#shards.set(key, state);
    } else if (!isOlder(shard, state.shard)) state.shard = shard;
    return state;
  }

  /** Whether something is to be done about this shard, and whether by us, now. */
  #judge(state: OfShard): void {
    const { watch, nowMs } = this.#options;
    const record = recordOf(state.shard);
    if (record === undefined || isBeingRemoved(state.shard)) return forget(state);
    const now = nowMs();
    const pings = watch.pings(record, state.shard.metadata);
    const primary = primaryOf(record);
    // Another incarnation's answers are none of the primary's.
    state.isSilent = answerOf(pings, primary) === undefined;
    const isSilent = state.isSilent && silentForMs(pings, primary, now) >= unreachableMs;
    this.#watchLease(state, record, isSilent);
    if (record.membership.acknowledgements === 0 && !state.isSilent) this.#options.means.hear(state.shard, record);
    state.suspicion = suspicionOf({ record, pings, kubernetesLease: state.lease?.watched, nowMs: now });
    const reachable = record.membership.members.filter((member) => answerOf(pings, member) !== undefined);
    const isReached = isEnough(
      record,
      reachable.map((member) => ({ member })),
    );
    state.canReach = state.suspicion.kind !== 'None' && isReached;
    const missing = silentMembers(record, pings);
    this.#considerUnreached(state, isSilent && !isReached ? missing : undefined, now);

    const isStopping = record.authority.state === 'Stopping';
    const isWanted = isStopping || (state.suspicion.kind !== 'None' && !this.#isLeftAlone(state, record, pings));
    if (!isWanted) {
      state.suspectedSinceMs = undefined;
      return;
    }
    state.suspectedSinceMs ??= now;
    if (state.running !== undefined || now < state.notBeforeMs) return;
    const ownedMs = isStopping && this.#options.heartbeats.isLedByAnother ? handoverOwnedMs : 0;
    if (now - state.suspectedSinceMs < ownedMs + this.#options.heartbeats.rank * rankDelayMs) return;
    this.#start(state, state.suspicion.why);
  }

  /** A failover that people have reserved for themselves: by the mode, or by keeping the primary down. */
  #isLeftAlone(state: OfShard, record: AuthorityRecord, pings: Pings): boolean {
    const { shard, suspicion } = state;
    const why = fencedNames(shard).has(record.authority.member)
      ? `${record.authority.member} is kept down by an annotation`
      : shard.spec.failover.mode === 'Manual' && suspicion.kind === 'Failover'
        ? 'spec.failover.mode is Manual: ask for a switchover'
        : undefined;
    if (why === undefined) return false;
    this.#tellWaiting(state, `${suspicion.why}; ${why}`, silentMembers(record, pings));
    return true;
  }

  /** Something would have to be done about the authority, and isn't: why, and who is missing. One replica tells it. */
  #tellWaiting(state: OfShard, message: string, missing: readonly string[]): void {
    const isKnown = state.report?.outcome === 'Stopped' && state.report.message === message;
    this.#report(state, 'Failover', { running: false, message, missing, outcome: 'Stopped' });
    if (this.#options.heartbeats.rank > 0) return;
    if (!isKnown) this.#options.log.warn({ shard: keyOf(state.shard), missing }, message);
    this.#recordWaiting(state, 'Failover', message, message);
  }

  /** Attempts follow one another within seconds, and what keeps each of them may come and go. */
  #recordWaiting(state: OfShard, action: TakeoverKind, reason: string, message: string): void {
    const now = this.#options.nowMs();
    // Whatever is counted in it makes it no other reason.
    const key = reason.replaceAll(/\d+(\.\d+)? m?s\b/g, '');
    if (now - (state.waitsToldMs.get(key) ?? Number.NEGATIVE_INFINITY) < tellAgainMs) return;
    for (const [known, atMs] of state.waitsToldMs) if (now - atMs >= tellAgainMs) state.waitsToldMs.delete(known);
    state.waitsToldMs.set(key, now);
    this.#options.recorder.record(state.shard, { type: 'Warning', reason: 'TakeoverWaits', action, message });
  }

  /** Of a shard with k = 0, from the moment its primary is silent: so that nothing is asked while all is well. */
  #watchLease(state: OfShard, record: AuthorityRecord, isSilent: boolean): void {
    if (record.membership.acknowledgements > 0 || (!isSilent && state.running === undefined)) {
      state.lease = undefined;
      return;
    }
    state.lease ??= this.#options.means.leaseWatch(state.shard);
    void state.lease.look();
  }

  /** The primary is silent, and too few others answer: somebody else may reach them; else it is told who is missing. */
  #considerUnreached(state: OfShard, missing: readonly string[] | undefined, now: number): void {
    const { heartbeats, resign, log } = this.#options;
    if (missing === undefined) {
      state.unreachedSinceMs = undefined;
      return;
    }
    state.unreachedSinceMs ??= now;
    if (now - state.unreachedSinceMs < unreachedBeforeResigningMs) return;
    const others = heartbeats.othersReaching(keyOf(state.shard));
    if (others.length === 0) {
      const why = `too few members answer to take over from a primary that doesn't; missing: ${missing.join(', ')}`;
      this.#tellWaiting(state, why, missing);
      return;
    }
    if (!resign()) return;
    const shard = keyOf(state.shard);
    log.warn(
      { shard, others },
      'the leadership is given up: others reach the members of a shard that this one does not',
    );
  }

  #start(state: OfShard, why: string): void {
    if (this.#options.signal.aborted) return;
    state.running = this.#run(state, why)
      .catch((error: unknown) => {
        this.#options.log.error({ err: error, shard: keyOf(state.shard) }, 'a takeover failed');
        state.notBeforeMs = this.#options.nowMs() + retryMs;
      })
      .finally(() => {
        state.running = undefined;
      });
  }

  async #run(state: OfShard, why: string): Promise<void> {
    const { log, recorder, means, nowMs } = this.#options;
    const record = recordOf(state.shard);
    if (record === undefined) return;
    const { intent, kind } = this.#intentOf(state, record);
    const wish = state.wish;
    state.wish = undefined;
    const reason = wish?.why ?? why;
    const story = new Story({ log, recorder, metrics: this.#metrics, nowMs }, kind, state.suspectedSinceMs ?? nowMs());
    let turn: Turn | undefined;
    const takeTurn = async (shard: Stored<Shard>): Promise<void> => {
      turn ??= await this.#turns.take(shard.spec.failover.priority);
    };
    if (record.membership.acknowledgements === 0) state.lease ??= means.leaseWatch(state.shard);
    const { lease } = state;
    try {
      const outcome = await runAttempt(intent, reason, {
        ...means.ofAttempt(state.shard, lease, intent),
        takeTurn,
        tell: (step, shard) => {
          const message = story.tell(step, shard);
          this.#report(state, kind, { running: true, message, missing: [] });
        },
      });
      switch (outcome.kind) {
        case 'Decided': {
          state.shard = outcome.shard;
          state.suspectedSinceMs = undefined;
          const isUndo = sameMember(primaryOf(outcome.before), primaryOf(outcome.record));
          this.#end(state, kind, story, isUndo ? 'Undone' : 'Done', describe(outcome.record));
          this.#promote(state, outcome.record, story, turn);
          turn = undefined;
          return;
        }
        case 'Overtaken':
          this.#end(state, kind, story, 'Overtaken', outcome.why);
          return;
        case 'Stopped':
          state.notBeforeMs = nowMs() + (outcome.retryInMs ?? retryMs);
          this.#end(state, kind, story, 'Stopped', outcome.why, outcome.missing);
          return;
        default:
          return outcome satisfies never;
      }
    } finally {
      turn?.end();
    }
  }

  #intentOf(
    { wish, shard }: OfShard,
    record: AuthorityRecord,
  ): { readonly intent: TakeoverIntent; readonly kind: TakeoverKind } {
    const { target, state } = record.authority;
    if (state === 'Stopping' && target !== undefined) return { intent: { kind: 'Handover', target }, kind: 'Handover' };
    if (wish === undefined) return { intent: { kind: 'Recover' }, kind: 'Failover' };
    const pings = this.#options.watch.pings(record, shard.metadata);
    return answerOf(pings, primaryOf(record)) === undefined
      ? { intent: { kind: 'Recover', wanted: wish.target }, kind: 'Failover' }
      : { intent: { kind: 'Handover', target: wish.target }, kind: 'Handover' };
  }

  #promote(state: OfShard, record: AuthorityRecord, story: Story, turn: Turn | undefined): void {
    const { means, log } = this.#options;
    const isCurrent = (): boolean => recordOf(state.shard)?.authority.epoch === record.authority.epoch;
    const promotion = promote(record, {
      ...means.ofPromotion(state.shard, record),
      isCurrent,
      tell: (step) => void story.tell(step, state.shard),
    })
      .catch((error: unknown) => log.error({ err: error, shard: keyOf(state.shard) }, 'a promotion failed'))
      .then(() => {
        turn?.end();
        this.#promotions.delete(promotion);
      });
    this.#promotions.add(promotion);
  }

  #end(
    state: OfShard,
    kind: TakeoverKind,
    story: Story,
    outcome: TakeoverOutcome,
    message: string,
    missing: readonly string[] = [],
  ): void {
    // An attempt that finds nothing to do, or can't begin, is made again every second: not each is worth counting.
    const isRepeated = outcome === 'Stopped' && state.report?.outcome === 'Stopped' && state.report.message === message;
    this.#report(state, kind, { running: false, message, missing, outcome });
    if (isRepeated) return;
    story.end(outcome);
    this.#options.log.info({ shard: keyOf(state.shard), kind, outcome, missing }, message);
    if (outcome === 'Stopped' && state.suspicion.kind !== 'None')
      this.#recordWaiting(state, kind, message, `${state.suspicion.why}; ${message}`);
  }

  #report(state: OfShard, kind: TakeoverKind, report: Omit<TakeoverReport, 'kind' | 'ageMs'>): void {
    state.report = { kind, ...report, atMs: this.#options.nowMs() };
  }
}

const describe = ({ authority }: AuthorityRecord): string =>
  `${authority.member} in ${authority.region} is primary from epoch ${authority.epoch} on`;

const silentMembers = (record: AuthorityRecord, pings: Pings): readonly string[] =>
  record.membership.members.filter((member) => answerOf(pings, member) === undefined).map(({ name }) => name);

/** By the record, as versions of objects can't be compared. */
function isOlder(a: Shard, b: Shard): boolean {
  const [first, second] = [recordOf(a), recordOf(b)];
  if (first === undefined || second === undefined) return false;
  return (
    first.authority.epoch < second.authority.epoch ||
    (first.authority.epoch === second.authority.epoch && first.membership.generation < second.membership.generation)
  );
}

/** Its members are going away with it: that is no loss of a primary. */
const isBeingRemoved = ({ metadata, status }: Shard): boolean =>
  metadata.deletionTimestamp !== undefined &&
  status?.conditions?.some(({ type, status: value }) => type === 'DeletionAllowed' && value === 'True') === true;

function forget(state: OfShard): void {
  state.isSilent = false;
  state.suspicion = { kind: 'None', why: 'there is no authority' };
  state.suspectedSinceMs = undefined;
  state.unreachedSinceMs = undefined;
  state.canReach = false;
  state.lease = undefined;
}
