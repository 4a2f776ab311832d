/**
 * Who may log in, with which verifiers, and for which tenants: the router's copy of `meridian.router_logins()`.
 * Read from Postgres, never from the API server. What SQL text says never widens what is here.
 */
import { parseVerifier, type ScramVerifier } from '../wire/scram.ts';

export interface Login {
  readonly role: string;
  readonly verifiers: readonly ScramVerifier[];
  readonly anyTenant: boolean;
  readonly tenants: ReadonlySet<string>;
  /** The one tenant of a role that may act for one: Postgres pins it by `session_user`, so nothing has to be set. */
  readonly fixedTenant?: string | undefined;
  /** Milliseconds since 1970: until then the verifiers after the first (of former passwords) count, too. Undefined: no end yet. */
  readonly formerUntilMs?: number | undefined;
  /** Milliseconds since 1970: after that nobody logs in (VALID UNTIL). Undefined: without end. */
  readonly untilMs?: number | undefined;
}

export interface LoginRow {
  readonly role: string;
  readonly verifiers: readonly string[];
  readonly anyTenant: boolean;
  readonly tenants: readonly string[];
  readonly formerUntil: string | null;
  readonly until?: string | null;
}

export function loginOfRow(row: LoginRow): Login {
  const verifiers = row.verifiers.map(parseVerifier).filter((verifier) => verifier !== undefined);
  const only = !row.anyTenant && row.tenants.length === 1 ? row.tenants[0] : undefined;
  const formerUntilMs = row.formerUntil === null ? Number.NaN : Date.parse(row.formerUntil);
  const untilMs = row.until === '-infinity' ? 0 : Date.parse(row.until ?? '');
  return {
    role: row.role,
    verifiers,
    anyTenant: row.anyTenant,
    tenants: new Set(row.tenants),
    ...(only === undefined ? {} : { fixedTenant: only }),
    ...(Number.isNaN(formerUntilMs) ? {} : { formerUntilMs }),
    ...(Number.isNaN(untilMs) ? {} : { untilMs }),
  };
}

/** The verifiers that count at this time, the present password's first; none when the role's own time is over. */
export function verifiersAt(login: Login, nowMs: number): readonly ScramVerifier[] {
  if (login.untilMs !== undefined && login.untilMs <= nowMs) return [];
  const isOver = login.formerUntilMs !== undefined && login.formerUntilMs <= nowMs;
  return isOver ? login.verifiers.slice(0, 1) : login.verifiers;
}

const reaches = new WeakMap<Login, string>();

/** What the role may act for, as a text to compare: Postgres keeps it as a constant in the plans of a connection. */
export function reachOf(login: Login | undefined): string {
  if (login === undefined) return 'none';
  let reach = reaches.get(login);
  if (reach === undefined) {
    reach = login.anyTenant ? 'any' : JSON.stringify([...login.tenants].toSorted());
    reaches.set(login, reach);
  }
  return reach;
}

/**
 * Whether a session that was opened under `before` may go on under `present`: it has lost nothing, and its tenant is chosen in the
 * same way. A role of one tenant acts for that one whatever its sessions have set, so it must not be a session that chose another.
 */
export const mayGoOn = (before: Login, present: Login | undefined): boolean =>
  present !== undefined &&
  (reachOf(present) === reachOf(before) ||
    (present.fixedTenant === before.fixedTenant &&
      present.anyTenant === before.anyTenant &&
      [...before.tenants].every((tenant) => present.tenants.has(tenant))));

export const mayActFor = (login: Login, tenant: string): boolean => login.anyTenant || login.tenants.has(tenant);
