/**
 * One connection to a member that several clients' statements share by pipelining: each ends with a ReadyForQuery of its own, so that
 * the error of one is nobody else's, and answers come in the order in which statements were sent.
 * Leaves to others: which statements may share (plan-cost.ts, the planner), which connection they take (lane.ts).
 *
 * Invariants: what comes back goes to the statement at the head, whose client it is; a statement is in line exactly from its being
 * sent until its ReadyForQuery or the loss of the connection; no cancel is ever sent at a shared connection.
 */
import { backend as code, transactionStatus as tx } from '../wire/codes.ts';
import type { AnswerLease, Backend, BackendReceiver } from './backend.ts';
import type { Expectation } from './expectation.ts';
import { quoteLiteral } from './hygiene.ts';
import type { PlanCost } from './plan-cost.ts';
import type { Mark, Progress } from './progress.ts';

/** A client's statement that may share, and whom its answer goes to. The same object may come again once it is done. */
export interface Rider {
  readonly cost: PlanCost;
  /** Tenant that the connection has to be pinned to; undefined where its role is fixed to one. */
  readonly pin: string | undefined;
  /** Name at backends of the prepared statement that it needs; '' for none. */
  readonly needs: string;
  /** Its answers count only under a lease of the member's. */
  readonly needsLease: boolean;
  /** Nobody waits for its answer any more. */
  readonly isGone: boolean;
  /** While it waited, what its role may do has changed: a connection that is made now would act for others. */
  readonly isRevoked: boolean;
  /** Notes at the backend what it will answer, and gives the bytes; ends with a ReadyForQuery. */
  bytes(backend: Backend): Buffer[];
  /** It goes out by this one. */
  sent(pipe: Pipe): void;
  /** Whatever comes of it is its client's alone, and does nothing else. */
  readonly mayGoTwice: boolean;
  /** It is going to be sent by another, and whatever comes of it here is nobody's. */
  calledAway(): void;
  forward(bytes: Buffer): void;
  /** An error, while `due` was to be answered. False: the client isn't to hear of it, nor of the ReadyForQuery; the statement will be run another way. */
  failed(due: Expectation, buffer: Buffer, start: number, end: number): boolean;
  readonly isStale: boolean;
  /** A chunk ends in the middle of its answer. False: its client doesn't take it as fast. */
  flush(): boolean;
  /** Its ReadyForQuery was the last that `forward` got. */
  done(): void;
  /** The connection is gone; `partial`: half a message was forwarded. */
  lost(reason: string, partial: boolean): void;
  /** Nothing of it was sent, and nothing will be by this way. */
  turnedAway(): void;
}

/** Pieces longer than this together aren't copied into one. */
const joinBytes = 32 * 1024;
/** Nobody else is sent behind a statement that has taken longer. */
const stuckMs = 4;
/** Of all statements so many may be run a second time, and so many at once: a machine that is busy makes many of them late. */
const rescuedShare = 0.05;
const mostRescued = 256;
/**
 * Where so many in a row came by themselves, nothing is worth waiting for: with few clients each turn of the event loop counts. With
 * more, the first of those that come together must not go ahead: they would be answered in smaller and smaller portions.
 */
const loneRiders = 16;
/** A client that doesn't take its answer holds up those behind it no longer than this: then its connection ends. */
const stalledMs = 100;

/** How many statements are in line, at all pipes of a worker together. */
export interface Load {
  riders: number;
  /** So many in a row had nobody beside them. */
  lone: number;
  /** So many may be run a second time now. */
  spare: number;
}

/** In the place of one that was called away: takes its answer. */
class Vacancy implements Rider {
  readonly cost: PlanCost;
  readonly needs = '';
  readonly pin = undefined;
  readonly needsLease = false;
  readonly isGone = true;
  readonly isRevoked = false;
  readonly isStale = true;
  readonly mayGoTwice = false;

  constructor(cost: PlanCost) {
    this.cost = cost;
  }

  bytes = (): Buffer[] => [];
  sent(): void {}
  calledAway(): void {}
  forward(): void {}
  failed = (): boolean => false;
  flush = (): boolean => true;
  done(): void {}
  lost(): void {}
  turnedAway(): void {}
}

export interface PipeOwner {
  /** Of all connections of its pool. */
  readonly progress: Progress;
  /** Nothing is in line any more: it may go back to its pool. */
  emptied(pipe: Pipe): void;
  /** One less in line. */
  progressed(pipe: Pipe): void;
  gone(pipe: Pipe): void;
  /** Has `flush` called once, when what came together has been worked through. */
  flushLater(pipe: Pipe): void;
  readonly load: Load;
}

