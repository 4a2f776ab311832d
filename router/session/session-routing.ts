/**
 * Plans and routes the statements of one session: gathers what routing needs of it (login, settings, transaction, search path) and
 * asks exec/. Decides nothing itself.
 */
import { SessionPositions } from '../consistency/session-positions.ts';
import type { RouterContext } from '../context.ts';
import { RouterError } from '../errors.ts';
import { explainRoute } from '../exec/explain-route.ts';
import type { PlannedStatement } from '../exec/plan-cache.ts';
import {
  anyRoute,
  mergeRoutes,
  type Route,
  routeStatement,
  type SessionToRoute,
  type StatementToRoute,
  shardOf,
} from '../exec/route.ts';
import { type Login, mayGoOn } from '../map/logins.ts';
import type { ClusterMap } from '../map/map.ts';
import { type Catalogue, type Hints, PlanError, type StatementPlan } from '../plan/types.ts';
import { readQuery } from '../wire/client-messages.ts';
import { headerBytes } from '../wire/codes.ts';
import { type Operation, statementsOf } from './batch.ts';
import { startsKeeping } from './keeping.ts';
import { presentMembers } from './search.ts';
import { schemasOf } from './search-path.ts';
import { namesPath, type SessionSettings } from './settings.ts';
import { mayDraw, refuseSequenceMemory } from './statement-class.ts';
import type { ClientStatement } from './statements.ts';
import type { ClientTransaction } from './transaction.ts';

export interface RoutedSession {
  readonly settings: SessionSettings;
  readonly transaction: ClientTransaction;
  readonly applicationName: string;
}

export class SessionRouting {
  readonly #context: RouterContext;
  readonly #session: RoutedSession;
  /** What it has seen of each shard. */
  readonly positions: SessionPositions;
  #login: Login;
  #searchPathText: string | undefined;
  #searchPath: readonly string[] = ['public'];
  /** What is under way may change search_path: until that is answered unqualified names are nobody's. */
  #isPathInDoubt = false;

  constructor(context: RouterContext, login: Login, session: RoutedSession) {
    this.#context = context;
    this.#login = login;
    this.#session = session;
    this.positions = new SessionPositions(context.authority.positions);
    const { token = '' } = session.settings.meridian;
    if (token !== '') this.positions.adopt(context.tokens.decode(token));
  }

  /** What the role may do, as last known. */
  get login(): Login {
    return this.#login;
  }

