/**
 * Statements that the router answers itself: Meridian's own settings, and what is about the session's prepared statements.
 * Leaves transactions and everything that needs a backend to session.ts.
 */
import { RouterError } from '../errors.ts';
import { parseLevel, permitted, shardOf } from '../exec/route.ts';
import { canonicalKey } from '../exec/tenant-key.ts';
import type { Login } from '../map/logins.ts';
import type { ClusterMap, ConsistencyLevel } from '../map/map.ts';
import type { StatementPlan } from '../plan/types.ts';
import type { MeridianSettings, SessionSettings } from './settings.ts';
import type { ClientStatement } from './statements.ts';

export interface LocalScope {
  readonly map: ClusterMap;
  readonly login: Login;
  readonly region: string;
  readonly settings: SessionSettings;
  readonly statements: Map<string, ClientStatement>;
  readonly isInTransaction: boolean;
  /** What `SHOW meridian.served_by` says. */
  readonly servedBy: string;
}

export interface LocalAnswer {
  readonly tag: string;
  readonly column?: string;
  readonly value?: string;
}

/** The column that a local statement answers with, for Describe; undefined where it answers with none. */
export const localColumn = (plan: StatementPlan): string | undefined =>
  plan.kind === 'show' ? plan.show?.name : undefined;

/** @throws RouterError as Postgres would say it. */
export function runLocal(plan: StatementPlan, scope: LocalScope): LocalAnswer {
  switch (plan.kind) {
    case 'set':
      return set(plan.set?.name ?? '', plan, scope);
    case 'reset':
      reset(plan.reset?.name ?? '', scope);
      return { tag: 'RESET' };
    case 'show': {
      const name = plan.show?.name ?? '';
      return { tag: 'SHOW', column: name, value: shown(name, scope) };
    }
    case 'deallocate':
      return deallocate(plan.prepared?.name, scope);
    case 'unlisten':
      return { tag: 'UNLISTEN' };
    case 'discard':
      return discard(plan.discard?.what ?? 'all', scope);
    default:
      throw new RouterError('Internal', `not a local statement: ${plan.kind}`);
  }
}

function set(name: string, plan: StatementPlan, scope: LocalScope): LocalAnswer {
  const value = plan.set?.value;
  if (plan.set?.toDefault === true || value === undefined) {
    reset(name, scope);
    return { tag: 'SET' };
  }
  const values = checkedSetting(name, value, scope);
  // As in Postgres, SET LOCAL outside a transaction has no effect.
  const isLocal = plan.set?.local === true;
  if (!isLocal || scope.isInTransaction) scope.settings.set(values, isLocal);
  keepUnlessInTransaction(scope);
  return { tag: 'SET' };
}

function keepUnlessInTransaction(scope: LocalScope): void {
  if (!scope.isInTransaction) scope.settings.commit();
}

/** What a value means, checked against login and map. Also for start-up options. */
export function checkedSetting(
  name: string,
  value: string,
  scope: { readonly map: ClusterMap; readonly login: Login },
): MeridianSettings {
  switch (name) {
    case 'meridian.tenant':
      return { tenant: value === '' ? undefined : checkedTenant(value, scope) };
    case 'meridian.consistency':
      return { level: parseLevel(value) };
    case 'meridian.workflow':
      return { workflow: value };
    case 'meridian.served_by':
    case 'meridian.region':
      throw new RouterError('InvalidSetting', `parameter "${name}" cannot be changed`, { sqlstate: '55P02' });
    default:
      throw unknownSetting(name);
  }
}

function checkedTenant(text: string, { map, login }: { readonly map: ClusterMap; readonly login: Login }): string {
  const key = canonicalKey(text, map.keyspace.tenantType);
  if (key === undefined)
    throw new RouterError('UnknownTenant', `"${text}" is no ${map.keyspace.tenantType} tenant key`);
  permitted(login, key);
  if (!map.tenants.has(key)) shardOf(map, key);
  return key;
}

function reset(name: string, scope: LocalScope): void {
  switch (name) {
    case 'meridian.tenant':
      scope.settings.reset('tenant');
      break;
    case 'meridian.consistency':
      scope.settings.reset('level');
      break;
    case 'meridian.workflow':
      scope.settings.reset('workflow');
      break;
    default:
      throw unknownSetting(name);
  }
  keepUnlessInTransaction(scope);
}

function shown(name: string, scope: LocalScope): string {
  const { tenant, level, workflow } = scope.settings.meridian;
  switch (name) {
    case 'meridian.tenant':
      return scope.login.fixedTenant ?? tenant ?? '';
    case 'meridian.consistency':
      return level ?? (scope.map.keyspace.consistency.default satisfies ConsistencyLevel);
    case 'meridian.workflow':
      return workflow ?? '';
    case 'meridian.region':
      return scope.region;
    case 'meridian.served_by':
      return scope.servedBy;
    default:
      throw unknownSetting(name);
  }
}

function deallocate(name: string | undefined, { statements }: LocalScope): LocalAnswer {
  if (name === undefined) {
    statements.clear();
    return { tag: 'DEALLOCATE ALL' };
  }
  if (!statements.delete(name))
    throw new RouterError('UnknownStatement', `prepared statement "${name}" does not exist`);
  return { tag: 'DEALLOCATE' };
}

function discard(what: string, scope: LocalScope): LocalAnswer {
  if (what === 'all') {
    if (scope.isInTransaction)
      throw new RouterError('ActiveTransaction', 'DISCARD ALL cannot run inside a transaction block');
    scope.statements.clear();
    scope.settings.resetAll();
    scope.settings.commit();
  }
  // Plans, sequences and temporary tables are the backends' own, and no client's for longer than a transaction.
  return { tag: `DISCARD ${what.toUpperCase()}` };
}

const unknownSetting = (name: string): RouterError =>
  new RouterError('UnknownSetting', `unrecognized configuration parameter "${name}"`, {
    hint: 'There are meridian.tenant, meridian.consistency, meridian.workflow, meridian.served_by and meridian.region.',
  });
