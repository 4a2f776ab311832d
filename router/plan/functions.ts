/**
 * What is known of a function by its name: whether it is Postgres' own, and whether it is free of side effects.
 * A function of Postgres' own reads no table of the keyspace; of any other that can't be known (it may read whatever it
 * likes), so that a statement which calls one isn't restricted by its text.
 * An unqualified name counts as pg_catalog's if that has it: pg_catalog is searched first, and a function of the same name
 * elsewhere is called only for argument types of its own, which none but a migration can make.
 */
import type { FuncCall } from '@pgsql/types';
import { aggregateFunctions, stableFunctions, volatileFunctions } from './builtin-functions.ts';

const wordsOf = (text: string): ReadonlySet<string> => new Set(text.trim().split(/\s+/));

const stable = wordsOf(stableFunctions);
const volatile = wordsOf(volatileFunctions);
const aggregates = wordsOf(aggregateFunctions);

const namesOf = ({ funcname = [] }: FuncCall): string[] =>
  funcname.map((part) => ('String' in part ? (part.String.sval ?? '') : ''));

/** The function's name without its schema. */
export const functionName = (call: FuncCall): string => namesOf(call).at(-1) ?? '';

export function isBuiltin(call: FuncCall): boolean {
  const names = namesOf(call);
  const name = names.at(-1) ?? '';
  const schema = names.length > 1 ? names.at(-2) : undefined;
  if (schema === 'information_schema') return true;
  if (schema !== undefined && schema !== 'pg_catalog') return false;
  return stable.has(name) || volatile.has(name) || aggregates.has(name);
}

/** A function of Postgres' own that is neither an aggregate nor a window function. */
export const isPlainBuiltin = (call: FuncCall): boolean => isBuiltin(call) && !aggregates.has(functionName(call));

/** `known`: names of volatile functions in the database, builtin or not. */
export const isVolatile = (call: FuncCall, known: ReadonlySet<string>): boolean =>
  known.has(functionName(call)) || volatile.has(functionName(call));
