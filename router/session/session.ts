/**
 * One client after its log-in: takes its messages in order, decides where each goes, borrows a backend for a transaction, and
 * gives it back. A state machine driven by three kinds of event: bytes from the client, answers of the backend, and a backend
 * that was waited for. Leaves reading of messages to wire/, routing to exec/, bytes of batches to send.ts.
 *
 * Invariants: a backend is held exactly while a transaction of this client may be open at it, or something sent is unanswered;
 * one segment (a query, or messages up to a Sync) is under way at a time; no byte of an answer reaches the client unless it
 * answers what this client sent.
 */
import type { Socket } from 'node:net';
import { RouterError } from '../errors.ts';
import { type ChosenMember, chooseMembers } from '../exec/member-choice.ts';
import type { PlannedStatement } from '../exec/plan-cache.ts';
import { mergeRoutes, type Route, routeStatement, type SessionToRoute, type StatementToRoute } from '../exec/route.ts';
import type { Login } from '../map/logins.ts';
import type { ClusterMap } from '../map/map.ts';
import { PlanError, type StatementPlan } from '../plan/types.ts';
import type { Backend, BackendReceiver } from '../pool/backend.ts';
import { MemberRefusal } from '../pool/connect.ts';
import { type Expectation, expectQuery, expectSync } from '../pool/expectation.ts';
import { checkoutStatements, quoteLiteral } from '../pool/hygiene.ts';
import type { Pool } from '../pool/pool.ts';
import type { RouterContext } from '../context.ts';
import { flushMessage, queryMessage, readQuery, syncMessage } from '../wire/client-messages.ts';
import {
  backend as code,
  frontend,
  headerBytes,
  maxClientMessageBytes,
  transactionStatus as tx,
} from '../wire/codes.ts';
import { FrameSplitter } from '../wire/frames.ts';
import { ProtocolViolation } from '../wire/protocol-violation.ts';
import {
  bindComplete,
  closeComplete,
  commandComplete,
  emptyQueryResponse,
  errorResponse,
  noData,
  noParameters,
  parseComplete,
  readErrorFields,
  readyForQuery,
  textDataRow,
  textRowDescription,
} from '../wire/server-messages.ts';
import { type BatchScope, type BoundPortal, type Operation, readOperation, statementsOf } from './batch.ts';
import type { CancelKey } from './cancel-keys.ts';
import { localColumn, runLocal } from './local.ts';
import { Outbox } from './outbox.ts';
import { schemasOf } from './search-path.ts';
import { operationBytes } from './send.ts';
import type { SessionSettings } from './settings.ts';
import { classOf, mayTaintSession, refuseUnpoolable } from './statement-class.ts';
import type { ClientStatement } from './statements.ts';

/** A batch this long is sent on before its Sync. */
const maxBatchBytes = 4 * 1024 * 1024;
/** So much may wait in a session for its turn before the client isn't read any more. */
const maxInboxBytes = 1024 * 1024;

/** Fast-path function calls: nothing is known of them. */
const functionCallPlan: StatementPlan = {
  text: '',
  start: 0,
  end: 0,
  kind: 'call',
  access: 'write',
  touches: 'unknown',
  tenant: { from: 'none' },
  tables: [],
  calls: [],
};

/** Where the transaction runs. */
interface Bound {
  readonly backend: Backend;
  readonly pool: Pool;
  readonly chosen: ChosenMember;
  /** What it is pinned to: undefined while no statement has named a tenant. */
  tenant: string | undefined;
  /** The pin has to be set (again) before the next statement. */
  needsPin: boolean;
}

/** One thing to be sent to a backend, when there is one. */
interface Request {
  readonly route: Route;
  /** Statements that will be completed, in order; undefined for an empty one. */
  readonly plans: readonly (StatementPlan | undefined)[];
  readonly bytes: (backend: Backend) => Buffer[];
  /** Ends with a ReadyForQuery. */
  readonly ends: boolean;
  readonly isExtended: boolean;
  /** Answered by the router after it, if it went well. */
  readonly trailing: readonly PlannedStatement[];
}

export interface SessionStart {
  readonly login: Login;
  readonly settings: SessionSettings;
  readonly applicationName: string;
}

export class Session implements BackendReceiver {
  readonly login: Login;
  readonly #context: RouterContext;
  readonly #socket: Socket;
  readonly #settings: SessionSettings;
  readonly #applicationName: string;
  readonly #outbox: Outbox;
  readonly #onClosed: (session: Session) => void;
  readonly #splitter = new FrameSplitter(maxClientMessageBytes);
  readonly #statements = new Map<string, ClientStatement>();
  readonly #portals = new Map<string, BoundPortal>();
  key: CancelKey | undefined;

  #inbox: Buffer[] = [];
  #inboxHead = 0;
  #inboxBytes = 0;
  /** ready: takes the next message. waiting: for a backend. busy: for answers. */
  #stage: 'ready' | 'waiting' | 'busy' | 'closed' = 'ready';
  #isPumping = false;
  #batch: Operation[] = [];
  #batchBytes = 0;
  /** Messages were sent to the backend that no Sync has followed yet. */
  #isOpen = false;
  /** Refused within a batch: everything is ignored up to the Sync. */
  #isSkipping = false;
  /** What the client was told last, or would be. */
  #status: number = tx.idle;
  /** A transaction that has begun for the client and for no backend yet. */
  #lazy: { readonly texts: string[]; readonly readOnly: boolean } | undefined;
  #isReadOnlyTransaction = false;
  #bound: Bound | undefined;
  /** The router refused a statement of an open transaction: for the client it has failed, whatever the backend says. */
  #isRefused = false;
  /** The answers under way aren't for the client any more: it has had an error in their place. */
  #isMuted = false;
  #segmentFailed = false;
  #waitWasCancelled = false;
  #request: Request | undefined;
  #effects: (StatementPlan | undefined)[] = [];
  #stopWaiting: (() => void) | undefined;
  #cancelling: Promise<void> | undefined;
  #servedBy = '';
  readonly #previousReader = new Map<string, string>();
  #isDraining = false;
  /** Why the transaction is lost, where that couldn't be said when it happened. */
  #unsaid: RouterError | undefined;
  #searchPathText: string | undefined;
  #searchPath: readonly string[] = ['public'];
  readonly #scope: BatchScope;

