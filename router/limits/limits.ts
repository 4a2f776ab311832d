/**
 * Holds tenants and roles to what the manifests allow them (Tenant.spec.limits, Keyspace.spec.roles[].limits): client connections,
 * statements per second, and transactions in flight. The limits are read from the map at each question, so that a change counts at
 * once; what is over a new limit already isn't ended, but nothing is added. Each worker of a router counts on its own.
 * Leaves to others: how long a statement may run (statement-timeout.ts), who waits for a backend (pool/).
 */
import { RouterError } from '../errors.ts';
import type { ClusterMap, Limits as LimitSet } from '../map/map.ts';
import type { Pool, Taker, Wish } from '../pool/pool.ts';
import { Admission } from './admission.ts';
import { Membership } from './membership.ts';
import { Usage } from './usage.ts';

export interface LimitsOptions {
  readonly map: () => ClusterMap | undefined;
  /** Of the router: each holds to its share. */
  readonly workers?: number;
  /** Something waits so long for its tenant's, or role's, turn. */
  readonly waitMs: number;
  readonly now: () => number;
  readonly onRefused: () => void;
}

export interface TenantUsage {
  readonly tenant: string;
  readonly connections: number;
  readonly inFlight: number;
  readonly waiting: number;
}

export type LimitedKind = 'tenant' | 'role';
type Kind = LimitedKind;

/** Usages that are kept though nothing is in use: their rate is. */
const mostUnused = 10_000;

export class Limits {
  readonly #options: LimitsOptions;
  readonly #usages: Readonly<Record<Kind, Map<string, Usage>>> = { tenant: new Map(), role: new Map() };

  constructor(options: LimitsOptions) {
    this.#options = options;
  }

  /** What that session of the role may use: it ends with `leave`. @throws RouterError where the role has all its connections. */
  join(role: string): Membership {
    this.#expectRoom('role', role);
    this.#usage('role', role).connections += 1;
    return new Membership(
      (tenant, isForced) => {
        if (!isForced) this.#expectRoom('tenant', tenant);
        this.#usage('tenant', tenant).connections += 1;
      },
      (tenant) => this.#drop('tenant', tenant),
      () => this.#drop('role', role),
    );
  }

