/**
 * Rules that a schema's shape can't say. Each is written once and holds twice: as CEL in the CRD, where the API server
 * checks it, and as a predicate in the Zod schema, where tests, the demo and the command line check a manifest offline.
 * A transition rule (one that mentions `oldSelf`) has no predicate, since a single object can't break it.
 * Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions", section "Validation rules".
 */
import type { z } from 'zod';

export interface Rule<T> {
  /** The CEL expression; true means that the value is fine. */
  readonly cel: string;
  /** Says what is wrong and what to change. */
  readonly message: string;
  /** The same rule for Zod; absent for transition rules. */
  readonly holds?: (value: T) => boolean;
}

/** The key under which CEL rules travel in a Zod schema's metadata, and then stand in the CRD. */
export const validationsKey = 'x-kubernetes-validations';

interface Validation {
  readonly rule: string;
  readonly message: string;
}

const validationsOf = (schema: z.ZodType): readonly Validation[] => {
  const found = schema.meta()?.[validationsKey];
  return Array.isArray(found) ? (found as Validation[]) : [];
};

/** The schema with these rules added to those it already has. */
export function ruled<S extends z.ZodType>(schema: S, ...rules: readonly Rule<z.output<S>>[]): S {
  const checked = rules.reduce<S>((current, rule) => {
    const { holds } = rule;
    return holds ? current.refine((value) => holds(value), { message: rule.message }) : current;
  }, schema);
  return checked.meta({
    ...schema.meta(),
    [validationsKey]: [...validationsOf(schema), ...rules.map(({ cel, message }) => ({ rule: cel, message }))],
  });
}

/** A transition rule: the value never changes once it is set. `what` names the field for people. */
export const immutable = <T>(what: string, instead: string): Rule<T> => ({
  cel: 'self == oldSelf',
  message: `${what} can't be changed: ${instead}`,
});
