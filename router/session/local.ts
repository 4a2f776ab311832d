/**
 * Statements that the router answers itself: Meridian's own settings, and what is about the session's prepared statements.
 * Leaves transactions and everything that needs a backend to session.ts.
 */

import { defaultCausalWaitMs, parseCausalWait, parseStaleness } from '../consistency/durations.ts';
import type { SessionPositions } from '../consistency/session-positions.ts';
import type { TokenKeyring } from '../consistency/token-keyring.ts';
import { RouterError } from '../errors.ts';
import { defaultStalenessMs, parseLevel, permitted, shardOf } from '../exec/route.ts';
import { canonicalKey } from '../exec/tenant-key.ts';
import type { SessionLimits } from '../limits/session-limits.ts';
import type { Login } from '../map/logins.ts';
import type { ClusterMap, ConsistencyLevel } from '../map/map.ts';
import type { StatementPlan } from '../plan/types.ts';
import type { MeridianSettings, SessionSettings } from './settings.ts';
import type { ClientStatement } from './statements.ts';

/** What a value is checked against. */
export interface SettingScope {
  readonly map: ClusterMap;
  readonly login: Login;
  readonly tokens: TokenKeyring;
}

export interface LocalScope extends SettingScope {
  readonly positions: SessionPositions;
  readonly limits: SessionLimits;
  readonly region: string;
  readonly settings: SessionSettings;
  readonly statements: Map<string, ClientStatement>;
  readonly isInTransaction: boolean;
  /** What `SHOW meridian.served_by` says. */
  readonly servedBy: string;
  /** The backend that the session keeps is of no use to it any more. */
  letGo(): void;
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
    case 'execute':
      throw unknownStatement(plan.prepared?.name ?? '', scope);
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
  // At once, whatever becomes of the transaction: seeing more than asked for is no harm.
  if (values.token === '') scope.positions.clear();
  else if (values.token !== undefined) scope.positions.adopt(scope.tokens.decode(values.token));
  // As in Postgres, SET LOCAL outside a transaction has no effect.
  const isLocal = plan.set?.local === true;
  if (!isLocal) scope.limits.choose(values.tenant);
  if (!isLocal || scope.isInTransaction) scope.settings.set(values, isLocal);
  keepUnlessInTransaction(scope);
  return { tag: 'SET' };
}

function keepUnlessInTransaction(scope: LocalScope): void {
  if (!scope.isInTransaction) scope.settings.commit();
}

/** What a value means, checked against login and map. Also for start-up options. */
export function checkedSetting(name: string, value: string, scope: SettingScope): MeridianSettings {
  switch (name) {
    case 'meridian.tenant':
      return { tenant: value === '' ? undefined : checkedTenant(value, scope) };
    case 'meridian.consistency':
      return { level: parseLevel(value) };
    case 'meridian.workflow':
      return { workflow: value };
    case 'meridian.max_staleness':
      return { maxStalenessMs: parseStaleness(value) };
    case 'meridian.causal_wait':
      return { causalWaitMs: parseCausalWait(value) };
    case 'meridian.when_behind':
      return { whenBehind: oneOf(name, value, ['primary', 'error'] as const) };
    case 'meridian.report_token':
      return { reportToken: oneOf(name, value, ['on', 'off'] as const) === 'on' };
    case 'meridian.token':
      if (value !== '') scope.tokens.decode(value);
      return { token: value };
    case 'meridian.served_by':
    case 'meridian.region':
      throw new RouterError('InvalidSetting', `parameter "${name}" cannot be changed`, { sqlstate: '55P02' });
    default:
      throw unknownSetting(name);
  }
}

function oneOf<Value extends string>(name: string, text: string, values: readonly Value[]): Value {
  const value = values.find((one) => one === text.toLowerCase());
  if (value === undefined)
    throw new RouterError('InvalidSetting', `invalid value for parameter "${name}": "${text}"`, {
      hint: `Available values: ${values.join(', ')}.`,
    });
  return value;
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
    case 'meridian.max_staleness':
      scope.settings.reset('maxStalenessMs');
      break;
    case 'meridian.causal_wait':
      scope.settings.reset('causalWaitMs');
      break;
    case 'meridian.when_behind':
      scope.settings.reset('whenBehind');
      break;
    case 'meridian.report_token':
      scope.settings.reset('reportToken');
      break;
    case 'meridian.token':
      scope.positions.clear();
      scope.settings.set({ token: undefined }, false);
      break;
    default:
      throw unknownSetting(name);
  }
  keepUnlessInTransaction(scope);
}

function shown(name: string, scope: LocalScope): string {
  const { tenant, level, workflow, maxStalenessMs, causalWaitMs, whenBehind, reportToken } = scope.settings.meridian;
  switch (name) {
    case 'meridian.tenant':
      return scope.login.fixedTenant ?? tenant ?? '';
    case 'meridian.consistency':
      return level ?? (scope.map.keyspace.consistency.default satisfies ConsistencyLevel);
    case 'meridian.workflow':
      return workflow ?? '';
    case 'meridian.max_staleness':
      return `${maxStalenessMs ?? scope.map.keyspace.consistency.maxStalenessMs ?? defaultStalenessMs}ms`;
    case 'meridian.causal_wait':
      return `${causalWaitMs ?? defaultCausalWaitMs}ms`;
    case 'meridian.when_behind':
      return whenBehind ?? 'primary';
    case 'meridian.report_token':
      return reportToken === true ? 'on' : 'off';
    case 'meridian.token':
      if (!scope.positions.isSettled)
        throw new RouterError('NotReady', 'it is not known yet where something that this session has read was');
      return scope.tokens.encode(scope.positions.all);
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
    scope.positions.clear();
    scope.letGo();
  }
  // Plans, sequences and temporary tables are the backends' own, and no client's for longer than a transaction.
  return { tag: `DISCARD ${what.toUpperCase()}` };
}

/** Nothing was prepared in SQL, or the session would keep its backend. */
const unknownStatement = (name: string, { statements }: LocalScope): RouterError =>
  statements.has(name)
    ? new RouterError('NotSupported', 'EXECUTE of a statement that was prepared by the protocol', {
        hint: 'Execute it by the protocol, or prepare it with PREPARE.',
      })
    : new RouterError('UnknownStatement', `prepared statement "${name}" does not exist`);

const settingNames = [
  'tenant',
  'consistency',
  'max_staleness',
  'causal_wait',
  'when_behind',
  'token',
  'report_token',
  'workflow',
  'served_by',
  'region',
];

const unknownSetting = (name: string): RouterError =>
  new RouterError('UnknownSetting', `unrecognized configuration parameter "${name}"`, {
    hint: `There are ${settingNames.map((one) => `meridian.${one}`).join(', ')}.`,
  });