export class Pipe implements BackendReceiver {
  readonly backend: Backend;
  readonly lease: AnswerLease | undefined;
  readonly #owner: PipeOwner;
  #line: (Rider | undefined)[] = [];
  /** What each was expected to take when it was added. */
  #micros: number[] = [];
  #head = 0;
  #out: Buffer[] = [];
  #outBytes = 0;
  #backlogMicros = 0;
  #headSinceMs = 0;
  #headBytes = 0;
  /** When the head became it. */
  #headMark: Mark;
  /** Heads so far, and which of them was seen last. */
  #headCount = 0;
  #seenHead = -1;
  #isHeldUp = false;
  #stalled: NodeJS.Timeout | undefined;
  /** Names of prepared statements whose making isn't answered yet: should it fail, whoever relied on it would fail, too. */
  readonly #making = new Map<string, Rider>();

  constructor(backend: Backend, lease: AnswerLease | undefined, owner: PipeOwner) {
    this.backend = backend;
    this.lease = lease;
    this.#owner = owner;
    this.#headMark = owner.progress.mark;
    backend.assign(this);
    if (lease !== undefined) backend.believeUnder(lease);
  }

  get length(): number {
    return this.#line.length - this.#head;
  }

  /** How long what is in line will take, as far as is known. */
  get backlogMicros(): number {
    return this.#backlogMicros;
  }

  /** The head takes longer than it should, or its answer hasn't been read. */
  isStuck(nowMs: number): boolean {
    return this.#isHeldUp || (this.length > 0 && nowMs - this.#headSinceMs > stuckMs);
  }

  /** It is known that it isn't this program that is late. */
  get isHeldUp(): boolean {
    return this.#isHeldUp;
  }

  /** The head takes longer than it should, and not because nothing goes on. */
  get isOvertaken(): boolean {
    return this.length > 0 && this.#owner.progress.wentOnSince(this.#headMark);
  }

