/**
 * Conditions in the form of `metav1.Condition`, as pure functions.
 * Invariant: `lastTransitionTime` changes exactly when `status` does, so that equal findings give an equal status and no write.
 * Source: Kubernetes API conventions, "Typical status properties".
 */
import { isDeepStrictEqual } from 'node:util';

export interface Condition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  /** CamelCase word for programs; never empty. */
  readonly reason: string;
  /** Sentence for people: what is, and what to do. */
  readonly message: string;
  /** RFC 3339; when `status` last changed. */
  readonly lastTransitionTime: string;
  /** `metadata.generation` that this was found for. */
  readonly observedGeneration?: number;
}

/** A finding of now; when it began is worked out against the conditions already there. */
export interface Finding {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
  /** Makes the Event of this transition a Warning. Not stored. */
  readonly warning?: boolean;
}

export interface ConditionsOptions {
  readonly now: Date;
  readonly observedGeneration?: number | undefined;
}

/**
 * `present` with `findings` in place, in a stable order (as they first appeared).
 * Conditions of types that no finding names are kept: each has an owner of its own.
 */
export function setConditions(
  present: readonly Condition[],
  findings: readonly Finding[],
  options: ConditionsOptions,
): readonly Condition[] {
  const byType = new Map(present.map((condition) => [condition.type, condition]));
  for (const finding of findings) {
    const before = byType.get(finding.type);
    byType.set(finding.type, {
      type: finding.type,
      status: finding.status,
      reason: finding.reason,
      message: finding.message,
      lastTransitionTime: before?.status === finding.status ? before.lastTransitionTime : secondsOf(options.now),
      ...(options.observedGeneration === undefined ? {} : { observedGeneration: options.observedGeneration }),
    });
  }
  return [...byType.values()];
}

export function findCondition(conditions: readonly Condition[] | undefined, type: string): Condition | undefined {
  return conditions?.find((condition) => condition.type === type);
}

export const isTrue = (conditions: readonly Condition[] | undefined, type: string): boolean =>
  findCondition(conditions, type)?.status === 'True';

export interface Transition {
  readonly before: Condition | undefined;
  readonly after: Condition;
}

/** The conditions whose status or reason changed: what is worth a log line and an Event. A new message alone isn't. */
export function transitions(before: readonly Condition[], after: readonly Condition[]): readonly Transition[] {
  return after
    .map((condition) => ({ before: findCondition(before, condition.type), after: condition }))
    .filter((pair) => pair.before?.status !== pair.after.status || pair.before.reason !== pair.after.reason);
}

/** Whether writing `after` over `before` would change nothing. Absent and undefined fields count as equal. */
export function sameStatus(before: unknown, after: unknown): boolean {
  return isDeepStrictEqual(asJson(before), asJson(after));
}

const asJson = (value: unknown): unknown => (value === undefined ? undefined : JSON.parse(JSON.stringify(value)));

/** metav1.Time has whole seconds. */
const secondsOf = (time: Date): string => `${time.toISOString().slice(0, 19)}Z`;
