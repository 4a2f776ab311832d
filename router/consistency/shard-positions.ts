/**
 * What a router knows of one shard's members: how far each has surely replayed, where the primary was when, the history that relates
 * epochs, and whose copies keep safe what is read from them. From agents' answers and from checks of its own.
 *
 * What is known of a member is a lower bound, and of one run of its Postgres: while that runs its replay doesn't go back, after a
 * restart it may. So every bound belongs to a start time, and counts for connections to that very Postgres only.
 * Leaves to others: asking (authority/), what a session must see (session-positions.ts), which member is taken (follower-choice.ts).
 */
import { deliverableMs } from '#core/authority/lease.ts';
import { membershipHeldMs } from '#core/authority/timing.ts';
import { covers, type History, laterOf, nowhere, type Position } from '#core/consistency/position.ts';
import { type MemberIdentity, replicationName } from '#core/identity.ts';
import { type Lsn, parseLsn } from '#core/lsn.ts';
import type { AuthorityAnswer } from '#core/protocol/authority.ts';
import { Lease, type LeaseWatch } from '../authority/lease.ts';
import { type Sample, Samples } from './samples.ts';

/** One run of a member's Postgres. */
export interface Place {
  readonly member: string;
  readonly postmaster: string;
}

interface Bound extends Place {
  readonly identity: MemberIdentity;
  readonly position: Position;
  /** When the question was sent to which this answers; on the monotonic clock. */
  readonly askedMs: number;
}

/** When a question was sent, never later, on both clocks. */
export interface Sent {
  readonly bootMs: number;
  readonly monotonicMs: number;
}

export class ShardPositions {
  readonly #watch: LeaseWatch;
  #history: History = [];
  readonly #samples = new Samples();
  readonly #bounds = new Map<string, Bound>();
  /** Of the run before: what was read there may not be placed yet. */
  readonly #former = new Map<string, Bound>();
  /** By replication name: held while its primary says that it keeps what is committed. */
  readonly #keepers = new Map<string, Lease>();
  #keepersEpoch = 0;
  #acknowledgements: number | undefined;
  /** What so many followers have flushed as have to: the durable position (docs/design.md, section 4). */
  #acknowledged: Position = nowhere;
  /** While it is held, no epoch has followed that of its primary. */
  #tenure: Lease | undefined;

  constructor(watch: LeaseWatch) {
    this.#watch = watch;
  }

  get history(): History {
    return this.#history;
  }

  /** k, as the primary last said; undefined before. */
  get acknowledgements(): number | undefined {
    return this.#acknowledgements;
  }

  /**
   * The primary shows it: it was acknowledged, or a later epoch has begun, whose primary has shown all that it took over from the
   * beginning. What it didn't take over is another matter (`covers`, docs/design-traps.md, T2).
   */
  isAcknowledged(at: Position): boolean {
    return covers(this.#acknowledged, at, this.#history) || (this.#tenure?.identity.epoch ?? 0) > at.epoch;
  }

  /**
   * The epoch in which what is read there could be shown to be durable: it has that of the present primary, and no later one as long as
   * that one's lease is held (docs/design-traps.md, B7). Undefined where it can't be shown.
   */
  provableAt(place: Place): number | undefined {
    const epoch = this.positionOf(place)?.epoch;
    const isSafe = this.#acknowledgements !== undefined && this.#acknowledgements > 0;
    return isSafe && epoch !== undefined && this.#isOf(epoch) ? epoch : undefined;
  }

  /** Where a member that is provable at that epoch has replayed, asked after the snapshot of what it has shown. */
  isDurable({ epoch, lsn }: Position): boolean {
    return this.#isOf(epoch) && this.#acknowledged.lsn >= lsn;
  }

  #isOf(epoch: number): boolean {
    const tenure = this.#tenure;
    return tenure?.isHeld === true && tenure.identity.epoch === epoch && this.#acknowledged.epoch === epoch;
  }

  get newestSample(): Sample | undefined {
    return this.#samples.newest;
  }

  /** The record's own, or a part of it. */
  learnHistory(entries: History): void {
    const known = new Map(this.#history.map((entry) => [entry.epoch, entry]));
    if (entries.every(({ epoch }) => known.has(epoch))) return;
    for (const entry of entries) known.set(entry.epoch, entry);
    this.#history = [...known.values()].toSorted((one, other) => one.epoch - other.epoch);
  }

  /**
   * An agent's answer. `primaryEpoch`: the highest epoch that is known, if this is its primary, and it held its lease when it
   * answered: then nobody else had committed anything by the time of its position.
   */
  take(answer: AuthorityAnswer, sent: Sent, primaryEpoch: number | undefined): void {
    if (answer.history !== undefined) this.learnHistory(answer.history);
    const { position } = answer;
    if (position !== undefined) this.#place(answer.member, position, sent, primaryEpoch);
    if (primaryEpoch === undefined) return;
    this.#takeKeepers(answer, sent, primaryEpoch);
    const { acknowledged } = answer;
    if (acknowledged?.epoch === primaryEpoch)
      this.#acknowledged = laterOf(this.#acknowledged, { epoch: primaryEpoch, lsn: parseLsn(acknowledged.lsn) });
    this.#takeTenure(answer, sent, primaryEpoch);
  }

  #takeTenure({ member, primary }: AuthorityAnswer, { bootMs }: Sent, epoch: number): void {
    if (primary === undefined) return;
    const { leaseNumber: number } = primary;
    const horizonMs = bootMs + deliverableMs(primary.leaseRemainingMs);
    const before = this.#tenure?.identity;
    if (before?.epoch === epoch && before.number === number) return this.#tenure?.extend(bootMs, horizonMs);
    this.#tenure?.end();
    this.#tenure = new Lease({ member: member.name, epoch, number }, horizonMs, this.#watch);
  }

