/**
 * Decides for one statement which tenant and shard it belongs to, whether it may only run on the primary, and at what level:
 * pure, from the plan, the session and the map. Which member of the shard is decided in `member-choice.ts`.
 * The order in which tenant and level are found is that of docs/design.md, section 6; SQL text never widens the login.
 */
import assert from 'node:assert/strict';
import { parseStaleness } from '../consistency/durations.ts';
import { RouterError } from '../errors.ts';
import { type Login, mayActFor } from '../map/logins.ts';
import { type ClusterMap, type ConsistencyLevel, consistencyLevels } from '../map/map.ts';
import type { Hints, StatementPlan } from '../plan/types.ts';
import { canonicalKey, keyOfParameter } from './tenant-key.ts';

/** A parameter of a Bind message by its index, from 1. */
export type Parameters = (index: number) => { readonly format: number; readonly value: Buffer | null } | undefined;

export interface StatementToRoute {
  readonly plan: StatementPlan;
  readonly hints: Hints;
  /** The constants of `plan.tenant.literals` in this very statement. */
  readonly keys?: readonly string[] | undefined;
  /** Absent before a Bind: a statement that is only parsed or described. */
  readonly parameters?: Parameters | undefined;
  readonly parameterTypes?: readonly number[] | undefined;
}

export interface SessionToRoute {
  readonly login: Login;
  /** `SET meridian.tenant`, or the start-up option. */
  readonly tenant: string | undefined;
  /** `SET LOCAL`, `SET meridian.consistency` or the start-up option. */
  readonly level: ConsistencyLevel | undefined;
  /** `meridian.max_staleness`, likewise. */
  readonly maxStalenessMs?: number | undefined;
  readonly workflow: string | undefined;
  /** An explicit transaction: all of it runs in one place. */
  readonly isInTransaction: boolean;
  /** An explicit transaction that may write: it runs on the primary whatever its statements are. */
  readonly isWritingTransaction: boolean;
}

export interface Route {
  /** Undefined where the statement belongs to no tenant: then any shard will do. */
  readonly tenant: string | undefined;
  readonly shard: string | undefined;
  /** It reads reference tables: what is asked of its level is asked of whichever shard serves it. */
  readonly isReference?: boolean;
  readonly level: ConsistencyLevel;
  /** How old what is read may be; also of a causal read that runs together with a bounded one. */
  readonly maxStalenessMs?: number | undefined;
  readonly primaryOnly: boolean;
}

/** Of what touches nothing: any member will do. */
export const anyRoute: Route = { tenant: undefined, shard: undefined, level: 'strong', primaryOnly: false };

/** @throws RouterError saying why it can't be routed. */
export function routeStatement(map: ClusterMap, session: SessionToRoute, statement: StatementToRoute): Route {
  const { plan } = statement;
  if (plan.refuse !== undefined)
    throw new RouterError(plan.refuse.sqlstate === '42501' ? 'Forbidden' : 'NotSupported', plan.refuse.message, {
      sqlstate: plan.refuse.sqlstate,
      hint: plan.refuse.hint,
    });
  const { level, maxStalenessMs } = levelOf(map, session, statement);
  const tenant = tenantOf(map, session, statement);
  if (plan.touches === 'reference' && plan.access === 'write')
    throw new RouterError('ReferenceWrite', 'reference tables can not be written through the router');
  // What touches no tenant's rows may run anywhere near, unless a transaction ties it to the rest.
  const writes = plan.access === 'write' && !steering.has(plan.kind);
  const isAnywhere = !writes && !session.isInTransaction && isTenantless(plan);
  // A transaction stays where it begins, so its first statement, whatever it is, begins it where the others may go on.
  const readsStrongly = level === 'strong' && (plan.touches !== 'nothing' || session.isInTransaction);
  return {
    tenant,
    shard: tenant === undefined || isAnywhere ? undefined : shardOf(map, tenant),
    ...(plan.touches === 'reference' ? { isReference: true } : {}),
    level,
    maxStalenessMs,
    primaryOnly: session.isWritingTransaction || writes || readsStrongly,
  };
}

/** Statements that change nothing but the session or the transaction. */
const steering: ReadonlySet<string> = new Set(['set', 'reset', 'show', 'transaction']);

const isTenantless = (plan: StatementPlan): boolean => plan.touches === 'nothing' || plan.touches === 'reference';