  /** Follows what the role may do. Why the session has to end, where it can't go on as what it logged in as. */
  revoked(): RouterError | undefined {
    const { role } = this.#login;
    const present = this.#context.directory.current(role);
    if (present === this.#login) return undefined;
    if (present === undefined || !mayGoOn(this.#login, present))
      return new RouterError('LoginChanged', `terminating connection: what role "${role}" may do has changed`);
    this.#login = present;
    return undefined;
  }

  /** @throws RouterError on a syntax error, as Postgres would say it. */
  plan(sql: string): readonly PlannedStatement[] {
    return this.#planned(sql, undefined);
  }

  /** Of a Query message, without making a text of what is known already. @throws ProtocolViolation */
  planQuery(frame: Buffer): readonly PlannedStatement[] {
    const isWhole = frame.indexOf(0, headerBytes) === frame.length - 1;
    return this.#planned(isWhole ? undefined : readQuery(frame), frame);
  }

  #planned(text: string | undefined, frame: Buffer | undefined): readonly PlannedStatement[] {
    const { plans } = this.#context;
    try {
      const planned =
        text === undefined && frame !== undefined
          ? plans.planBytes(frame, headerBytes, frame.length - 1, this.catalogue)
          : plans.plan(text ?? readQuery(frame as Buffer), this.catalogue);
      // One that changes the path in the middle of a text changes what the names behind it are.
      if (!planned.slice(0, -1).some(({ plan }) => this.#changesPath(plan))) return planned;
      return plans.plan(text ?? readQuery(frame as Buffer), this.#context.directory.catalogue([]));
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

  /** The plan of a text that may hold one statement only; undefined for an empty one. */
  planOne(sql: string): PlannedStatement | undefined {
    const planned = this.plan(sql);
    if (planned.length > 1)
      throw new RouterError('Syntax', 'cannot insert multiple commands into a prepared statement');
    return planned[0];
  }

  /** As the session sees it now. */
  get catalogue(): Catalogue {
    this.#readSearchPath();
    return this.#context.directory.catalogue(this.#isPathInDoubt ? [] : this.#searchPath);
  }

  get volatileFunctions(): ReadonlySet<string> {
    return this.catalogue.volatileFunctions;
  }

  /** All that was sent has been answered. */
  segmentEnded(): void {
    this.#isPathInDoubt = false;
  }

  map(): ClusterMap {
    const map = this.#context.map();
    if (map === undefined) throw new RouterError('NotReady', 'the router does not know the keyspace yet');
    return map;
  }

  /** One route for statements that are sent together. */
  routeOf(statements: readonly StatementToRoute[]): Route {
    const map = this.map();
    for (const { hints } of statements) this.#adopt(hints);
    const plans = statements.map((statement) => statement.plan);
    const session = this.#view(plans);
    this.#followSequences(plans);
    this.#followPath(plans, session.isInTransaction);
    const [only] = statements;
    const route =
      statements.length === 1 && only !== undefined
        ? routeStatement(map, session, only)
        : mergeRoutes(
            statements.map((statement) => routeStatement(map, session, statement)),
            anyRoute,
          );
    return placed(route, plans, map);
  }

  /**
   * One route for a batch. What is bound counts with its parameters; what is only parsed or described may leave its tenant open, and
   * `isBound`: in a transaction that has its place it may be described there whatever it is about.
   */
  routeOfBatch(operations: readonly Operation[], isBound: boolean): Route {
    const map = this.map();
    const statements = statementsOf(operations);
    for (const operation of operations)
      if (operation.kind === 'execute') this.#adopt(operation.portal?.statement.planned?.hints ?? {});
    const session = this.#view(statements.flatMap((statement) => statement.planned?.plan ?? []));
    const executed = operations.flatMap((operation) =>
      operation.kind === 'execute' ? (operation.portal?.statement.planned?.plan ?? []) : [],
    );
    this.#isPathInDoubt ||= executed.some((plan) => this.#changesPath(plan));
    this.#followSequences(executed);
    this.#followPath(executed, session.isInTransaction);
    const bound = new Set<ClientStatement>();
    const routes: Route[] = [];
    for (const operation of operations) {
      if (operation.kind !== 'bind' || operation.statement.planned === undefined) continue;
      const { statement, bind } = operation;
      bound.add(statement);
      routes.push(
        routeStatement(map, session, {
          plan: operation.statement.planned.plan,
          hints: operation.statement.planned.hints,
          keys: operation.statement.planned.keys,
          parameters: (index) => bind.parameter(index),
          parameterTypes: statement.parameterTypes,
        }),
      );
    }
    for (const statement of statements) {
      if (statement.planned === undefined || bound.has(statement) || isBound) continue;
      try {
        routes.push(routeStatement(map, session, statement.planned));
      } catch (error) {
        if (!(error instanceof RouterError) || error.code !== 'NoTenant') throw error;
      }
    }
    return placed(mergeRoutes(routes, anyRoute), executed, map);
  }

  /** What EXPLAIN (ROUTE) says of a statement, if it came now. @throws RouterError only where nothing can be said. */
  explain(
    { hints }: PlannedStatement,
    plan: StatementPlan,
    bound: Pick<StatementToRoute, 'parameters' | 'parameterTypes'>,
  ) {
    const map = this.map();
    const session = this.#view([]);
    return explainRoute({
      map,
      session,
      statement: { plan, hints, ...bound },
      members: (route) => presentMembers(this.#context, map, route, this.positions),
    });
  }

  /** Another session's token, in a comment. */
  #adopt({ token }: Hints): void {
    if (token !== undefined) this.positions.adopt(this.#context.tokens.decode(token));
  }

  #view(plans: readonly StatementPlan[]): SessionToRoute {
    const { settings, transaction, applicationName } = this.#session;
    const { tenant, level, workflow, maxStalenessMs } = settings.meridian;
    if (level !== undefined && level !== 'strong') this.positions.isAware = true;
    const begin = plans.find((plan) => plan.transaction?.verb === 'begin');
    const isInTransaction = !transaction.isIdle || begin !== undefined;
    const readOnly = transaction.isIdle ? begin?.transaction?.readOnly === true : transaction.isReadOnly;
    return {
      login: this.#login,
      tenant,
      level,
      maxStalenessMs,
      workflow: workflow ?? applicationName,
      isInTransaction,
      isWritingTransaction: isInTransaction && !readOnly,
    };
  }

  #changesPath(plan: StatementPlan): boolean {
    if (namesPath(plan) || mayChangePathUnseen(plan)) return true;
    // What was set in the transaction may end with it.
    return this.#session.settings.searchPath !== undefined && endsTransaction.has(plan.transaction?.verb ?? '');
  }

  /** What changes the path unseen holds to the end of the transaction; outside one the backend is discarded. */
  #followPath(plans: readonly StatementPlan[], isInTransaction: boolean): void {
    if (isInTransaction && plans.some(mayChangePathUnseen)) this.#session.settings.losePath();
  }

  /** Between transactions the backend may become another, or may have been another's. */
  #followSequences(plans: readonly StatementPlan[]): void {
    const { transaction } = this.#session;
    if (transaction.isIdle) transaction.hasDrawn = false;
    refuseSequenceMemory(plans, transaction.hasDrawn);
    transaction.hasDrawn ||= plans.some((plan) => mayDraw(plan));
  }

  #readSearchPath(): void {
    const text = this.#session.settings.searchPath;
    if (text === this.#searchPathText) return;
    this.#searchPathText = text;
    this.#searchPath = text === undefined ? ['public'] : schemasOf(text, this.#login.role);
  }
}

/**
 * What is kept in Postgres' session is kept at a primary. Channels and advisory locks are each shard's own: without a tenant that says
 * which, two sessions would take the same lock, or wait for each other's word, in different places.
 */
function placed(route: Route, plans: readonly StatementPlan[], map: ClusterMap): Route {
  const meets = plans.find(
    (plan) => plan.channel !== undefined || plan.calls.some((name) => isMeetingPlace.test(name)),
  );
  if (meets !== undefined && route.tenant === undefined && (map.shards.size > 1 || meets.channel !== undefined))
    throw new RouterError('NoTenant', 'no tenant is known, and channels and advisory locks are those of its shard', {
      hint: "Run SET meridian.tenant = '...', or begin the statement with /* tenant='...' */.",
    });
  const isElsewhere = meets !== undefined && route.shard === undefined && route.tenant !== undefined;
  if (!isElsewhere && !plans.some(startsKeeping)) return route;
  return {
    ...route,
    ...(route.tenant === undefined ? {} : { shard: shardOf(map, route.tenant) }),
    primaryOnly: true,
  };
}

/** Letting go of all locks is done where they are, or where none are. */
const isMeetingPlace = /^pg_(?:try_)?advisory_(?!unlock_all$)/;

const endsTransaction: ReadonlySet<string> = new Set(['commit', 'rollback', 'rollback-to']);

/** Other ways than SET. Functions of the schema are the operator's own and aren't suspected. */
const mayChangePathUnseen = (plan: StatementPlan): boolean =>
  plan.kind === 'do' || (plan.calls.includes('set_config') && /search_path/i.test(plan.text));
