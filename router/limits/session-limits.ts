/**
 * One session under the limits of its role and of the tenants that it acts for: its part in their connections, its statements, and the
 * settings that its backends get. Leaves counting to limits.ts.
 */
import type { Login } from '../map/logins.ts';
import type { StatementPlan } from '../plan/types.ts';
import type { Backend } from '../pool/backend.ts';
import type { Wish } from '../pool/pool.ts';
import type { SessionSettings } from '../session/settings.ts';
import type { Limits } from './limits.ts';
import type { Membership } from './membership.ts';
import { withStatementTimeout } from './statement-timeout.ts';

interface Routed {
  readonly tenant?: string | undefined;
}

export class SessionLimits {
  readonly #limits: Limits;
  readonly #membership: Membership;
  readonly #settings: SessionSettings;
  readonly #login: Login;
  /** The backend at hand, and what it was given: the session's settings, and those with the limit. */
  #given: { readonly backend: Backend; readonly session: string; readonly all: string } | undefined;

  #former: string | undefined;
  #next: string | undefined;

  /** @throws RouterError where there is no room for another connection. */
  constructor(limits: Limits, settings: SessionSettings, login: Login) {
    this.#limits = limits;
    this.#settings = settings;
    this.#login = login;
    this.#membership = limits.join(login.role);
    try {
      const tenant = login.fixedTenant ?? settings.meridian.tenant;
      if (tenant !== undefined) this.#membership.reserve(tenant);
    } catch (error) {
      this.#membership.leave();
      throw error;
    }
  }

  /** Whose a statement is; undefined where it is nobody's. */
  tenantOf(route: Routed): string | undefined {
    return route.tenant ?? this.#login.fixedTenant ?? this.#settings.meridian.tenant;
  }

  /** The session chooses that tenant. @throws RouterError where the tenant has all its connections. */
  choose(tenant: string | undefined): void {
    if (tenant !== undefined && this.#login.fixedTenant === undefined) this.#membership.reserve(tenant);
  }

  /** What was chosen may have been kept, or be gone: it counts for what it has now. */
  settle(): void {
    const { formerTenant, nextTenant } = this.#settings;
    if (formerTenant === this.#former && nextTenant === this.#next) return;
    this.#former = formerTenant;
    this.#next = nextTenant;
    const { fixedTenant } = this.#login;
    if (fixedTenant === undefined) this.#membership.settle(formerTenant, nextTenant);
  }

  /** They are about to be sent; the end of a transaction always may be. @throws RouterError */
  spend(route: Routed, plans: readonly (StatementPlan | undefined)[]): void {
    let statements = 0;
    for (const plan of plans) if (plan?.transaction === undefined) statements += 1;
    this.#limits.spend(this.#login.role, this.tenantOf(route), statements);
  }

  needsOwnConnection(route: Routed): boolean {
    return this.#limits.needsOwnConnection(this.#login.role, this.tenantOf(route));
  }

  /** What is wanted of a backend for a statement, and whose limits it is under. */
  wanted(route: Routed, pin: string | undefined): { tenant: string | undefined; wish: Wish } {
    // What a backend was given before it was let go of in doubt says nothing of what it has when it comes again.
    this.#given = undefined;
    return { tenant: this.tenantOf(route), wish: { settings: this.#settingsFor(route), pin } };
  }

  /** What that backend is to be given for a statement: as `SessionSettings.replayText`. */
  settingsFor(route: Routed, backend: Backend): string {
    const all = this.#settingsFor(route);
    this.#given = { backend, session: this.#settings.replayText, all };
    return all;
  }

  /** What that backend has when the session lets go of it: what it had, if it was given nothing. */
  left(backend: Backend): string {
    const given = this.#given;
    this.#given = undefined;
    if (given?.backend !== backend) return backend.settings;
    const now = this.#settings.replayText;
    if (given.session === now) return given.all;
    // Behind the limit the session has set something itself: which of the two counts isn't worth knowing, and nobody asks for this.
    return given.session === given.all ? now : `${given.all}\n;${now}`;
  }

  #settingsFor(route: Routed): string {
    const limitMs = this.#limits.statementTimeoutMs(this.#login.role, this.tenantOf(route));
    return withStatementTimeout(this.#settings.replayText, limitMs);
  }

  end(): void {
    this.#membership.leave();
  }
}