/** Of which shard a member has to have seen enough; undefined where it reads nothing that anybody writes. */
export const shardReadAt = ({ shard, isReference }: Route, memberShard: string): string | undefined =>
  shard ?? (isReference === true ? memberShard : undefined);

/** One route for several statements that run in one transaction. @throws RouterError where there is none. */
export function mergeRoutes(routes: readonly Route[], otherwise: Route): Route {
  const [first, ...others] = routes;
  if (first === undefined) return otherwise;
  return others.reduce((merged, route) => {
    if (merged.tenant !== undefined && route.tenant !== undefined && merged.tenant !== route.tenant)
      throw new RouterError(
        'OtherTenant',
        `statements of tenants "${merged.tenant}" and "${route.tenant}" in one transaction`,
      );
    return {
      tenant: merged.tenant ?? route.tenant,
      shard: merged.shard ?? route.shard,
      ...(merged.isReference === true || route.isReference === true ? { isReference: true } : {}),
      level:
        consistencyLevels.indexOf(merged.level) <= consistencyLevels.indexOf(route.level) ? merged.level : route.level,
      maxStalenessMs: shorterOf(merged.maxStalenessMs, route.maxStalenessMs),
      primaryOnly: merged.primaryOnly || route.primaryOnly,
    };
  }, first);
}

export function parseLevel(text: string): ConsistencyLevel {
  const level = consistencyLevels.find((one) => one === text.toLowerCase());
  if (level === undefined)
    throw new RouterError('InvalidSetting', `invalid value for parameter "meridian.consistency": "${text}"`, {
      hint: `Available values: ${consistencyLevels.join(', ')}.`,
    });
  return level;
}

/** What a statement is held to. `maxStalenessMs` is there where something bounds it, and only there. */
export interface Level {
  readonly level: ConsistencyLevel;
  readonly maxStalenessMs?: number | undefined;
}

/** Of a bounded read where neither the session nor the manifest says how old it may be. */
export const defaultStalenessMs = 5_000;

/** The level of a statement, first found wins. */
export function levelOf(map: ClusterMap, session: SessionToRoute, statement: StatementToRoute): Level {
  const { hints, plan } = statement;
  const hinted = hints.consistency === undefined ? undefined : parseLevel(hints.consistency);
  const bound = hints.maxStaleness === undefined ? session.maxStalenessMs : parseStaleness(hints.maxStaleness);
  const { rules, default: otherwise, maxStalenessMs } = map.keyspace.consistency;
  const asked = hinted ?? session.level;
  if (asked !== undefined) return bounded({ level: asked, maxStalenessMs }, bound);
  const ofWorkflow = rules.find((rule) => rule.workflow !== undefined && rule.workflow === session.workflow);
  if (ofWorkflow !== undefined) return bounded(ofWorkflow, bound);
  const ofRole = rules.find((rule) => rule.role !== undefined && rule.role === session.login.role);
  const rest: Level = ofRole ?? { level: otherwise, maxStalenessMs };
  // Of several tables the strictest counts; one without a rule of its own is held to what holds without its rules.
  const levels = plan.tables.map(
    (table) => rules.find((rule) => rule.table !== undefined && names(rule.table, table)) ?? rest,
  );
  if (levels.length === 0) return bounded(rest, bound);
  return levels.map((one) => bounded(one, bound)).reduce(strictestOf);
}

/** What the session says goes before what the manifest does. */
const bounded = ({ level, maxStalenessMs }: Level, asked: number | undefined): Level =>
  level === 'bounded' ? { level, maxStalenessMs: asked ?? maxStalenessMs ?? defaultStalenessMs } : { level };

/** Both are kept: what is causal may be old, and what is young may lack what the session wrote. */
const strictestOf = (one: Level, other: Level): Level => ({
  level: consistencyLevels.indexOf(one.level) <= consistencyLevels.indexOf(other.level) ? one.level : other.level,
  maxStalenessMs: shorterOf(one.maxStalenessMs, other.maxStalenessMs),
});

const shorterOf = (one: number | undefined, other: number | undefined): number | undefined =>
  one === undefined || other === undefined ? (one ?? other) : Math.min(one, other);

/** A rule may name a table of the public schema without it. */
const names = (rule: string, table: string): boolean => rule === table || `public.${rule}` === table;

