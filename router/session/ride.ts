/**
 * A session's quick way to its member: a statement that may share a connection, by itself and outside a transaction, goes there without
 * a loan. Whether it may is decided here, for each statement anew; whatever may not goes the usual way (loan.ts), and so does what
 * could have gone this way but finds no connection.
 * Leaves to others: pipelining (pool/pipe.ts), where a statement belongs (session-routing.ts), messages (send.ts).
 */
import type { RouterContext } from '../context.ts';
import { RouterError } from '../errors.ts';
import { type BoundQuery, isOfStatement } from '../exec/parameterised.ts';
import type { PlannedStatement } from '../exec/plan-cache.ts';
import type { Route } from '../exec/route.ts';
import type { SessionLimits } from '../limits/session-limits.ts';
import type { Login } from '../map/logins.ts';
import type { MemberView } from '../map/map.ts';
import { slotOf } from '../metrics.ts';
import type { Backend } from '../pool/backend.ts';
import { type Expectation, expectQuery, expectSync } from '../pool/expectation.ts';
import type { Lane } from '../pool/lane.ts';
import type { Pipe, Rider } from '../pool/pipe.ts';
import { PlanCost } from '../pool/plan-cost.ts';
import { syncMessage } from '../wire/client-messages.ts';
import { transactionStatus as tx } from '../wire/codes.ts';
import { parseComplete, readErrorFields, readyForQuery } from '../wire/server-messages.ts';
import { isStalePlan } from './answers.ts';
import { type Operation, tellsAll } from './batch.ts';
import { cancelled, lossError, resultTypeChanged } from './loss.ts';
import { boundBytes, operationBytes } from './send.ts';
import type { Served } from './served.ts';
import type { SessionRouting } from './session-routing.ts';
import type { SessionSettings } from './settings.ts';

export interface RidingSession {
  readonly login: Login;
  readonly settings: SessionSettings;
  readonly routing: SessionRouting;
  readonly limits: SessionLimits;
  readonly isClosed: boolean;
  readonly loan: { readonly served: Served };
  say(bytes: Buffer): void;
  flush(): boolean;
  /** Its answer has been said whole. */
  rideEnded(hasFailed: boolean): void;
  ended(error: RouterError): void;
  resultTypeChanged(): void;
  /** It goes the usual way instead. */
  walk(what: Passage): void;
  /** The same, with what it has prepared made anew. */
  goAgain(what: Passage): void;
}

/** What is sent: a simple query as it came, or a batch that ends with a Sync. */
export interface Passage {
  readonly planned: PlannedStatement;
  readonly route: Route;
  readonly frame: Buffer | undefined;
  readonly operations: readonly Operation[];
}

const noCost = new PlanCost();
const sharedTotal = slotOf('shared_total');
const rescuedTotal = slotOf('rescued_total');
const parameterisedTotal = slotOf('parameterised_total');
const transactionsTotal = slotOf('transactions_total');
const serverBytesTotal = slotOf('server_bytes_total');

export class Ride implements Rider {
  readonly #context: RouterContext;
  readonly #session: RidingSession;
  #passage: Passage | undefined;
  #lane: Lane | undefined;
  #pipe: Pipe | undefined;
  #hasFailed = false;
  /** As in answers.ts. */
  #hasAnswered = false;
  #isStale = false;
  /** It gives something else than its client was told. */
  #hasChanged = false;
  /** What is sent in the place of a simple query. */
  #bound: BoundQuery | undefined;
  /** It can't be said with parameters. */
  #isUnfit = false;
  /** Of the last one. */
  member: MemberView | undefined;
  cost: PlanCost = noCost;
  pin: string | undefined;
  needs = '';
  needsLease = false;

  constructor(context: RouterContext, session: RidingSession) {
    this.#context = context;
    this.#session = session;
  }

  get isUnderWay(): boolean {
    return this.#passage !== undefined;
  }

  get isGone(): boolean {
    return this.#passage === undefined || this.#session.isClosed;
  }

  get isRevoked(): boolean {
    return this.#session.routing.revoked() !== undefined;
  }

  /** The statement's plan may go this way as far as is known of it; where it would go isn't decided yet. */
  mayTake({ plan }: PlannedStatement): boolean {
    if (!plan.mayShare || plan.refuse !== undefined) return false;
    this.cost = this.#context.costs.of(plan);
    return this.cost.mayShare(performance.now());
  }

