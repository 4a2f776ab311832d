/**
 * The connections that quick statements of one role share at one member, under the same settings: few, so that each is well used, and
 * more only while what is in line would take too long. They are borrowed from the pool while something is in line, and go back when
 * nothing is, or when somebody waits for a connection of their own. Those who stand behind a statement that turns out to take long are
 * called away and run elsewhere ("The Tail at Scale", Dean and Barroso 2013: hedged requests).
 * Leaves to others: pipelining itself (pipe.ts), what may share (session/, the planner), where else a statement can go (session/).
 */
import type { AnswerLease, Backend } from './backend.ts';
import { checkoutStatements } from './hygiene.ts';
import { type Load, Pipe, type PipeOwner, type Rider } from './pipe.ts';
import type { Pool } from './pool.ts';
import type { Progress } from './progress.ts';

export interface LaneOptions {
  readonly pool: Pool;
  /** As `SessionSettings.replayText`. */
  readonly settings: string;
  /** Under which a member may be sent something that needs it now. */
  readonly leaseOf: (member: string) => AnswerLease | undefined;
  readonly flushLater: (pipe: Pipe) => void;
  readonly load: Load;
}

/** So many connections can take all that one event loop has to send, where statements are as short as most are. */
const fewPipes = 4;
/** Another is taken when the shortest line would take longer than this. */
const growMicros = 300;
/** What setting another tenant costs, about. */
const pinMicros = 50;
/** A line that stands still is worse than any that moves. */
const stuckMicros = 1e9;
/** How often those in line are looked after, in milliseconds: what takes as long is noticed within twice that. */
const lookMs = 2;
/** Where there are a few, only for statements that take longer than most: one loop can have more of those run at once. */
const longMicros = 250;
const growForLongMicros = 3_000;

export class Lane implements PipeOwner {
  readonly #options: LaneOptions;
  readonly #pipes: Pipe[] = [];
  /** Those who wait for the first connection, or for a statement to be made. */
  #waiting: Rider[] = [];
  #isTaking = false;
  /** Runs while somebody stands behind another. */
  #looking: NodeJS.Timeout | undefined;
  #isLooking = false;
  #lookedMs = 0;

  constructor(options: LaneOptions) {
    this.#options = options;
  }

  get load(): Load {
    return this.#options.load;
  }

  get progress(): Progress {
    return this.#options.pool.progress;
  }

  get isUnused(): boolean {
    return this.#pipes.length === 0 && this.#waiting.length === 0 && !this.#isTaking;
  }

  /** Sends it, or keeps it until there is a connection; the rider hears of either. */
  submit(rider: Rider): void {
    const nowMs = performance.now();
    const best = this.#best(rider, nowMs);
    if (best === undefined) {
      this.#waiting.push(rider);
      return this.#take();
    }
    if (this.#isTooLong(best, rider, nowMs) && this.#options.pool.hasRoom) {
      this.#waiting.push(rider);
      return this.#take();
    }
    best.add(rider, nowMs);
    if (best.length > 1) this.#lookAfter(nowMs);
  }

  /** Not wanted any more. False: it has been sent. */
  withdraw(rider: Rider): boolean {
    const index = this.#waiting.indexOf(rider);
    if (index === -1) return false;
    this.#waiting.splice(index, 1);
    return true;
  }

  #isTooLong(best: Pipe, { cost }: Rider, nowMs: number): boolean {
    const isStuck = best.isStuck(nowMs);
    if (this.#pipes.length < fewPipes) return isStuck || best.backlogMicros > growMicros;
    // A busy member makes all lines slow, and more connections make it busier.
    return (isStuck && best.isOvertaken) || (cost.micros > longMicros && best.backlogMicros > growForLongMicros);
  }

