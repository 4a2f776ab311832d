/**
 * Server-side apply as far as our tests need it: maps are merged by field, lists are one field, fields that the manager gave
 * before and gives no more are removed unless another manager gives them.
 */
import { isDeepStrictEqual } from 'node:util';
import { isObject, type JsonObject } from './storage.ts';

export interface Applied {
  readonly object: JsonObject;
  /** Paths that another manager gives another value. */
  readonly conflicts: readonly string[];
}

export function applyFields(
  present: JsonObject,
  last: JsonObject,
  given: JsonObject,
  others: readonly JsonObject[],
): Applied {
  const conflicts: string[] = [];
  const object = structuredClone(present);
  for (const path of leaves(last))
    if (at(given, path) === undefined && !others.some((other) => at(other, path) !== undefined)) drop(object, path);
  for (const path of leaves(given)) {
    const value = at(given, path);
    const isTaken = others.some((other) => {
      const theirs = at(other, path);
      return theirs !== undefined && !isDeepStrictEqual(theirs, value);
    });
    if (isTaken) conflicts.push(path.join('.'));
    put(object, path, structuredClone(value));
  }
  return { object, conflicts };
}

function* leaves(value: JsonObject, path: readonly string[] = []): Generator<readonly string[]> {
  for (const [name, inner] of Object.entries(value)) {
    if (isObject(inner) && Object.keys(inner).length > 0) yield* leaves(inner, [...path, name]);
    else yield [...path, name];
  }
}

function at(value: unknown, path: readonly string[]): unknown {
  let inner = value;
  for (const name of path) inner = isObject(inner) ? inner[name] : undefined;
  return inner;
}

function put(target: JsonObject, path: readonly string[], value: unknown): void {
  let inner = target;
  for (const name of path.slice(0, -1)) {
    const next = inner[name];
    inner = isObject(next) ? next : (inner[name] = {} as JsonObject);
  }
  inner[path.at(-1) ?? ''] = value;
}

function drop(target: JsonObject, path: readonly string[]): void {
  const parent = at(target, path.slice(0, -1));
  if (isObject(parent)) delete parent[path.at(-1) ?? ''];
}