  /** After `mayTake` of the same. False: it has to go the usual way. */
  start(passage: Passage): boolean {
    const { route, planned } = passage;
    const { authority, hold, lanes, pools } = this.#context;
    const { shard } = route;
    if (shard === undefined || !route.primaryOnly) return false;
    const map = this.#context.map();
    const member = map?.members.get(map.shards.get(shard)?.primary ?? '');
    if (member === undefined || hold.isHolding(shard) || authority.leaseOf(member.name) === undefined) return false;
    const { login, settings, routing, limits } = this.#session;
    // Where the primary was has to be asked behind it.
    if (routing.positions.isAware) return false;
    if (limits.needsOwnConnection(route)) return false;
    const lane = lanes.of(pools.of(member.name, login.role), settings.replayText);
    if (lane === undefined) return false;
    limits.spend(route, [planned.plan]);
    this.#passage = passage;
    this.#lane = lane;
    this.#pipe = undefined;
    this.#hasFailed = false;
    this.#hasAnswered = false;
    this.#isStale = false;
    this.#hasChanged = false;
    this.#isUnfit = false;
    const { template } = planned;
    this.#bound =
      passage.frame === undefined || template === undefined
        ? undefined
        : this.#context.parameterised?.bind(passage.frame, template, settings.meaning);
    this.member = member;
    this.pin = login.fixedTenant === undefined ? (route.tenant ?? settings.meridian.tenant ?? '') : undefined;
    this.#noteNeeds();
    this.needsLease = route.primaryOnly;
    this.#context.metrics.addAt(sharedTotal, 1);
    if (this.#bound !== undefined) this.#context.metrics.addAt(parameterisedTotal, 1);
    lane.submit(this);
    return true;
  }

  #noteNeeds(): void {
    this.needs = this.#bound?.name ?? '';
    for (const operation of this.#passage?.operations ?? [])
      if (operation.kind === 'bind') this.needs = operation.statement.shared?.name ?? '';
  }

  /** The client wants it no more. Nothing is ever cancelled that shares a connection. */
  cancel(): void {
    if (this.#pipe !== undefined || this.#lane?.withdraw(this) !== true) return;
    this.#end();
    this.#session.say(cancelled().response());
    this.#session.say(readyForQuery(tx.idle));
    this.#session.rideEnded(true);
  }

  /** The client takes bytes again. */
  resume(): void {
    this.#pipe?.resume();
  }

  #end(): Passage | undefined {
    const passage = this.#passage;
    this.#passage = undefined;
    this.#bound = undefined;
    this.#lane = undefined;
    this.#pipe = undefined;
    return passage;
  }

  // ---- what the pipe says

  bytes(backend: Backend): Buffer[] {
    const passage = this.#passage as Passage;
    if (this.#bound !== undefined) return boundBytes(this.#bound, backend);
    if (passage.frame !== undefined) {
      backend.expect(expectQuery);
      return [passage.frame];
    }
    const bytes = operationBytes(passage.operations, backend, true, () => (this.#hasChanged = true));
    backend.expect(expectSync);
    bytes.push(syncMessage);
    return bytes;
  }

  sent(pipe: Pipe): void {
    this.#pipe = pipe;
    if (this.member !== undefined) this.#session.loan.served.note(this.member, true);
  }

  /** What a statement's being made says to the session is said once. */
  get mayGoTwice(): boolean {
    const { operations = [] } = this.#passage ?? {};
    return operations.every((operation) => operation.kind !== 'parse' || operation.statement.shared === undefined);
  }

  calledAway(): void {
    this.#pipe = undefined;
    this.#noteNeeds();
    this.#context.metrics.addAt(rescuedTotal, 1);
  }

  get isStale(): boolean {
    return this.#isStale || this.#isUnfit || this.#hasChanged;
  }

  forward(bytes: Buffer): void {
    if (this.#session.isClosed || this.#hasChanged || this.#isUnfit) return;
    if (bytes !== parseComplete) this.#hasAnswered = true;
    this.#context.metrics.addAt(serverBytesTotal, bytes.length);
    this.#session.say(bytes);
  }

  failed(due: Expectation, buffer: Buffer, start: number, end: number): boolean {
    const fields = readErrorFields(buffer, start, end);
    const isNotRun = due.kind === 'parse' || due.kind === 'bind';
    if (this.#bound !== undefined && isNotRun && isOfStatement(fields.get('C') ?? '')) {
      this.#context.parameterised?.failed(this.#bound);
      this.#unfit();
      return false;
    }
    this.#hasFailed = true;
    if (!isStalePlan(fields)) return true;
    this.#session.resultTypeChanged();
    this.#isStale = !this.#hasAnswered && tellsAll(this.#passage?.operations ?? []);
    return !this.#isStale;
  }

  #unfit(): void {
    this.#isUnfit = true;
    // That it was quick says nothing of what it takes.
    this.cost = noCost;
  }

  flush(): boolean {
    return this.#session.isClosed || this.#session.flush();
  }

  done(): void {
    this.#sighted();
    const passage = this.#end();
    if (this.#session.isClosed) return;
    if (this.#hasChanged) {
      this.#session.say(resultTypeChanged().response());
      this.#session.say(readyForQuery(tx.idle));
      return this.#session.rideEnded(true);
    }
    if (this.#isUnfit && passage !== undefined) return this.#session.walk(passage);
    if (this.#isStale && passage !== undefined) return this.#session.goAgain(passage);
    this.#context.metrics.addAt(transactionsTotal, 1);
    this.#session.rideEnded(this.#hasFailed);
  }

  /** What the session has seen, later reads must not fall behind. */
  #sighted(): void {
    const { member } = this;
    const identity = this.#pipe?.backend.identity;
    if (member === undefined || identity === undefined || !this.needsLease) return;
    const place = { member: member.name, postmaster: identity.postmaster };
    this.#session.routing.positions.wasAtPrimary(member.shard, place, performance.now(), true);
  }

  lost(reason: string, partial: boolean): void {
    this.#sighted();
    const passage = this.#end();
    if (passage === undefined || this.#session.isClosed) return;
    this.#context.metrics.add('backend_losses_total');
    const error = lossError(reason, this.#hasFailed, [passage.planned.plan]);
    if (partial) return this.#session.ended(error);
    this.#session.say(error.response());
    this.#session.say(readyForQuery(tx.idle));
    this.#session.rideEnded(true);
  }

  turnedAway(): void {
    const passage = this.#end();
    if (passage !== undefined && !this.#session.isClosed) this.#session.walk(passage);
  }
}