  /** So many statements are about to be sent. @throws RouterError where that is too many. */
  spend(role: string, tenant: string | undefined, statements: number): void {
    const map = this.#options.map();
    if (map === undefined || statements === 0) return;
    const ofRole = this.#shareOf(map.keyspace.roleLimits?.[role]?.statementsPerSecond);
    if (ofRole !== undefined) this.#spend('role', role, statements, ofRole);
    const ofTenant = this.#shareOf(
      tenant === undefined ? undefined : map.tenants.get(tenant)?.limits?.statementsPerSecond,
    );
    if (ofTenant !== undefined) this.#spend('tenant', tenant as string, statements, ofTenant);
  }

  /** Its statements need a connection of their own: what is in flight, or how long it takes, is limited. */
  needsOwnConnection(role: string, tenant: string | undefined): boolean {
    const limits = [this.#limitsOf('role', role), tenant === undefined ? undefined : this.#limitsOf('tenant', tenant)];
    return limits.some((one) => one?.transactionsInFlight !== undefined || one?.statementTimeoutMs !== undefined);
  }

  /** Milliseconds that a statement may run; undefined without limit. */
  statementTimeoutMs(role: string, tenant: string | undefined): number | undefined {
    const ofRole = this.#limitsOf('role', role)?.statementTimeoutMs;
    const ofTenant = tenant === undefined ? undefined : this.#limitsOf('tenant', tenant)?.statementTimeoutMs;
    return ofRole === undefined || ofTenant === undefined ? (ofRole ?? ofTenant) : Math.min(ofRole, ofTenant);
  }

  /** As `Pool.take`, once no more is in flight than may be; what was taken counts until its pool has it back, or it is closed. */
  take(role: string, tenant: string | undefined, pool: Pool, taker: Taker, wish: Wish | undefined): () => void {
    const limited: [Kind, string][] = [];
    // The tenant's turn first: who waits for it must not hold the role's.
    if (tenant !== undefined && this.#most('tenant', tenant) !== undefined) limited.push(['tenant', tenant]);
    if (this.#most('role', role) !== undefined) limited.push(['role', role]);
    if (limited.length === 0) return pool.take(taker, wish);
    return new Admission(this, limited, tenant ?? '', pool, taker, wish).stop;
  }

  /** For `SHOW TENANTS`: those of which something is in use. */
  *tenants(): Iterable<TenantUsage> {
    for (const [tenant, { connections, inFlight, waiting, isUnused }] of this.#usages.tenant)
      if (!isUnused) yield { tenant, connections, inFlight, waiting };
  }

  connectionsOf(role: string): number {
    return this.#usages.role.get(role)?.connections ?? 0;
  }

  /** The map has changed: whoever may go now goes. */
  changed(): void {
    for (const kind of ['tenant', 'role'] as const)
      for (const [name, usage] of this.#usages[kind])
        if (usage.waiting > 0) usage.admit(this.#most(kind, name) ?? Number.POSITIVE_INFINITY);
  }

  // ---- for admissions

  /** Undefined where it went at once; else how to stop waiting. */
  enter(kind: Kind, name: string, tenant: string, go: () => void): (() => void) | undefined {
    const usage = this.#usage(kind, name);
    const place = usage.enter(kind === 'tenant' ? '' : tenant, this.#most(kind, name) ?? Number.POSITIVE_INFINITY, {
      go,
    });
    return place === undefined ? undefined : () => usage.stopWaiting(place);
  }

  leave(kind: Kind, name: string): void {
    this.#usages[kind].get(name)?.leave(this.#most(kind, name) ?? Number.POSITIVE_INFINITY);
    this.#forget(kind, name);
  }

  get waitMs(): number {
    return this.#options.waitMs;
  }

  refusal(kind: Kind, name: string): RouterError {
    this.#options.onRefused();
    const most = this.#most(kind, name) ?? 0;
    return new RouterError(
      'TooManyInFlight',
      `${kind} "${name}" has ${most} transactions in flight, which is all it may have`,
    );
  }

  // ---- usages

  #limitsOf(kind: Kind, name: string): LimitSet | undefined {
    const map = this.#options.map();
    return kind === 'tenant' ? map?.tenants.get(name)?.limits : map?.keyspace.roleLimits?.[name];
  }

  /** At least one: clients come to whichever worker the kernel gives them. */
  #shareOf(limit: number | undefined): number | undefined {
    return limit === undefined ? undefined : Math.ceil(limit / (this.#options.workers ?? 1));
  }

  #most(kind: Kind, name: string): number | undefined {
    return this.#shareOf(this.#limitsOf(kind, name)?.transactionsInFlight);
  }

  #usage(kind: Kind, name: string): Usage {
    const usages = this.#usages[kind];
    let usage = usages.get(name);
    if (usage === undefined) {
      if (usages.size >= mostUnused) for (const [key, one] of usages) if (one.isUnused) usages.delete(key);
      usage = new Usage();
      usages.set(name, usage);
    }
    return usage;
  }

  #expectRoom(kind: Kind, name: string): void {
    const most = this.#shareOf(this.#limitsOf(kind, name)?.connections);
    if (most === undefined || (this.#usages[kind].get(name)?.connections ?? 0) < most) return;
    this.#options.onRefused();
    throw new RouterError(
      'TooManyConnections',
      `${kind} "${name}" has ${most} client connections, which is all it may have`,
    );
  }

  #spend(kind: Kind, name: string, statements: number, perSecond: number): void {
    if (this.#usage(kind, name).spend(statements, perSecond, this.#options.now())) return;
    this.#options.onRefused();
    throw new RouterError(
      'TooManyStatements',
      `${kind} "${name}" has run ${perSecond} statements in a second, which is all it may`,
    );
  }

  #drop(kind: Kind, name: string): void {
    const usage = this.#usages[kind].get(name);
    if (usage !== undefined) usage.connections -= 1;
    this.#forget(kind, name);
  }

  /** Kept where its rate is counted: a client that comes and goes must not have a new second each time. */
  #forget(kind: Kind, name: string): void {
    if (this.#usages[kind].get(name)?.isUnused !== true) return;
    if (this.#limitsOf(kind, name)?.statementsPerSecond === undefined) this.#usages[kind].delete(name);
  }
}