/** The tenant of a statement, first found wins; a statement that names another than its session is refused. */
export function tenantOf(map: ClusterMap, session: SessionToRoute, statement: StatementToRoute): string | undefined {
  const { login } = session;
  const named = tenantInStatement(map, statement);
  const hinted = statement.hints.tenant === undefined ? undefined : checkedKey(map, statement.hints.tenant);
  const pinned = login.fixedTenant ?? session.tenant;
  if (pinned !== undefined) {
    for (const other of [hinted, ...(named.kind === 'none' ? [] : named.keys)])
      if (other !== undefined && other !== pinned)
        throw new RouterError(
          'OtherTenant',
          `the statement names tenant "${other}", but the session is tenant "${pinned}"'s`,
        );
    return pinned;
  }
  if (hinted !== undefined) {
    if (named.kind !== 'none')
      for (const other of named.keys)
        if (other !== hinted)
          throw new RouterError(
            'OtherTenant',
            `the statement names tenant "${other}", but its comment says "${hinted}"`,
          );
    return permitted(login, hinted);
  }
  if (named.kind === 'tenants') {
    const [first, second] = [...new Set(named.keys)];
    if (second !== undefined)
      throw new RouterError('NotSupported', 'a statement over several tenants is not supported yet', {
        hint: 'Send one statement for each tenant.',
      });
    if (first !== undefined) return permitted(login, first);
  }
  if (statement.plan.touches === 'tenant')
    throw new RouterError(
      'NoTenant',
      `no tenant is known for this statement: ${named.kind === 'unknown' ? named.why : 'nothing restricts it to one'}`,
    );
  if (statement.plan.touches === 'unknown')
    throw new RouterError('NoTenant', 'no tenant is known, and the statement may touch tenant-owned tables');
  return undefined;
}

type Named =
  | { readonly kind: 'none' }
  | { readonly kind: 'tenants'; readonly keys: readonly string[] }
  /** `keys`: what it compares tenant keys with, though that doesn't restrict it. */
  | { readonly kind: 'unknown'; readonly why: string; readonly keys: readonly string[] };

function tenantInStatement(map: ClusterMap, statement: StatementToRoute): Named {
  const { plan, keys: literals = [], parameters, parameterTypes } = statement;
  const type = map.keyspace.tenantType;
  const source = plan.tenant;
  if (source.from === 'none') return { kind: 'none' };
  assert.equal(literals.length, source.literals?.length ?? 0, 'a statement comes with its own constants');
  const constants = source.from === 'unrestricted' ? (source.names ?? []) : source.values;
  const keys = [...constants, ...literals].map((text) => checkedKey(map, text));
  if (source.from === 'unrestricted') return { kind: 'unknown', why: source.why, keys };
  if (source.from === 'parameters') {
    if (parameters === undefined)
      return { kind: 'unknown', why: 'its tenant is a parameter that has no value yet', keys: [] };
    for (const index of source.indexes) {
      const key = keyOfParameter(parameters(index), parameterTypes?.[index - 1] ?? 0, type);
      if (key === undefined) return { kind: 'unknown', why: `parameter $${index} is no ${type} tenant key`, keys };
      keys.push(key);
    }
  }
  if (source.mustAgree === true && new Set(keys).size > 1)
    return { kind: 'unknown', why: `it is about several tenants: ${[...new Set(keys)].toSorted().join(', ')}`, keys };
  return { kind: 'tenants', keys };
}

function checkedKey(map: ClusterMap, text: string): string {
  const key = canonicalKey(text, map.keyspace.tenantType);
  if (key === undefined)
    throw new RouterError('UnknownTenant', `"${text}" is no ${map.keyspace.tenantType} tenant key`);
  return key;
}

/** @throws RouterError where the role may not act for the tenant. Said before whether the tenant exists. */
export function permitted(login: Login, tenant: string): string {
  if (!mayActFor(login, tenant))
    throw new RouterError('TenantForbidden', `role "${login.role}" may not act for tenant "${tenant}"`);
  return tenant;
}

export function shardOf(map: ClusterMap, tenant: string): string {
  const view = map.tenants.get(tenant);
  if (view === undefined) throw new RouterError('UnknownTenant', `tenant "${tenant}" does not exist`);
  if (view.state !== 'active') throw new RouterError('NoMember', `tenant "${tenant}" is changing its shard`);
  return view.shard;
}