  #lookAfter(nowMs: number): void {
    if (this.#isLooking) return;
    this.#isLooking = true;
    this.#lookedMs = nowMs;
    if (this.#looking === undefined) this.#looking = setTimeout(() => this.#look(), lookMs).unref();
    else this.#looking.refresh();
  }

  #look(): void {
    const nowMs = performance.now();
    const isOnTime = nowMs - this.#lookedMs < 2 * lookMs + 1;
    this.#lookedMs = nowMs;
    let isCrowded = false;
    for (const pipe of this.#pipes) pipe.look(isOnTime, nowMs);
    for (const pipe of this.#pipes.slice()) {
      if (pipe.length < 2) continue;
      isCrowded = true;
      if (!pipe.isHeldUp || !this.#hasAnother(pipe, nowMs)) continue;
      for (const rider of pipe.callAway())
        if (rider.isRevoked) rider.turnedAway();
        else this.submit(rider);
    }
    this.#isLooking = isCrowded;
    if (isCrowded) this.#looking?.refresh();
  }

  /** Somewhere else those behind a stuck head would be better off. */
  #hasAnother(stuck: Pipe, nowMs: number): boolean {
    const { pool } = this.#options;
    if (pool.isWanted) return false;
    if (this.#pipes.some((pipe) => pipe !== stuck && !pipe.isStuck(nowMs) && pool.isCurrent(pipe.backend))) return true;
    return pool.hasRoom && (this.#pipes.length < fewPipes || stuck.isOvertaken);
  }

  /** The shortest line, one that is pinned already before others. */
  #best(rider: Rider, nowMs: number): Pipe | undefined {
    const { pool } = this.#options;
    // Somebody waits for a connection of their own: these are let run empty, one after the other.
    if (this.#pipes.length === 0 || pool.isWanted) return undefined;
    const lease = rider.needsLease ? this.#options.leaseOf(this.#options.pool.member) : undefined;
    let best: Pipe | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (const pipe of this.#pipes) {
      if (rider.needsLease && pipe.lease !== lease) continue;
      if (!pool.isCurrent(pipe.backend) || (rider.needs !== '' && pipe.isMaking(rider.needs))) continue;
      const isPinned = rider.pin === undefined || rider.pin === (pipe.backend.pin ?? '');
      const backlog = pipe.backlogMicros + (isPinned ? 0 : pinMicros) + (pipe.isStuck(nowMs) ? stuckMicros : 0);
      if (backlog < least) {
        least = backlog;
        best = pipe;
      }
    }
    return best;
  }

  #take(): void {
    if (this.#isTaking) return;
    this.#isTaking = true;
    const { pool, settings } = this.#options;
    const first = this.#waiting[0];
    pool.take(
      {
        give: (backend) => this.#prepare(backend),
        fail: () => {
          this.#isTaking = false;
          for (const rider of this.#waiting.splice(0)) rider.turnedAway();
        },
      },
      { settings, pin: first?.pin, mayBePinned: true },
    );
  }

  /** Its settings have to be those of this lane before anything is sent. */
  #prepare(backend: Backend): void {
    const { pool, settings } = this.#options;
    const statements = checkoutStatements(backend.settings, settings);
    if (statements.length === 0) return this.#open(backend);
    let left = statements.length;
    let hasFailed = false;
    const bytes = statements.map((sql) =>
      backend.ownQuery(sql, ({ error }) => {
        hasFailed ||= error !== undefined;
        left -= 1;
        if (left > 0) return;
        if (hasFailed || backend.isClosed) {
          backend.isSuspect = true;
          pool.giveBack(backend);
          this.#isTaking = false;
          for (const rider of this.#waiting.splice(0)) rider.turnedAway();
          return;
        }
        backend.settings = settings;
        // RESET ALL has taken the pin.
        if (backend.pin !== undefined && backend.pin !== '') backend.pin = '';
        this.#open(backend);
      }),
    );
    backend.write(Buffer.concat(bytes));
  }

  #open(backend: Backend): void {
    this.#isTaking = false;
    const waiting = this.#waiting;
    this.#waiting = [];
    const lease = this.#options.leaseOf(this.#options.pool.member);
    const pipe = new Pipe(backend, lease, this);
    this.#pipes.push(pipe);
    const nowMs = performance.now();
    for (const rider of waiting) {
      if (rider.isGone) continue;
      if (rider.isRevoked || (rider.needsLease && lease === undefined)) rider.turnedAway();
      else if (rider.needs !== '' && pipe.isMaking(rider.needs)) this.#waiting.push(rider);
      else pipe.add(rider, nowMs, waiting.length > 1);
    }
    if (pipe.length === 0) this.emptied(pipe);
    else if (pipe.length > 1) this.#lookAfter(nowMs);
  }

  emptied(pipe: Pipe): void {
    if (this.#waiting.length > 0 && !this.#isTaking) this.#again();
    if (pipe.length > 0) return;
    this.#remove(pipe);
    const { backend } = pipe;
    backend.assign(undefined);
    this.#options.pool.giveBack(backend);
    if (this.#waiting.length > 0) this.#take();
  }

  progressed(_pipe: Pipe): void {
    if (this.#waiting.length > 0 && !this.#isTaking) this.#again();
  }

  /** Those who waited for a statement to be made. */
  #again(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const rider of waiting) {
      if (rider.isGone) continue;
      if (rider.isRevoked) rider.turnedAway();
      else this.submit(rider);
    }
  }

  gone(pipe: Pipe): void {
    this.#remove(pipe);
    if (this.#waiting.length > 0) this.#take();
  }

  flushLater(pipe: Pipe): void {
    this.#options.flushLater(pipe);
  }

  #remove(pipe: Pipe): void {
    const index = this.#pipes.indexOf(pipe);
    if (index !== -1) this.#pipes.splice(index, 1);
  }
}

/** The lanes of a worker, and the pipes that have something to send when the event loop comes round. */
export class Lanes {
  readonly #leaseOf: LaneOptions['leaseOf'];
  readonly #lanes = new Map<Pool, Map<string, Lane>>();
  #dirty: Pipe[] = [];
  readonly #flush = (): void => {
    const dirty = this.#dirty;
    this.#dirty = [];
    for (const pipe of dirty) pipe.flush();
  };
  readonly #load: Load = { riders: 0, lone: 0, spare: 64 };
  readonly #flushLater = (pipe: Pipe): void => {
    if (this.#dirty.push(pipe) === 1) setImmediate(this.#flush);
  };
  /** Lanes of one pool at most: sessions with settings of their own share with nobody. */
  readonly #maxLanes = 64;

  constructor(leaseOf: LaneOptions['leaseOf']) {
    this.#leaseOf = leaseOf;
  }

  of(pool: Pool, settings: string): Lane | undefined {
    let lanes = this.#lanes.get(pool);
    if (lanes === undefined) {
      if (this.#lanes.size >= 1_000) this.#dropUnused();
      lanes = new Map();
      this.#lanes.set(pool, lanes);
    }
    let lane = lanes.get(settings);
    if (lane === undefined) {
      if (lanes.size >= this.#maxLanes) {
        for (const [key, one] of lanes) if (one.isUnused) lanes.delete(key);
        if (lanes.size >= this.#maxLanes) return undefined;
      }
      lane = new Lane({ pool, settings, leaseOf: this.#leaseOf, flushLater: this.#flushLater, load: this.#load });
      lanes.set(settings, lane);
    }
    return lane;
  }

  #dropUnused(): void {
    for (const [pool, lanes] of this.#lanes) {
      for (const [key, lane] of lanes) if (lane.isUnused) lanes.delete(key);
      if (lanes.size === 0) this.#lanes.delete(pool);
    }
  }
}
