/**
 * Lists with the meaning that Kubernetes gives them: sets and maps whose entries server-side apply merges one by one
 * and of which the API server refuses duplicates, and atomic lists that are replaced whole.
 * Source: Kubernetes documentation, "Server-Side Apply", section "Merge strategy".
 */
import { z } from 'zod';

const withoutDuplicates = <T>(list: readonly T[], keyOf: (entry: T) => unknown): boolean =>
  new Set(list.map(keyOf)).size === list.length;

/** A list in which every scalar occurs once. */
export const setOf = <T extends z.ZodType>(entry: T, most: number) =>
  z
    .array(entry)
    .max(most)
    .refine((list) => withoutDuplicates(list, (one) => one), { message: 'Duplicate value' })
    .meta({ 'x-kubernetes-list-type': 'set' });

/** A list of objects in which every value of the field `key`, or of several fields together, occurs once. */
export const mapOf = <T extends z.ZodObject>(
  entry: T,
  key: (keyof z.output<T> & string) | readonly (keyof z.output<T> & string)[],
  most: number,
) => {
  const keys: readonly string[] = typeof key === 'string' ? [key] : key;
  const keyOf = (one: unknown): string =>
    JSON.stringify(keys.map((field) => (one as Readonly<Record<string, unknown>>)[field]));
  return z
    .array(entry)
    .max(most)
    .refine((list) => withoutDuplicates(list, keyOf), { message: 'Duplicate value' })
    .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': [...keys] });
};

/** A list that is replaced whole, and in which order may matter. */
export const atomicListOf = <T extends z.ZodType>(entry: T, most: number) =>
  z.array(entry).max(most).meta({ 'x-kubernetes-list-type': 'atomic' });
