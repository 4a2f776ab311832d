/**
 * A session's hold on a backend: borrows one for a request, prepares it (settings, pin, a transaction that was begun lazily), sends,
 * and gives the backend back when no transaction is open at it and nothing of the session is left in it. Leaves to others: what is sent
 * and where (session.ts), what answers mean (answers.ts), what is left (keeping.ts), who else waits (pool/), bytes (pool/backend.ts).
 *
 * Invariants: a backend is held exactly while a transaction of this client may be open at it, something sent is unanswered, or it is
 * kept; nothing reaches the client that doesn't answer what it sent, but for notifications that it listens for; nothing is sent to a
 * backend while a cancel aimed at it may still arrive.
 */
import type { RouterContext } from '../context.ts';
import { RouterError } from '../errors.ts';
import type { Backend, BackendReceiver } from '../pool/backend.ts';
import { CostWatch } from '../pool/cost-watch.ts';
import type { Expectation } from '../pool/expectation.ts';
import { checkoutStatements } from '../pool/hygiene.ts';
import { backend as code, transactionStatus as tx } from '../wire/codes.ts';
import { readNotification, readyForQuery } from '../wire/server-messages.ts';
import { Answers } from './answers.ts';
import type { Borrower, Request, SilentAnswer } from './borrower.ts';
import { type Bound, beginFailed, boundTo, pinStatements, sayFirst, stay, suspect } from './bound.ts';
import { Cancelling } from './cancelling.ts';
import { forgetKeeping, Keeper, tooManyKept } from './keeper.ts';
import { surelyBegins } from './keeping.ts';
import { borrowRefusal, cancelled, keptLost, lossError } from './loss.ts';
import { Reading } from './reading.ts';
import { type Found, Search } from './search.ts';
import { failInTurn } from './send.ts';
import { Served } from './served.ts';
import { Sightings, type Waited } from './sightings.ts';
import { endsFailure } from './transaction.ts';
import { Trial } from './trial.ts';

/** Backends that a request may lose before a byte of it was sent. */
const maxAttempts = 5;

export class Loan implements BackendReceiver {
  readonly #context: RouterContext;
  readonly #session: Borrower;
  #phase: 'rest' | 'waiting' | 'busy' = 'rest';
  #bound: Bound | undefined;
  /** Messages were sent that no Sync has followed yet. */
  #isOpen = false;
  /** A borrowed backend is made ready for the request. */
  #isPreparing = false;
  /** The request was cancelled meanwhile. */
  #wasCancelled = false;
  readonly #keeper: Keeper;
  readonly #answers: Answers;
  readonly #watch: CostWatch;
  #search: Search | undefined;
  /** Backends that were lost before a byte of the request was sent. */
  #attempts = 0;
  readonly #cancelling: Cancelling;
  readonly #reading: Reading;
  readonly #sightings: Sightings;
  readonly #trial: Trial;
  readonly served: Served;