  constructor(context: RouterContext, socket: Socket, start: SessionStart, onClosed: (session: Session) => void) {
    this.#context = context;
    this.#socket = socket;
    this.login = start.login;
    this.#settings = start.settings;
    this.#applicationName = start.applicationName;
    this.#outbox = new Outbox(socket);
    this.#onClosed = onClosed;
    this.#scope = {
      statements: this.#statements,
      portals: this.#portals,
      shared: context.shared,
      plan: (sql) => this.#planOne(sql),
    };
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('drain', () => this.#clientDrained());
    socket.on('close', () => this.#close());
    socket.on('error', () => socket.destroy());
  }

  // ---- bytes from the client

  receive(chunk: Buffer): void {
    if (this.#stage === 'closed') return;
    this.#context.metrics.add('client_bytes_total', chunk.length);
    try {
      this.#splitter.push(chunk, (_type, frame) => {
        this.#inbox.push(frame);
        this.#inboxBytes += frame.length;
      });
    } catch (error) {
      this.#endWith(error);
      return;
    }
    this.#pump();
    this.#flush();
  }

  #pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    while (this.#stage === 'ready' && !this.#outbox.isFull) {
      const frame = this.#nextFrame();
      if (frame === undefined) break;
      try {
        this.#take(frame);
      } catch (error) {
        if (error instanceof RouterError) this.#refuseFrame(error, frame[0]);
        else this.#endWith(error);
      }
    }
    this.#isPumping = false;
    if (this.#stage === 'closed') return;
    const isJammed = this.#inboxBytes > maxInboxBytes || this.#outbox.isFull || this.#bound?.backend.isFull === true;
    if (isJammed) this.#socket.pause();
    else if (this.#socket.isPaused()) this.#socket.resume();
    if (this.#isDraining) this.#endIfDrained();
  }

  #nextFrame(): Buffer | undefined {
    const frame = this.#inbox[this.#inboxHead];
    if (frame === undefined) return undefined;
    this.#inboxHead += 1;
    this.#inboxBytes -= frame.length;
    if (this.#inboxHead === this.#inbox.length) {
      this.#inbox = [];
      this.#inboxHead = 0;
    }
    return frame;
  }

  #take(frame: Buffer): void {
    const type = frame[0];
    if (type === frontend.terminate) return void this.#socket.end();
    if (this.#isSkipping && type !== frontend.sync) return;
    switch (type) {
      case frontend.query:
        this.#expectNoBatch();
        return this.#simple(frame);
      case frontend.functionCall:
        this.#expectNoBatch();
        return this.#functionCall(frame);
      case frontend.parse:
      case frontend.bind:
      case frontend.describe:
      case frontend.execute:
      case frontend.close:
        this.#batch.push(readOperation(frame, this.#scope));
        this.#batchBytes += frame.length;
        if (this.#batchBytes > maxBatchBytes) this.#runBatch('open');
        return;
      case frontend.flush:
        if (this.#batch.length > 0) this.#runBatch('flush');
        return;
      case frontend.sync:
        return this.#sync();
      case frontend.copyData:
      case frontend.copyDone:
      case frontend.copyFail:
        // Left over from a COPY that has failed: ignored, as Postgres does.
        return;
      default:
        throw new ProtocolViolation(`invalid frontend message type ${type}`);
    }
  }

  #expectNoBatch(): void {
    if (this.#batch.length > 0 || this.#isOpen)
      throw new ProtocolViolation('a query within an extended-query sequence; send Sync first');
  }

  // ---- simple protocol

  #simple(frame: Buffer): void {
    // A simple query ends the unnamed statement ("Extended Query").
    this.#statements.delete('');
    const sql = readQuery(frame);
    const planned = this.#plan(sql);
    if (planned.length === 0) {
      this.#say(emptyQueryResponse);
      return this.#say(readyForQuery(this.#status));
    }
    for (const { plan } of planned) refuseUnpoolable(plan);
    if (this.#status === tx.failed) return this.#simpleInFailed(planned);
    const first = planned.findIndex((statement) => this.#needsBackend(statement.plan, planned));
    if (first === -1) {
      for (const statement of planned) this.#answerLocally(statement, true);
      return this.#say(readyForQuery(this.#status));
    }
    const last = planned.findLastIndex((statement) => this.#needsBackend(statement.plan, planned));
    const middle = planned.slice(first, last + 1);
    if (middle.some((statement) => classOf(statement.plan) === 'local'))
      throw new RouterError('MixedPipeline', 'meridian.* settings in the middle of a query of several statements');
    for (const statement of planned.slice(0, first)) this.#answerLocally(statement, true);
    const trailing = planned.slice(last + 1);
    const isWhole = middle.length === planned.length;
    const bytes = isWhole ? frame : queryMessage(middleText(frame, middle));
    this.#run({
      route: this.#routeOf(middle),
      plans: middle.map((statement) => statement.plan),
      bytes: (backend) => {
        backend.expect(expectQuery);
        return [bytes];
      },
      ends: true,
      isExtended: false,
      trailing,
    });
  }

  /** In a failed transaction only its end, or the return to a savepoint, does anything. */
  #simpleInFailed(planned: readonly PlannedStatement[]): void {
    const [only] = planned;
    const end = planned.length === 1 && only !== undefined ? endsFailure(only.plan) : undefined;
    if (end === undefined) throw this.#aborted();
    if (this.#bound === undefined) {
      if (end === 'savepoint') throw this.#aborted();
      this.#endFailedLocally();
      return this.#say(readyForQuery(this.#status));
    }
    // The backend may not know that the transaction has failed: a COMMIT must not reach it.
    const text = end === 'savepoint' ? (only as PlannedStatement).plan.text : 'ROLLBACK';
    const plan = (only as PlannedStatement).plan;
    this.#isRefused = false;
    this.#run({
      route: anyRoute,
      plans: [plan],
      bytes: (backend) => {
        backend.expect(expectQuery);
        return [queryMessage(text)];
      },
      ends: true,
      isExtended: false,
      trailing: [],
    });
  }

  #aborted(): RouterError {
    const unsaid = this.#unsaid;
    this.#unsaid = undefined;
    return unsaid ?? new RouterError('TransactionAborted', 'current transaction is aborted, commands ignored until end of transaction block');
  }

  #endFailedLocally(): void {
    this.#unsaid = undefined;
    this.#settings.rollback();
    this.#status = tx.idle;
    this.#say(commandComplete('ROLLBACK'));
  }

  #functionCall(frame: Buffer): void {
    if (this.#status === tx.failed) throw this.#aborted();
    this.#run({
      route: this.#routeOf([{ plan: functionCallPlan, hints: {} }]),
      plans: [],
      bytes: (backend) => {
        backend.expect(expectQuery);
        return [frame];
      },
      ends: true,
      isExtended: false,
      trailing: [],
    });
  }

  // ---- extended protocol

  #sync(): void {
    if (this.#isSkipping) {
      this.#isSkipping = false;
      this.#forgetUnconfirmed();
      if (!this.#isOpen || this.#bound === undefined) {
        this.#isOpen = false;
        this.#settleImplicit();
        return this.#say(readyForQuery(this.#status));
      }
      return this.#run({
        route: anyRoute,
        plans: [],
        bytes: (backend) => {
          backend.expect(expectSync);
          return [syncMessage];
        },
        ends: true,
        isExtended: true,
        trailing: [],
      });
    }
    this.#runBatch('sync');
  }

  /** Settings of an implicit transaction that no backend took part in. */
  #settleImplicit(): void {
    if (this.#status === tx.idle) this.#settings.rollback();
  }

  #runBatch(end: 'sync' | 'flush' | 'open'): void {
    const operations = this.#batch;
    this.#batch = [];
    this.#batchBytes = 0;
    const planned = statementsOf(operations).flatMap((statement) => statement.planned ?? []);
    for (const { plan } of planned) refuseUnpoolable(plan);
    if (operations.length === 0 && !this.#isOpen) return this.#say(readyForQuery(this.#status));
    if (this.#status === tx.failed) return this.#batchInFailed(operations, end);
    const all = planned.map((statement) => statement);
    const isLocal = (statement: PlannedStatement): boolean => !this.#needsBackend(statement.plan, all);
    const locals = planned.filter(isLocal);
    if (planned.length > 0 && locals.length === planned.length && !this.#isOpen)
      return this.#answerBatchLocally(operations, end);
    if (locals.length > 0)
      throw new RouterError('MixedPipeline', 'meridian.* settings and other statements in one pipeline');
    const route = operations.length === 0 ? anyRoute : this.#routeOfOperations(operations);
    this.#run({
      route,
      plans: operations
        .filter((operation) => operation.kind === 'execute')
        .map((operation) => operation.portal?.statement.planned?.plan),
      bytes: (backend) => {
        const bytes = operationBytes(operations, backend);
        if (end === 'sync') {
          backend.expect(expectSync);
          bytes.push(syncMessage);
        } else if (end === 'flush') bytes.push(flushMessage);
        return bytes;
      },
      ends: end === 'sync',
      isExtended: true,
      trailing: [],
    });
  }

  #batchInFailed(operations: readonly Operation[], end: 'sync' | 'flush' | 'open'): void {
    const executed = operations.find((operation) => operation.kind === 'execute');
    const plan = executed?.portal?.statement.planned?.plan;
    const ending = plan === undefined ? undefined : endsFailure(plan);
    if (ending === undefined && operations.length > 0) throw this.#aborted();
    if (this.#bound !== undefined && (ending === 'savepoint' || !this.#isRefused)) {
      this.#isRefused = false;
      return this.#run({
        route: anyRoute,
        plans: plan === undefined ? [] : [plan],
        bytes: (backend) => {
          const bytes = operationBytes(operations, backend);
          if (end === 'sync') {
            backend.expect(expectSync);
            bytes.push(syncMessage);
          } else bytes.push(flushMessage);
          return bytes;
        },
        ends: end === 'sync',
        isExtended: true,
        trailing: [],
      });
    }
    if (ending === 'savepoint') throw this.#aborted();
    // The backend has a transaction that it believes to be well, or is gone: it is rolled back by letting go of it.
    this.#abandon('a refused transaction ends');
    this.#answerBatchLocally(operations, end);
  }

  // ---- statements answered here

  /** Whether a statement of these needs a backend. `together`: all that are sent at once. */
  #needsBackend(plan: StatementPlan, together: readonly PlannedStatement[]): boolean {
    switch (classOf(plan)) {
      case 'local':
        return false;
      case 'transaction':
        // BEGIN binds nothing until a statement needs a shard; with others that do, it goes along.
        return this.#bound !== undefined || together.some((one) => ['remote', 'setting'].includes(classOf(one.plan)));
      case 'setting':
        return this.#lazy === undefined || together.length > 1;
      case 'remote':
        return true;
    }
  }

  #answerBatchLocally(operations: readonly Operation[], end: 'sync' | 'flush' | 'open'): void {
    for (const operation of operations) {
      switch (operation.kind) {
        case 'parse':
          operation.statement.confirmed = true;
          this.#say(parseComplete);
          break;
        case 'bind':
          this.#say(bindComplete);
          break;
        case 'describe-statement':
          this.#say(noParameters);
          this.#describeLocally(operation.statement);
          break;
        case 'describe-portal':
          this.#describeLocally(operation.portal?.statement);
          break;
        case 'execute': {
          const planned = operation.portal?.statement.planned;
          if (planned === undefined) this.#say(emptyQueryResponse);
          else if (this.#status === tx.failed) this.#endFailedLocally();
          else this.#answerLocally(planned, false);
          break;
        }
        case 'close-statement':
        case 'close-portal':
          this.#say(closeComplete);
          break;
      }
    }
    if (end === 'sync') this.#say(readyForQuery(this.#status));
  }

  #describeLocally(statement: ClientStatement | undefined): void {
    const plan = statement?.planned?.plan;
    const column = plan === undefined ? undefined : localColumn(plan);
    this.#say(column === undefined ? noData : textRowDescription([column]));
  }

  #answerLocally({ plan }: PlannedStatement, isSimple: boolean): void {
    this.#context.metrics.add('local_statements_total');
    if (plan.refuse !== undefined)
      throw new RouterError('Forbidden', plan.refuse.message, { sqlstate: plan.refuse.sqlstate, hint: plan.refuse.hint });
    const kind = classOf(plan);
    if (kind === 'transaction') return this.#say(commandComplete(this.#transactLocally(plan)));
    if (kind === 'setting') {
      // Said when the transaction gets its backend; kept now, and gone if the transaction fails.
      this.#lazy?.texts.push(plan.text);
      this.#applySetting(plan);
      return this.#say(commandComplete(plan.kind === 'reset' ? 'RESET' : 'SET'));
    }
    const answer = runLocal(plan, {
      map: this.#map(),
      login: this.login,
      region: this.#context.region,
      settings: this.#settings,
      statements: this.#statements,
      isInTransaction: this.#status !== tx.idle,
      servedBy: this.#servedBy,
    });
    if (answer.column !== undefined) {
      if (isSimple) this.#say(textRowDescription([answer.column]));
      this.#say(textDataRow([answer.value ?? null]));
    }
    this.#say(commandComplete(answer.tag));
  }

  /** BEGIN, COMMIT and the like while no backend has the transaction. Returns the command tag. */
  #transactLocally(plan: StatementPlan): string {
    const verb = plan.transaction?.verb ?? 'begin';
    const notice = (sqlstate: string, message: string): void => {
      const bytes = errorResponse({ severity: 'WARNING', sqlstate, message });
      bytes[0] = code.notice;
      this.#say(bytes);
    };
    switch (verb) {
      case 'begin':
        if (this.#lazy !== undefined) notice('25001', 'there is already a transaction in progress');
        else this.#beginLazily(plan.text, plan.transaction?.readOnly === true);
        return /^\s*start/i.test(plan.text) ? 'START TRANSACTION' : 'BEGIN';
      case 'commit':
      case 'rollback': {
        const begun = this.#lazy;
        if (begun === undefined) notice('25P01', 'there is no transaction in progress');
        this.#lazy = undefined;
        this.#status = tx.idle;
        if (verb === 'commit') this.#settings.commit();
        else this.#settings.rollback();
        if (plan.transaction?.chain === true && begun !== undefined)
          this.#beginLazily(begun.texts[0] as string, begun.readOnly);
        return verb === 'commit' ? 'COMMIT' : 'ROLLBACK';
      }
      default: {
        if (this.#lazy === undefined)
          throw new RouterError('NoTransaction', `${verb.toUpperCase()} can only be used in transaction blocks`);
        this.#lazy.texts.push(plan.text);
        this.#applyTransaction(plan);
        if (verb === 'savepoint') return 'SAVEPOINT';
        return verb === 'release' ? 'RELEASE' : 'ROLLBACK';
      }
    }
  }

  #beginLazily(text: string, readOnly: boolean): void {
    this.#lazy = { texts: [text], readOnly };
    this.#isReadOnlyTransaction = readOnly;
    this.#status = tx.open;
  }

  // ---- planning and routing

  #plan(sql: string): readonly PlannedStatement[] {
    this.#readSearchPath();
    try {
      return this.#context.plans.plan(sql, this.#context.directory.catalogue(this.#searchPath));
    } catch (error) {
      if (error instanceof PlanError)
        throw new RouterError('Syntax', error.message, {
          sqlstate: error.sqlstate,
          hint: error.hint,
          position: error.position,
        });
      throw error;
    }
  }

  #planOne(sql: string): PlannedStatement | undefined {
    const planned = this.#plan(sql);
    if (planned.length > 1)
      throw new RouterError('Syntax', 'cannot insert multiple commands into a prepared statement');
    return planned[0];
  }

  #readSearchPath(): void {
    const text = this.#settings.generic('search_path');
    if (text === this.#searchPathText) return;
    this.#searchPathText = text;
    this.#searchPath = text === undefined ? ['public'] : schemasOf(text);
  }

  #map(): ClusterMap {
    const map = this.#context.map();
    if (map === undefined) throw new RouterError('NotReady', 'the router does not know the keyspace yet');
    return map;
  }

  #sessionToRoute(plans: readonly StatementPlan[]): SessionToRoute {
    const { tenant, level, workflow } = this.#settings.meridian;
    const begin = plans.find((plan) => plan.transaction?.verb === 'begin');
    const isInTransaction = this.#status !== tx.idle || begin !== undefined;
    const readOnly = this.#status === tx.idle ? begin?.transaction?.readOnly === true : this.#isReadOnlyTransaction;
    // What may be done can have changed since the log-in; it is never widened by what the session says.
    const login = this.#context.directory.current(this.login.role) ?? this.login;
    return {
      login: login.fixedTenant === this.login.fixedTenant ? login : this.login,
      tenant,
      level,
      workflow: workflow ?? this.#applicationName,
      isInTransaction,
      isWritingTransaction: isInTransaction && !readOnly,
    };
  }

  #routeOf(statements: readonly StatementToRoute[]): Route {
    const map = this.#map();
    const session = this.#sessionToRoute(statements.map((statement) => statement.plan));
    return mergeRoutes(
      statements.map((statement) => routeStatement(map, session, statement)),
      anyRoute,
    );
  }

  /** What is bound counts with its parameters; what is only parsed or described may leave its tenant open. */
  #routeOfOperations(operations: readonly Operation[]): Route {
    const map = this.#map();
    const statements = statementsOf(operations);
    const session = this.#sessionToRoute(statements.flatMap((statement) => statement.planned?.plan ?? []));
    const bound = new Set<ClientStatement>();
    const routes: Route[] = [];
    for (const operation of operations) {
      if (operation.kind !== 'bind' || operation.statement?.planned === undefined) continue;
      const { statement, bind } = operation;
      bound.add(statement);
      routes.push(
        routeStatement(map, session, {
          ...statement.planned,
          parameters: (index) => bind.parameter(index),
          parameterTypes: statement.parameterTypes,
        } as StatementToRoute),
      );
    }
    for (const statement of statements) {
      if (statement.planned === undefined || bound.has(statement)) continue;
      // Executed portals of before were routed when they were bound.
      if (this.#bound !== undefined) continue;
      try {
        routes.push(routeStatement(map, session, statement.planned));
      } catch (error) {
        if (!(error instanceof RouterError) || error.code !== 'NoTenant') throw error;
      }
    }
    return mergeRoutes(routes, anyRoute);
  }

  // ---- sending

  #run(request: Request): void {
    this.#request = request;
    if (this.#bound !== undefined) {
      this.#checkBound(this.#bound, request.route);
      return this.#send(this.#bound, request);
    }
    const map = this.#map();
    const candidates = chooseMembers(request.route, {
      map,
      region: this.#context.region,
      isReachable: (member) => this.#context.pools.isReachable(member),
      previous: request.route.shard === undefined ? undefined : this.#previousReader.get(request.route.shard),
    });
    this.#stage = 'waiting';
    this.#borrow(candidates, 0, request);
  }

  /** A transaction stays where it is: refuses what would have to run elsewhere. */
  #checkBound(bound: Bound, route: Route): void {
    if (route === anyRoute) return;
    if (bound.tenant !== undefined && route.tenant !== undefined && route.tenant !== bound.tenant)
      throw new RouterError(
        'OtherTenant',
        `the statement is for tenant "${route.tenant}", but the transaction is tenant "${bound.tenant}"'s`,
      );
    const { member, isPrimary } = bound.chosen;
    if (route.shard !== undefined && route.shard !== member.shard)
      throw new RouterError('OtherShard', `the transaction already runs on shard "${member.shard}"`);
    if (route.primaryOnly && !isPrimary)
      throw new RouterError('NotOnFollower', 'this statement needs the primary, but the transaction reads on a follower');
    if (bound.tenant === undefined && route.tenant !== undefined) {
      bound.tenant = route.tenant;
      bound.needsPin = true;
    }
  }

  #borrow(candidates: readonly ChosenMember[], index: number, request: Request): void {
    const chosen = candidates[index] as ChosenMember;
    const pool = this.#context.pools.of(chosen.member.name, this.login.role);
    this.#stopWaiting = pool.take({
      give: (backend) => {
        this.#stopWaiting = undefined;
        this.#borrowed(backend, pool, chosen, request);
      },
      fail: (error) => {
        this.#stopWaiting = undefined;
        // Not a byte was sent: the next best may serve.
        const mayGoOn = !(error instanceof RouterError) && index + 1 < candidates.length;
        if (mayGoOn && (!(error instanceof MemberRefusal) || error.sqlstate.startsWith('57P')))
          return this.#borrow(candidates, index + 1, request);
        this.#refuseLater(borrowError(error, chosen), request.isExtended);
      },
    });
  }

  #borrowed(backend: Backend, pool: Pool, chosen: ChosenMember, request: Request): void {
    if (this.#stage === 'closed') return pool.giveBack(backend);
    const needs = { settings: this.#settings.replayText, pin: undefined };
    const bound: Bound = { backend, pool, chosen, tenant: request.route.tenant, needsPin: this.login.fixedTenant === undefined };
    const statements = checkoutStatements({ settings: backend.settings, pin: backend.pin }, needs);
    if (statements.length === 0) {
      this.#bind(bound);
      return this.#send(bound, request);
    }
    // The client's statement waits for these: it must not run under settings that aren't its session's.
    let left = statements.length;
    let failure: ReadonlyMap<string, string> | undefined;
    this.#bind(bound);
    this.#stage = 'busy';
    const bytes = statements.map((sql) =>
      backend.ownQuery(sql, ({ error }) => {
        failure ??= error;
        left -= 1;
        if (left > 0 || this.#bound !== bound) return;
        if (failure !== undefined) {
          backend.isSuspect = true;
          const fields = failure;
          this.#release();
          return this.#refuseLater(
            new RouterError('InvalidSetting', fields.get('M') ?? 'a setting of this session was refused', {
              sqlstate: fields.get('C'),
              hint: fields.get('H'),
            }),
            request.isExtended,
          );
        }
        backend.settings = this.#settings.replayText;
        this.#send(bound, request);
      }),
    );
    backend.write(Buffer.concat(bytes));
  }

  #bind(bound: Bound): void {
    this.#bound = bound;
    bound.backend.assign(this);
  }

  #send(bound: Bound, request: Request): void {
    const { backend } = bound;
    const { member, isPrimary } = bound.chosen;
    this.#stage = request.ends ? 'busy' : 'ready';
    this.#isOpen = !request.ends;
    this.#segmentFailed &&= request.isExtended;
    this.#effects.push(...request.plans);
    this.#request = request;
    this.#servedBy = `member=${member.name} shard=${member.shard} region=${member.region} role=${isPrimary ? 'primary' : 'follower'}`;
    this.#context.metrics.add('statements_total');
    if (!isPrimary) {
      this.#context.metrics.add('reads_on_followers_total');
      this.#previousReader.set(member.shard, member.name);
    }
    const parts: Buffer[] = [];
    if (bound.needsPin) {
      bound.needsPin = false;
      const pin = bound.tenant ?? this.#settings.meridian.tenant ?? '';
      backend.pin = pin;
      parts.push(
        backend.ownQuery(`SET meridian.tenant = ${quoteLiteral(pin)}`, ({ error }) => this.#ownFailed(error, backend)),
      );
    }
    if (this.#lazy !== undefined) {
      for (const text of this.#lazy.texts)
        parts.push(backend.ownQuery(text, ({ error }) => this.#ownFailed(error, backend)));
      this.#lazy = undefined;
    }
    const volatile = this.#context.directory.catalogue(this.#searchPath).volatileFunctions;
    for (const plan of request.plans)
      if (plan !== undefined && mayTaintSession(plan, volatile)) backend.isSuspect = true;
    const bytes = request.bytes(backend);
    if (parts.length === 0 && bytes.length === 1) parts.push(bytes[0] as Buffer);
    else parts.push(...bytes);
    if (parts.length > 0) backend.write(parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts));
  }

  /** A statement of the router's own, sent ahead of the client's, failed: the client hears that instead of what follows. */
  #ownFailed(error: ReadonlyMap<string, string> | undefined, backend: Backend): void {
    if (error === undefined || this.#isMuted || this.#stage === 'closed' || backend.isClosed) return;
    backend.isSuspect = true;
    this.#say(
      new RouterError('Internal', error.get('M') ?? 'a statement of the router failed', {
        sqlstate: error.get('C'),
        hint: error.get('H'),
      }).response(),
    );
    this.#segmentFailed = true;
    this.#isMuted = true;
  }

  // ---- answers of the backend

  forward(bytes: Buffer): void {
    if (!this.#isMuted) this.#outbox.push(bytes);
  }

  observe(type: number, _expectation: Expectation, buffer: Buffer, start: number, end: number): boolean {
    switch (type) {
      case code.commandComplete: {
        if (this.#waitWasCancelled) return this.#outcomeUnknown();
        const plan = this.#effects.shift();
        if (plan !== undefined) this.#completed(plan, buffer.toString('latin1', start + headerBytes, end - 1));
        return true;
      }
      case code.emptyQuery:
      case code.portalSuspended:
        this.#effects.shift();
        return true;
      case code.error:
        this.#failed(buffer, start, end);
        return true;
      case code.notice:
        return !this.#isCancelledWait(buffer, start, end);
      case code.readyForQuery:
        return !this.#isRefused && !this.#isMuted && (this.#request?.trailing.length ?? 0) === 0;
      default:
        return true;
    }
  }

  /** A commit whose wait for followers was cancelled: Postgres calls it a success with a warning (docs/design.md, section 4). */
  #isCancelledWait(buffer: Buffer, start: number, end: number): boolean {
    const fields = readErrorFields(buffer, start, end);
    if (fields.get('C') !== '01000' || fields.get('R') !== 'SyncRepWaitForLSN') return false;
    this.#waitWasCancelled = true;
    return true;
  }

  #outcomeUnknown(): boolean {
    this.#waitWasCancelled = false;
    this.#say(new RouterError('OutcomeUnknown', 'the commit was not confirmed by its followers').response());
    this.#segmentFailed = true;
    this.#isMuted = true;
    return false;
  }

  #failed(buffer: Buffer, start: number, end: number): void {
    this.#segmentFailed = true;
    this.#effects = [];
    const fields = readErrorFields(buffer, start, end);
    // A prepared statement whose result changed with the schema: made anew, under another name, when it is prepared again.
    if (fields.get('C') === '0A000' && fields.get('R') === 'RevalidateCachedQuery')
      for (const statement of this.#statements.values())
        if (statement.shared !== undefined) this.#context.shared.renew(statement.shared);
  }

  #completed(plan: StatementPlan, tag: string): void {
    if (plan.kind === 'transaction') this.#applyTransaction(plan, tag);
    else if (plan.kind === 'set' || plan.kind === 'reset') this.#applySetting(plan);
  }

  #applyTransaction(plan: StatementPlan, tag = ''): void {
    const { verb, name = '', readOnly = false } = plan.transaction ?? { verb: 'begin' };
    switch (verb) {
      case 'begin':
        if (this.#status === tx.idle) this.#isReadOnlyTransaction = readOnly;
        break;
      case 'commit':
        if (tag === 'ROLLBACK') this.#settings.rollback();
        else this.#settings.commit();
        break;
      case 'rollback':
        this.#settings.rollback();
        break;
      case 'savepoint':
        this.#settings.savepoint(name);
        break;
      case 'release':
        this.#settings.release(name);
        break;
      case 'rollback-to':
        this.#settings.rollbackTo(name);
        // A pin set after the savepoint is gone with it.
        if (this.#bound !== undefined && this.login.fixedTenant === undefined) this.#bound.needsPin = true;
        break;
      default:
    }
  }

  #applySetting(plan: StatementPlan): void {
    if (plan.kind === 'reset' || plan.set?.toDefault === true) {
      const name = plan.reset?.name ?? plan.set?.name ?? 'all';
      if (plan.set?.local === true) return;
      if (name === 'all') this.#settings.resetAll();
      else this.#settings.resetGeneric(name);
      // The backend went back to its own default, not to what the start-up packet of this client said.
      if (this.#bound !== undefined) this.#bound.backend.isSuspect = true;
      if (this.#bound !== undefined && name === 'all' && this.login.fixedTenant === undefined) this.#bound.needsPin = true;
      return;
    }
    if (plan.set !== undefined && !plan.set.local) this.#settings.setGeneric(plan.set.name, plan.text);
  }

  ready(status: number): void {
    this.#waitWasCancelled = false;
    this.#isOpen = false;
    this.#effects = [];
    const request = this.#request;
    if (status === tx.idle) this.#isRefused = false;
    const shown = this.#isRefused ? tx.failed : status;
    const isOurs = this.#isRefused || this.#isMuted || (request?.trailing.length ?? 0) > 0;
    this.#isMuted = false;
    this.#status = shown;
    if (status === tx.idle) this.#transactionEnded();
    this.#forgetUnconfirmed();
    if (isOurs) this.#sayEnd(request?.trailing ?? [], shown);
    this.#segmentFailed = false;
    if (this.#cancelling !== undefined && this.#bound !== undefined) {
      // Nothing is sent to a backend until the cancel that was sent at it has surely arrived.
      void this.#cancelling.finally(() => this.#goOn());
      return;
    }
    this.#goOn();
  }

  #goOn(): void {
    if (this.#stage === 'closed') return;
    this.#stage = 'ready';
    this.#pump();
    this.#flush();
  }

  #sayEnd(trailing: readonly PlannedStatement[], status: number): void {
    try {
      if (!this.#segmentFailed) for (const statement of trailing) this.#answerLocally(statement, true);
    } catch (error) {
      if (!(error instanceof RouterError)) throw error;
      this.#say(error.response());
    }
    this.#say(readyForQuery(status));
  }

  #transactionEnded(): void {
    this.#context.metrics.add('transactions_total');
    if (this.#segmentFailed) this.#settings.rollback();
    else this.#settings.commit();
    this.#portals.clear();
    this.#isReadOnlyTransaction = false;
    this.#release();
  }

  #release(): void {
    const bound = this.#bound;
    if (bound === undefined) return;
    this.#bound = undefined;
    const { backend, pool } = bound;
    backend.assign(undefined);
    backend.resume();
    if (!backend.isSuspect) backend.settings = this.#settings.replayText;
    const cancelling = this.#cancelling;
    if (cancelling === undefined) return pool.giveBack(backend);
    this.#cancelling = undefined;
    backend.wasCancelled = true;
    void cancelling.finally(() => pool.giveBack(backend));
  }

  #forgetUnconfirmed(): void {
    if (!this.#segmentFailed && !this.#isRefused) return;
    for (const [name, statement] of this.#statements) if (!statement.confirmed) this.#statements.delete(name);
  }

  chunkEnd(): void {
    this.#flush();
  }

  drained(): void {
    if (this.#stage !== 'closed' && this.#socket.isPaused()) this.#pump();
  }

  lost(reason: string, partial: boolean): void {
    if (this.#stage === 'closed') return;
    this.#context.metrics.add('backend_losses_total');
    const bound = this.#bound;
    const request = this.#request;
    const wasInTransaction = this.#status !== tx.idle;
    const wasUnderWay = this.#stage === 'busy' || this.#isOpen;
    const error = lossError(reason, wasInTransaction, wasUnderWay ? this.#effects : []);
    this.#bound = undefined;
    this.#cancelling = undefined;
    this.#effects = [];
    this.#settings.rollback();
    if (partial || bound === undefined) return this.#endWith(error);
    this.#isOpen = false;
    if (wasInTransaction) this.#status = tx.failed;
    this.#portals.clear();
    // In a transaction with nothing under way: said with the next statement, since nothing may be said unasked.
    if (!wasUnderWay) {
      this.#unsaid = error;
      return;
    }
    if (!this.#isMuted) this.#say(error.response());
    this.#isMuted = false;
    this.#isRefused = false;
    this.#segmentFailed = false;
    if (request?.ends === true) {
      this.#say(readyForQuery(this.#status));
      this.#goOn();
      return;
    }
    this.#isSkipping = true;
    this.#goOn();
  }

  // ---- refusing and ending

  #refuseFrame(error: RouterError, type: number | undefined): void {
    this.#refuse(error, type !== frontend.query && type !== frontend.functionCall);
    // The Sync that the batch ended with is taken already, and everything up to it has been ignored.
    if (type === frontend.sync) this.#sync();
  }

  /** The client's statement is refused: nothing of it was sent. In a transaction, that has failed with it. */
  #refuse(error: RouterError, isExtended: boolean): void {
    this.#context.metrics.add('refusals_total');
    this.#batch = [];
    this.#batchBytes = 0;
    this.#say(error.response());
    if (this.#status === tx.open) {
      this.#status = tx.failed;
      if (this.#bound !== undefined) this.#isRefused = true;
      this.#lazy = undefined;
    } else if (this.#status === tx.idle && this.#bound !== undefined) {
      // What was sent before in the same implicit transaction must not be kept.
      this.#abandon('refused within a pipeline');
    }
    if (!isExtended) return this.#say(readyForQuery(this.#status));
    this.#forgetUnconfirmedNow();
    this.#isSkipping = true;
  }

  #forgetUnconfirmedNow(): void {
    for (const [name, statement] of this.#statements) if (!statement.confirmed) this.#statements.delete(name);
  }

  /** As refuse, after waiting for a backend; a Sync that came with the batch has been taken already. */
  #refuseLater(error: RouterError, isExtended: boolean): void {
    if (this.#stage === 'closed') return;
    const synced = isExtended && this.#request?.ends === true;
    this.#stage = 'ready';
    this.#refuse(error, isExtended);
    if (synced) this.#sync();
    this.#pump();
    this.#flush();
  }

  #abandon(reason: string): void {
    const bound = this.#bound;
    this.#bound = undefined;
    this.#isOpen = false;
    this.#isRefused = false;
    if (bound === undefined) return;
    bound.backend.assign(undefined);
    bound.backend.close(reason);
  }

  /** FATAL: the connection ends. */
  #endWith(error: unknown): void {
    if (this.#stage === 'closed') return;
    const fatal =
      error instanceof RouterError
        ? error
        : error instanceof ProtocolViolation
          ? new RouterError('ProtocolViolation', error.message)
          : new RouterError('Internal', 'internal error');
    if (fatal.code === 'Internal') this.#context.log.error({ err: error }, 'session failed');
    this.#say(fatal.response('FATAL'));
    this.#flush();
    this.#socket.destroySoon();
    this.#close();
  }

  #close(): void {
    if (this.#stage === 'closed') return;
    this.#stage = 'closed';
    this.#stopWaiting?.();
    const bound = this.#bound;
    this.#bound = undefined;
    if (bound !== undefined) {
      const { backend } = bound;
      backend.assign(undefined);
      // A query that runs on would keep the member's connection: it is cancelled where that can't touch a commit.
      const isCancellable = backend.isAnswering && this.#mayCancel();
      if (isCancellable && this.#cancelling === undefined)
        void this.#context.cancelAt(backend.identity).catch(() => undefined);
      backend.close('the client is gone');
    }
    this.#inbox = [];
    this.#socket.destroySoon();
    this.#onClosed(this);
  }

  // ---- cancel and drain

  /** Postgres reports success for a commit whose wait is cancelled, so nothing that may be committing is cancelled. */
  #mayCancel(): boolean {
    if (this.#status === tx.open) return this.#effects.every((plan) => plan !== undefined && !mayCommit(plan));
    return (
      this.#effects.length > 0 &&
      this.#effects.every((plan) => plan !== undefined && plan.access === 'read' && plan.kind !== 'transaction')
    );
  }

  cancel(): void {
    if (this.#stage === 'waiting') {
      this.#stopWaiting?.();
      this.#stopWaiting = undefined;
      this.#refuseLater(
        new RouterError('Internal', 'canceling statement due to user request', { sqlstate: '57014' }),
        this.#request?.isExtended ?? false,
      );
      return;
    }
    const backend = this.#bound?.backend;
    if (backend === undefined || this.#cancelling !== undefined || !backend.isAnswering || !this.#mayCancel()) return;
    this.#context.metrics.add('cancels_forwarded_total');
    backend.wasCancelled = true;
    const cancelling = this.#context.cancelAt(backend.identity).catch((error: unknown) => {
      // Whether the signal will still come isn't known: this backend is not to be trusted.
      this.#context.log.warn({ err: error }, 'cancel not sent');
      backend.close('a cancel went astray');
    });
    this.#cancelling = cancelling;
    void cancelling.finally(() => {
      if (this.#cancelling === cancelling) this.#cancelling = undefined;
    });
  }

  /** Ends the session as soon as it has no transaction. */
  drain(): void {
    this.#isDraining = true;
    this.#endIfDrained();
  }

  /** Ends the session now, whatever it does. */
  terminate(): void {
    this.#endWith(new RouterError('ShuttingDown', 'terminating connection: the router is shutting down'));
  }

  #endIfDrained(): void {
    if (this.#stage === 'ready' && this.#status === tx.idle && this.#bound === undefined && this.#batch.length === 0)
      this.#endWith(new RouterError('ShuttingDown', 'terminating connection: the router is shutting down'));
  }

  // ---- writing to the client

  #say(bytes: Buffer): void {
    this.#outbox.push(bytes);
  }

  #flush(): void {
    if (this.#stage === 'closed') {
      this.#outbox.flush();
      return;
    }
    if (!this.#outbox.flush()) this.#bound?.backend.pause();
  }

  #clientDrained(): void {
    this.#bound?.backend.resume();
    this.#pump();
    this.#flush();
  }
}

const anyRoute: Route = { tenant: undefined, shard: undefined, level: 'strong', primaryOnly: false };

/** How a statement ends a failed transaction; undefined where it doesn't. */
function endsFailure(plan: StatementPlan): 'transaction' | 'savepoint' | undefined {
  const verb = plan.transaction?.verb;
  if (verb === 'commit' || verb === 'rollback') return 'transaction';
  return verb === 'rollback-to' ? 'savepoint' : undefined;
}

const mayCommit = (plan: StatementPlan): boolean =>
  plan.kind === 'transaction' || plan.kind === 'call' || plan.kind === 'do' || plan.kind === 'utility';

/** The text of some statements of a query, from the first to the last. */
function middleText(frame: Buffer, statements: readonly PlannedStatement[]): string {
  const first = statements[0] as PlannedStatement;
  const last = statements.at(-1) as PlannedStatement;
  return frame.toString('utf8', headerBytes + first.plan.start, headerBytes + last.plan.end);
}

function borrowError(error: Error, chosen: ChosenMember): RouterError {
  if (error instanceof RouterError) return error;
  if (error instanceof MemberRefusal)
    return new RouterError('NoMember', `member "${chosen.member.name}": ${error.message}`, { sqlstate: error.sqlstate });
  return new RouterError('NoMember', `member "${chosen.member.name}" of shard "${chosen.member.shard}" can not be reached`);
}

/** What a lost connection means for what was under way (docs/design.md, section 4, "What isn't known"). */
function lossError(
  reason: string,
  wasInTransaction: boolean,
  underWay: readonly (StatementPlan | undefined)[],
): RouterError {
  const text = `the connection to the member was lost: ${reason}`;
  const mayHaveCommitted = underWay.some((plan) =>
    wasInTransaction ? plan !== undefined && mayCommit(plan) : plan === undefined || plan.access === 'write' || mayCommit(plan),
  );
  if (mayHaveCommitted) return new RouterError('OutcomeUnknown', text);
  if (wasInTransaction) return new RouterError('SerializationFailure', text);
  return new RouterError('ConnectionLost', text);
}
