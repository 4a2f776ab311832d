/** Times in settings and hints, as Postgres' own settings have them ("Parameter Names and Values"). */
import { RouterError } from '../errors.ts';

const unitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1_000, min: 60_000, h: 3_600_000, d: 86_400_000 };

/** A number of milliseconds, or with a unit. @throws RouterError */
function parseMilliseconds(name: string, text: string, min: number, max: number): number {
  const [, number = '', unit = 'ms'] = /^\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|h|d)?\s*$/.exec(text) ?? [];
  const ms = Math.round(Number(number) * (unitsMs[unit] ?? 1));
  if (number === '' || ms < min || ms > max)
    throw new RouterError('InvalidSetting', `invalid value for parameter "${name}": "${text}"`, {
      hint: `From ${min} ms to ${max} ms; units are ms, s, min, h and d.`,
    });
  return ms;
}

/** What the manifest takes. */
export const parseStaleness = (text: string): number =>
  parseMilliseconds('meridian.max_staleness', text, 100, 86_400_000);

/** Of `meridian.causal_wait`. */
export const defaultCausalWaitMs = 100;

export const parseCausalWait = (text: string): number => parseMilliseconds('meridian.causal_wait', text, 0, 60_000);