  constructor(context: RouterContext, session: Borrower) {
    this.#context = context;
    this.#session = session;
    this.#cancelling = new Cancelling(context);
    this.served = new Served(context.metrics);
    this.#watch = new CostWatch(context.costs);
    this.#keeper = new Keeper(context, this);
    this.#sightings = new Sightings(context, session);
    this.#reading = new Reading(context, session);
    this.#trial = new Trial(this.#reading, {
      isBound: (bound) => this.#bound === bound,
      shown: ({ bytes, status }) => {
        for (const each of bytes) this.forward(each);
        this.#ready(status, false, false);
      },
      failed: (isAnswered) => {
        if (isAnswered) this.#release();
        this.#elsewhere();
      },
    });
    this.#answers = new Answers(session, () => this.#isPinnedBySetting);
  }

  /** The next message may be taken: nothing is due, and no cancel may still hit what would be sent. */
  get isAtRest(): boolean {
    return this.#phase === 'rest' && !this.#cancelling.isUnderWay;
  }

  get isBound(): boolean {
    return this.#bound !== undefined;
  }

  get isKept(): boolean {
    return this.#bound?.isKept === true;
  }

  get backend(): Backend | undefined {
    return this.#bound?.backend;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  get isJammed(): boolean {
    return this.#bound?.backend.isFull === true;
  }

  resume(): void {
    this.#bound?.backend.resume();
  }

  pause(): void {
    this.#bound?.backend.pause();
  }

  // ---- borrowing

  /** @throws RouterError when the request can't run where the transaction is. */
  run(request: Request): void {
    if (request.silent === undefined && request.isSpent !== true)
      this.#session.limits.spend(request.route, request.plans);
    const bound = this.#bound;
    if (bound !== undefined) {
      if (request.repins === true && request.route.tenant !== bound.tenant) bound.tenant = undefined;
      stay(bound, request.route, this.#isPinnedBySetting, this.#context.authority, this.#session.routing.positions);
      if (!this.#keeper.admits(bound, request)) throw tooManyKept();
      this.#answers.request = request;
      // Begun for the client only, as COPY does, at a backend that is kept.
      return this.#send(bound, request, this.#session.transaction.takeLazy()[0]);
    }
    this.#answers.request = request;
    this.#attempts = 0;
    this.#reading.begin();
    this.#look(request);
  }

  /** Roles fixed to one tenant are pinned by Postgres itself, by their login. */
  get #isPinnedBySetting(): boolean {
    return this.#session.login.fixedTenant === undefined;
  }

  #look(request: Request): void {
    this.#phase = 'waiting';
    this.#search = new Search(this.#context, {
      route: request.route,
      role: this.#session.login.role,
      bytes: request.size,
      ...this.#session.limits.wanted(request.route, this.#pinFor(request.route.tenant)),
      previous: this.served.previousReader(request.route.shard),
      ...this.#reading.wishFor(request),
      map: () => this.#session.routing.map(),
      found: (found) => this.#borrowed(found, request),
      failed: (error) => this.#refuse(error, request),
    });
    this.#search.look();
  }

  #refuse(error: RouterError, request: Request): void {
    this.#search = undefined;
    this.#phase = 'rest';
    if (this.#session.isClosed) return;
    if (request.silent === undefined) return this.#session.refused(error, request);
    request.silent.failed(error);
    if (!this.#session.isClosed) this.#session.settled();
  }

  #borrowed(found: Found, request: Request): void {
    this.#search = undefined;
    const { backend, pool, lease, read } = found;
    if (this.#session.isClosed) return pool.giveBack(backend);
    // While it waited, its role may have come to act for others: the backend would do so already.
    const revoked = this.#session.routing.revoked();
    if (revoked !== undefined) {
      pool.giveBack(backend);
      return this.#session.ended(revoked);
    }
    const bound = boundTo(found, {
      adoptions: this.#session.routing.positions.adoptions,
      begun: this.#session.transaction.takeLazy(),
      tenant: request.route.tenant,
      needsPin: this.#isPinnedBySetting,
    });
    this.#bound = bound;
    this.#phase = 'busy';
    backend.assign(this);
    if (lease !== undefined) backend.believeUnder(lease);
    if (!this.#keeper.admits(bound, request)) return this.#withdraw(tooManyKept(), request);
    if (read?.verdict === 'open' && !this.#reading.triesAtOnce(bound, request)) this.#check(bound, request);
    else this.#prepare(bound, request);
  }

  /** It isn't known that the follower has seen enough. */
  #check(bound: Bound, request: Request): void {
    this.#isPreparing = true;
    this.#wasCancelled = false;
    this.#reading.check(bound, (isMet) => {
      if (this.#bound !== bound) return;
      this.#isPreparing = false;
      if (isMet && !this.#wasCancelled) return this.#prepare(bound, request);
      this.#session.transaction.keepLazy(bound.begun);
      this.#release();
      this.#reading.leaveFollowers();
      this.#elsewhere();
    });
  }

  /** A read by itself, of which nothing has come to the client, is run once more. */
  #elsewhere(): void {
    const { request } = this.#answers;
    this.#bound = undefined;
    this.#trial.end();
    this.#answers.end();
    if (request === undefined) return;
    if (this.#wasCancelled) return this.#refuse(cancelled(), request);
    this.#look(request);
  }

  #prepare(bound: Bound, request: Request): void {
    const { backend, chosen, begun } = bound;
    const settings = this.#session.limits.settingsFor(request.route, backend);
    const statements = checkoutStatements(backend.settings, settings);
    // RESET ALL takes the pin.
    if (statements.length > 0) backend.isPinTrusted = false;
    const [begin = '', ...more] = begun;
    // With nothing else to wait for, a BEGIN that can't fail goes along with the first statement: one round trip less.
    if (statements.length === 0 && more.length === 0 && (begin === '' || surelyBegins(begin, chosen.isPrimary)))
      return this.#send(bound, request, begin);
    if (begun.length > 0) statements.push(...this.#pin(bound), ...begun);
    // The client's statement waits for these: it must not run under settings that aren't its session's, nor outside the transaction
    // that it was meant for, should its BEGIN fail.
    this.#isPreparing = true;
    this.#wasCancelled = false;
    sayFirst(backend, statements, (failure) => {
      if (this.#bound !== bound) return;
      this.#isPreparing = false;
      if (failure !== undefined) return this.#withdraw(borrowRefusal(failure), request);
      if (this.#wasCancelled) return this.#withdraw(cancelled(), request);
      backend.settings = settings;
      this.#send(bound, request);
    });
  }

  /** Not a byte of the request was sent. */
  #withdraw(error: RouterError, request: Request): void {
    if (this.#bound !== undefined) this.#bound.backend.isSuspect = true;
    this.#release();
    this.#refuse(error, request);
  }

  // ---- sending

  #send(bound: Bound, request: Request, begin = ''): void {
    const { backend, pool } = bound;
    if (bound.isKept) pool.rest(backend, false);
    this.#phase = request.ends ? 'busy' : 'rest';
    this.#isOpen = !request.ends;
    this.#answers.begin(request);
    this.#watch.begin(pool.progress);
    this.served.note(bound.chosen.member, bound.chosen.isPrimary);
    bound.hasAnswered = false;
    this.#wasCancelled = false;
    const parts: Buffer[] = [];
    const ahead = this.#trial.begin(bound);
    if (ahead !== undefined) parts.push(ahead);
    for (const sql of this.#pin(bound))
      parts.push(backend.ownQuery(sql, ({ error }) => this.#answers.pinFailed(error, backend)));
    if (begin !== '') parts.push(backend.ownQuery(begin, ({ error }) => beginFailed(error, backend)));
    suspect(bound, request.plans, this.#session.routing.volatileFunctions);
    parts.push(...request.bytes(backend, this.#answers.whenChanged(bound, this.#trial)));
    const question = this.#sightings.ask(bound, request, ({ status, isHeld }) => this.#ready(status, isHeld, true));
    const behind = question ?? this.#trial.behind(bound);
    if (behind !== undefined) parts.push(behind);
    if (parts.length > 0) backend.write(parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts));
    // After a Flush nothing needs to be answered for the next message to be taken, and it may be here already.
    if (!request.ends) this.#session.settled();
  }

  /** Refuses what would follow in the open pipeline, in its turn. */
  refuseInTurn(error: RouterError): void {
    if (this.#bound !== undefined) failInTurn(this.#bound.backend, error);
  }

  /** What the session is to be pinned to; undefined where its role is fixed to one tenant. */
  #pinFor(tenant: string | undefined): string | undefined {
    return this.#isPinnedBySetting ? (tenant ?? this.#session.settings.meridian.tenant ?? '') : undefined;
  }

  #pin(bound: Bound): string[] {
    return pinStatements(bound, this.#pinFor(bound.tenant) ?? '');
  }

  // ---- answers

  forward(bytes: Buffer): void {
    if (this.#trial.withholds(bytes)) return;
    if (!this.#answers.forward(bytes)) return;
    this.#watch.bytes += bytes.length;
    if (this.#bound !== undefined) this.#bound.hasAnswered = true;
    this.#context.metrics.add('server_bytes_total', bytes.length);
    this.#session.say(bytes);
  }

  observe(type: number, _expectation: Expectation, buffer: Buffer, start: number, end: number): boolean {
    const isForClient = this.#answers.observe(type, buffer, start, end, this.#bound);
    return isForClient && (type !== code.readyForQuery || !this.#sightings.holdsReady);
  }

  notified(buffer: Buffer, start: number, end: number): void {
    const { processId, channel, payload } = readNotification(buffer, start, end);
    this.#session.notified(processId, channel, payload);
  }

  ready(status: number): void {
    if (this.#trial.withholdsReady(status)) return;
    if (!this.#sightings.waits(status)) this.#ready(status, false, false);
  }

  /** `isHeld`: the ReadyForQuery wasn't passed on. `isPlaced`: where the primary was by then is known. */
  #ready(status: number, isHeld: boolean, isPlaced: boolean): void {
    const { transaction } = this.#session;
    const isOurs = this.#answers.endsDifferently || isHeld;
    const { hasFailed } = this.#answers.segment;
    const { request } = this.#answers;
    if (request !== undefined) this.#watch.end(request.plans);
    const answer = this.#answers.end();
    this.#isOpen = false;
    transaction.status = transaction.isRefused && status === tx.open ? tx.failed : status;
    const bound = this.#bound;
    if (status === tx.idle) {
      this.#context.metrics.add('transactions_total');
      transaction.ended(hasFailed);
      if (bound !== undefined && !isPlaced) this.#sightings.sighted(bound);
      if (bound !== undefined && !bound.isKept && !bound.isToBeAsked) this.#release();
    }
    this.#session.segmentEnded(hasFailed || transaction.isRefused);
    if (request?.isImplied === true) {
      if (hasFailed) this.#session.skipToSync();
    } else if (isOurs && request !== undefined && request.silent === undefined && !answer.isStale) {
      if (!hasFailed) this.#session.answer(request.trailing);
      this.#session.say(readyForQuery(transaction.status));
    }
    if (status !== tx.idle || bound === undefined || this.#bound !== bound) return this.#over(request, answer);
    this.#keeper.settle(bound, this.#session.settings, this.#isPinnedBySetting, (fate) => {
      if (this.#bound !== bound) return;
      if (fate === 'refused') return this.#session.ended(tooManyKept());
      if (fate === 'let-go') this.#release();
      this.#over(request, answer);
    });
  }

  #over(request: Request | undefined, answer: SilentAnswer): void {
    this.#phase = 'rest';
    // A session that says nothing more keeps nothing of what it said last.
    this.#answers.request = undefined;
    if (request !== undefined && !answer.isStale) this.served.noteAnswer();
    if (answer.isStale) request?.again?.();
    else request?.silent?.answered(answer);
    if (!this.#session.isClosed) this.#session.settled();
  }

  /** DISCARD ALL, or the like: nothing is left to keep the backend for. */
  letGo(): void {
    if (this.#bound?.isKept === true && this.isAtRest && !this.#isOpen) this.#release();
  }

  chunkEnd(): void {
    if (!this.#session.flush()) this.pause();
  }

  drained(): void {
    if (!this.#session.isClosed) this.#session.settled();
  }

  // ---- letting go

  #release(): void {
    const bound = this.#bound;
    if (bound === undefined) return;
    this.#bound = undefined;
    const { backend, pool } = bound;
    backend.assign(undefined);
    backend.resume();
    if (bound.isKept) backend.isSuspect = true;
    if (!backend.isSuspect) backend.settings = this.#session.limits.left(backend);
    const cancelled = this.#cancelling.handOver();
    if (cancelled === undefined) return pool.giveBack(backend);
    void cancelled.finally(() => pool.giveBack(backend));
  }

  /** Closes the backend: what it holds is rolled back. */
  abandon(reason: string): void {
    const { backend } = this.#bound ?? {};
    this.#bound = undefined;
    this.#isOpen = false;
    backend?.assign(undefined);
    backend?.close(reason);
  }

  /** Not a byte of the request was sent: it looks for another. */
  #lostBefore(reason: string, request: Request): void {
    const begun = this.#bound?.begun ?? [];
    this.#bound = undefined;
    this.#isPreparing = false;
    this.#session.transaction.keepLazy(begun);
    if (this.#wasCancelled) return this.#refuse(cancelled(), request);
    this.#attempts += 1;
    if (this.#attempts < maxAttempts) return this.#look(request);
    this.#refuse(new RouterError('NoMember', `connections to members were lost again and again: ${reason}`), request);
  }

  lost(reason: string, partial: boolean): void {
    if (this.#session.isClosed) return;
    const { request } = this.#answers;
    if (this.#isPreparing && request !== undefined) return this.#lostBefore(reason, request);
    const isRunning = this.#phase === 'busy' && !this.#cancelling.isUnderWay;
    if (request !== undefined && isRunning && this.#reading.mayRunElsewhere(this.#bound, request)) {
      this.#reading.leaveFollowers();
      return this.#elsewhere();
    }
    const waited = this.#sightings.lost(this.#bound);
    if (waited !== undefined) return this.#lostAfter(waited, reason);
    this.#context.metrics.add('backend_losses_total');
    this.#context.log.info({ role: this.#session.login.role, servedBy: this.served.by, reason }, 'backend lost');
    const { transaction, settings } = this.#session;
    const wasInTransaction = !transaction.isIdle;
    const wasUnderWay = this.#phase === 'busy' || this.#isOpen;
    const hadAnswer = this.#answers.isMuted;
    const { plans, hasFailed } = this.#answers.segment;
    // What was kept is gone: nothing that the session does later would be what it seems.
    const isEnd = partial || this.#keeper.isAsking || this.#bound?.isKept === true;
    const error =
      isEnd && !wasInTransaction && (!wasUnderWay || this.#keeper.isAsking)
        ? keptLost(reason)
        : lossError(reason, wasInTransaction || hasFailed, plans);
    this.#bound = undefined;
    void this.#cancelling.handOver();
    this.#isPreparing = false;
    this.#answers.end();
    this.#isOpen = false;
    settings.rollback();
    // The client has half a message: nothing can be said after that.
    if (isEnd) return this.#session.ended(error);
    transaction.lose(plans.some((plan) => plan !== undefined && endsFailure(plan) === 'transaction'));
    this.#session.segmentEnded(true);
    if (!wasUnderWay) return transaction.loseSilently(error);
    this.#phase = 'rest';
    if (request?.silent !== undefined) request.silent.failed(error);
    else {
      if (!hadAnswer) this.#session.say(error.response());
      if (request?.ends === true && request.isImplied !== true) this.#session.say(readyForQuery(transaction.status));
      else this.#session.skipToSync();
    }
    if (!this.#session.isClosed) this.#session.settled();
  }

  /** All that was sent has been answered; only what the router asked besides hasn't. */
  #lostAfter({ status, isHeld }: Waited, reason: string): void {
    const wasKept = this.#bound !== undefined && forgetKeeping(this.#bound);
    this.#ready(status, isHeld, true);
    if (wasKept) this.#session.ended(keptLost(reason));
  }

  /** The client is gone. */
  close(): void {
    this.#search?.stop();
    const bound = this.#bound;
    this.#bound = undefined;
    if (bound === undefined) return;
    const { backend } = bound;
    backend.assign(undefined);
    // A query that runs on would keep the member's connection: it is cancelled where that can't touch a commit.
    if (backend.isAnswering && !this.#cancelling.isUnderWay && this.#mayCancel())
      void this.#context.cancelAt(backend.identity).catch(() => undefined);
    backend.close('the client is gone');
  }

  #mayCancel(): boolean {
    const { transaction, routing } = this.#session;
    return this.#answers.segment.mayBeCancelled(transaction.isOpen, routing.volatileFunctions);
  }

  cancel(): void {
    const { request } = this.#answers;
    if (this.#phase === 'waiting' && request !== undefined) {
      this.#search?.stop();
      return this.#refuse(cancelled(), request);
    }
    // It isn't for the router's own statements: it waits for them, and what they prepare isn't sent.
    if (this.#isPreparing || this.#trial.isUnderWay) {
      this.#wasCancelled = true;
      return;
    }
    const backend = this.#bound?.backend;
    if (backend === undefined || this.#cancelling.isUnderWay || !backend.isAnswering || !this.#mayCancel()) return;
    this.#cancelling.start(backend, () => {
      if (this.#phase === 'rest' && !this.#session.isClosed) this.#session.settled();
    });
  }
}
