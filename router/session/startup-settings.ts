/**
 * What the start-up packet says about settings: Meridian's own are checked and kept, generic ones are replayed on backends, and
 * some are refused: they would widen what the login allows, or can't be kept where backends are shared.
 */
import { RouterError } from '../errors.ts';
import { guardSetting } from '../plan/settings.ts';
import { settingsOfOptions } from '../wire/startup.ts';
import { checkedSetting, type SettingScope } from './local.ts';
import { type MeridianSettings, SessionSettings } from './settings.ts';

/** Not settings, or settings of the connection that the router has for itself. */
const notSettings = new Set(['user', 'database', 'options', 'replication']);

export interface StartupSettings {
  readonly settings: SessionSettings;
  readonly applicationName: string;
  /** What the client is told of them (ParameterStatus). */
  readonly reported: ReadonlyMap<string, string>;
}

/** Settings that are reported to clients, by their lower-case name. */
const reportedNames = new Map(
  ['application_name', 'client_encoding', 'DateStyle', 'IntervalStyle', 'TimeZone', 'standard_conforming_strings'].map(
    (name) => [name.toLowerCase(), name],
  ),
);

/** @throws RouterError naming what can't be. */
export function readStartupSettings(parameters: ReadonlyMap<string, string>, scope: SettingScope): StartupSettings {
  const replication = parameters.get('replication') ?? 'off';
  if (!['off', 'false', 'no', '0'].includes(replication.toLowerCase()))
    throw new RouterError('NotSupported', 'replication connections are not supported through the router');
  const given: [string, string][] = [];
  for (const [name, value] of parameters) if (!notSettings.has(name)) given.push([name.toLowerCase(), value]);
  given.push(...optionsOf(parameters.get('options') ?? ''));

  const generic = new Map<string, string>();
  let meridian: MeridianSettings = {};
  const reported = new Map<string, string>();
  for (const [name, value] of given) {
    if (name.startsWith('meridian.')) meridian = { ...meridian, ...checkedSetting(name, value, scope) };
    else if (name === 'client_encoding') checkEncoding(value);
    else {
      const refusal = guardSetting(name, value);
      if (refusal !== undefined)
        throw new RouterError('Forbidden', refusal.message, { sqlstate: refusal.sqlstate, hint: refusal.hint });
      generic.set(name, value);
      const reportedName = reportedNames.get(name);
      if (reportedName !== undefined) reported.set(reportedName, reportedValue(name, value));
    }
  }
  reported.set('client_encoding', 'UTF8');
  return {
    settings: new SessionSettings(generic, meridian),
    applicationName: generic.get('application_name') ?? '',
    reported,
  };
}

function optionsOf(text: string): [string, string][] {
  try {
    return settingsOfOptions(text).map(([name, value]) => [name.toLowerCase(), value]);
  } catch (error) {
    throw new RouterError('Syntax', error instanceof Error ? error.message : String(error));
  }
}

/** Tenant keys are read from statements and parameters, so those must be in an encoding that the router reads. */
function checkEncoding(value: string): void {
  if (!/^['"]?(utf-?8|unicode|auto)['"]?$/i.test(value))
    throw new RouterError('NotSupported', `client encoding "${value}" is not supported`, { hint: 'Use UTF8.' });
}

/** Postgres completes a date style; drivers look at the whole. */
function reportedValue(name: string, value: string): string {
  return name === 'datestyle' && !value.includes(',') ? `${value}, MDY` : value;
}