  /**
   * Called every few milliseconds while somebody stands in line. `isOnTime`: the event loop has turned since the last time, so that an
   * answer that was there would have been read. Where much is to do, each takes its time: a head that takes longer than all of its line
   * should is held up.
   */
  look(isOnTime: boolean, nowMs: number): void {
    const isLate = this.length > 0 && (nowMs - this.#headSinceMs) * 1_000 > this.#backlogMicros;
    this.#isHeldUp = isOnTime && isLate && this.#seenHead === this.#headCount;
    this.#seenHead = this.#headCount;
  }

  /** Takes those behind the head out of line, if need be not all of them: they are plain reads, which may be run a second time. */
  callAway(): Rider[] {
    const called: Rider[] = [];
    const { load } = this.#owner;
    for (let index = this.#head + 1; index < this.#line.length && load.spare >= 1; index++) {
      const rider = this.#line[index] as Rider;
      // What makes a statement here makes it for others, too.
      if (rider.isGone || !rider.mayGoTwice || this.#making.get(rider.needs) === rider) continue;
      load.spare -= 1;
      this.#line[index] = new Vacancy(rider.cost);
      rider.calledAway();
      called.push(rider);
    }
    return called;
  }

  /** A statement that another has made here and that may not be there yet. */
  isMaking(name: string): boolean {
    return this.#making.has(name);
  }

  /** `isFollowed`: others are added in a moment. */
  add(rider: Rider, nowMs: number, isFollowed = false): void {
    const { backend } = this;
    if (this.length === 0) {
      this.#headSinceMs = nowMs;
      this.#headMark = this.#owner.progress.mark;
    }
    const isFirst = this.#out.length === 0;
    if (rider.pin !== undefined && rider.pin !== (backend.pin ?? '')) this.#setPin(rider.pin);
    const isMade = rider.needs === '' || backend.prepared.has(rider.needs);
    this.#line.push(rider);
    if (!isMade) this.#making.set(rider.needs, rider);
    this.#micros.push(rider.cost.micros);
    this.#backlogMicros += rider.cost.micros;
    rider.sent(this);
    for (const bytes of rider.bytes(backend)) this.#push(bytes);
    const { load } = this.#owner;
    load.riders += 1;
    load.lone = load.riders === 1 ? load.lone + 1 : 0;
    if (load.lone > loneRiders && !isFollowed) this.flush();
    else if (isFirst) this.#owner.flushLater(this);
  }

  #push(bytes: Buffer): void {
    this.#out.push(bytes);
    this.#outBytes += bytes.length;
  }

  /** With a Sync of its own (trap B17). Where it fails, what follows would run as another tenant: none of it is delivered. */
  #setPin(pin: string): void {
    const { backend } = this;
    backend.pin = pin;
    this.#push(
      backend.ownQuery(`SET meridian.tenant = ${quoteLiteral(pin)}`, ({ error }) => {
        if (error !== undefined && !backend.isClosed)
          backend.close(`its tenant could not be set: ${error.get('M') ?? ''}`);
      }),
    );
  }

  /** Sends what has been added since the last time. */
  flush(): void {
    const pieces = this.#out;
    const bytes = this.#outBytes;
    if (pieces.length === 0) return;
    this.#out = [];
    this.#outBytes = 0;
    if (pieces.length === 1) this.backend.write(pieces[0] as Buffer);
    else if (bytes <= joinBytes) this.backend.write(Buffer.concat(pieces, bytes));
    else for (const piece of pieces) this.backend.write(piece);
  }

  forward(bytes: Buffer): void {
    this.#headBytes += bytes.length;
    this.#line[this.#head]?.forward(bytes);
  }

  observe(type: number, due: Expectation, buffer: Buffer, start: number, end: number): boolean {
    const rider = this.#line[this.#head];
    if (type === code.error) return rider?.failed(due, buffer, start, end) ?? true;
    return type !== code.readyForQuery || rider?.isStale !== true;
  }

  notified(): void {
    // Whoever listens has a connection of its own.
  }

  ready(status: number): void {
    const rider = this.#line[this.#head];
    if (rider === undefined) return this.backend.close('an answer that nobody waits for');
    const { load, progress } = this.#owner;
    load.riders -= 1;
    load.spare = Math.min(mostRescued, load.spare + rescuedShare);
    this.#line[this.#head] = undefined;
    this.#backlogMicros -= this.#micros[this.#head] as number;
    this.#head += 1;
    this.#headCount += 1;
    this.#isHeldUp = false;
    if (this.#head === this.#line.length) {
      this.#line = [];
      this.#micros = [];
      this.#backlogMicros = 0;
      this.#head = 0;
    }
    if (this.#making.size > 0 && this.#making.get(rider.needs) === rider) this.#making.delete(rider.needs);
    const nowMs = performance.now();
    const othersWentOn = progress.wentOnSince(this.#headMark);
    const micros = (nowMs - this.#headSinceMs) * 1_000;
    rider.cost.noteShared(micros, this.#headBytes, othersWentOn, nowMs);
    progress.answered();
    progress.tally.queryMicros += micros;
    this.#headMark = progress.mark;
    this.#headSinceMs = nowMs;
    this.#headBytes = 0;
    rider.done();
    // A plain SELECT by itself leaves no transaction: whatever this is, nobody else gets it.
    if (status !== tx.idle) this.backend.close('a shared statement left a transaction open');
    if (this.backend.isClosed) return;
    if (this.length === 0) this.#owner.emptied(this);
    else this.#owner.progressed(this);
  }

  chunkEnd(): void {
    if (this.#headBytes === 0 || this.#line[this.#head]?.flush() !== false || this.#stalled !== undefined) return;
    const slow = this.#line[this.#head] as Rider;
    this.backend.pause();
    this.#stalled = setInterval(() => {
      // Nobody takes the rest any more: it is read all the same, or the member would wait for ever.
      if (slow.isGone) return this.resume();
      if (this.#line.findLast((rider) => rider?.isGone === false) === slow) return;
      slow.lost('its client does not take the answer of a statement that others wait behind', true);
      this.resume();
    }, stalledMs).unref();
  }

  /** The client at the head takes its answer again. */
  resume(): void {
    clearInterval(this.#stalled);
    this.#stalled = undefined;
    if (!this.backend.isClosed) this.backend.resume();
  }

  lost(reason: string, partial: boolean): void {
    clearInterval(this.#stalled);
    const riders = this.#line.slice(this.#head);
    this.#owner.load.riders -= riders.length;
    this.#line = [];
    this.#micros = [];
    this.#head = 0;
    this.#out = [];
    this.#outBytes = 0;
    this.#owner.gone(this);
    for (const [index, rider] of riders.entries()) rider?.lost(reason, partial && index === 0);
  }

  drained(): void {
    // Statements that share are short: what the socket holds of them is bounded by the clients' number.
  }
}