  /** A check of its own on a connection to that Postgres. Of its epoch the check says nothing: what is known of that stays. */
  sawReplay(place: Place, lsn: Lsn): Position | undefined {
    const bound = this.#bounds.get(place.member);
    if (bound === undefined || bound.postmaster !== place.postmaster) return undefined;
    const position = laterOf(bound.position, { epoch: bound.position.epoch, lsn });
    this.#bounds.set(place.member, { ...bound, position });
    return position;
  }

  /** How far it surely is; undefined where nothing is known of that run of it. */
  positionOf(place: Place): Position | undefined {
    const bound = this.#bounds.get(place.member);
    return bound?.postmaster === place.postmaster ? bound.position : undefined;
  }

  /** The run of it that was heard of last. */
  lastRunOf(member: string): Place | undefined {
    return this.#bounds.get(member);
  }

  hasSeen(at: Position, needed: Position): boolean {
    return covers(at, needed, this.#history);
  }

  /** Who is there isn't older than this, on the boot-time clock; undefined where nothing says so. */
  asOfMs(at: Position): number | undefined {
    return this.#samples.newestSeenBy(at, this.#history)?.atMs;
  }

  /** On the boot-time clock, never behind the true time. */
  get nowMs(): number {
    return this.#watch.clock.latestMs();
  }

  /** Surely before that time now. */
  isBefore(limitMs: number): boolean {
    return this.#watch.clock.isBefore(limitMs);
  }

  /**
   * A position that includes whatever was to be seen at a place up to a time (monotonic): of the same run, asked later, or of a
   * primary, asked later, since nobody has what its primary hasn't. Undefined until there is one.
   */
  reachedBy(place: Place | undefined, sinceMs: number): Position | undefined {
    const ofRun = [this.#bounds, this.#former]
      .map((bounds) => (place === undefined ? undefined : bounds.get(place.member)))
      .find((bound) => bound !== undefined && bound.postmaster === place?.postmaster && bound.askedMs >= sinceMs);
    return ofRun?.position ?? this.#samples.firstAskedSince(sinceMs)?.position;
  }

  /** Under which a causal read of that member may be delivered, held or not at the moment: what it shows can't be lost with others (docs/design-traps.md, A17). */
  keeperOf(place: Place): Lease | undefined {
    const bound = this.#bounds.get(place.member);
    if (bound === undefined || bound.postmaster !== place.postmaster || bound.position.epoch < this.#keepersEpoch)
      return undefined;
    return this.#keepers.get(replicationName(bound.identity));
  }

  /** The shard isn't known any more. */
  forget(): void {
    this.#dropKeepers();
    this.#tenure?.end();
  }

  #place(
    identity: MemberIdentity,
    said: NonNullable<AuthorityAnswer['position']>,
    sent: Sent,
    primaryEpoch: number | undefined,
  ): void {
    const { postmaster, begunMs, isRecovering } = said;
    const askedMs = sent.monotonicMs + begunMs;
    const position = { epoch: said.epoch, lsn: parseLsn(said.lsn) };
    const before = this.#bounds.get(identity.name);
    if (before !== undefined && before.postmaster !== postmaster) this.#former.set(identity.name, before);
    const isSameRun = before?.postmaster === postmaster;
    this.#bounds.set(identity.name, {
      member: identity.name,
      identity,
      postmaster,
      position: isSameRun ? laterOf(before.position, position) : position,
      askedMs: isSameRun ? Math.max(before.askedMs, askedMs) : askedMs,
    });
    if (primaryEpoch === undefined || isRecovering || position.epoch !== primaryEpoch) return;
    this.#samples.add({ position, atMs: sent.bootMs + begunMs, askedMs });
  }

  /**
   * With k = 1 a follower that counts has, with what it shows, made it safe. With k > 1 others must have it as well, which has to be
   * shown of each answer (`isDurable`), so nobody counts; with k = 0 nothing is promised, and everybody does.
   */
  #takeKeepers({ member, keepers }: AuthorityAnswer, { bootMs }: Sent, epoch: number): void {
    if (epoch !== this.#keepersEpoch) this.#dropKeepers();
    this.#keepersEpoch = epoch;
    if (keepers === undefined) return;
    this.#acknowledgements = keepers.acknowledgements;
    const everybody = [...this.#bounds.values()].map(({ identity }) => identity);
    const counted = keepers.acknowledgements === 0 ? everybody : keepers.acknowledgements === 1 ? keepers.members : [];
    const names = new Set(counted.map(replicationName));
    for (const [name, lease] of this.#keepers) {
      if (names.has(name)) continue;
      lease.end();
      this.#keepers.delete(name);
    }
    for (const name of names) {
      const lease = this.#keepers.get(name);
      if (lease !== undefined) lease.extend(bootMs, bootMs + membershipHeldMs);
      else
        this.#keepers.set(
          name,
          new Lease({ member: member.name, epoch, number: 0 }, bootMs + membershipHeldMs, this.#watch),
        );
    }
  }

  #dropKeepers(): void {
    for (const lease of this.#keepers.values()) lease.end();
    this.#keepers.clear();
  }
}
