/**
 * What a controller is: the decisions of one kind, with no loop, no watch and no retry of its own (the runtime has those).
 * A reconcile is: observe (reads only) -> plan (pure) -> act (one action after the other) -> conclude (pure, optional)
 * -> exactly one write of the status, skipped where nothing changed.
 *
 * Invariants the runtime keeps: one key is never reconciled twice at the same time; nothing acts without the leader's
 * Lease; a failed action ends the round, is retried with the key's own back-off and shows in the condition `Reconciled`.
 * What a controller keeps: every action may be repeated; `status` says what was seen, never what is hoped for.
 */
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { KubeApi } from '#kube/client.ts';
import type { Condition, Finding } from '#kube/conditions.ts';
import type { ResourceType } from '#kube/kinds.ts';
import type { KubeObject, ObjectKey, Stored } from '#kube/objects.ts';
import type { Takeovers } from '../takeover/takeovers.ts';

/** What every kind's status has in common. The runtime writes `observedGeneration` and merges `conditions`. */
export interface StatusBase {
  readonly phase?: string | undefined;
  readonly observedGeneration?: number | undefined;
  readonly conditions?: readonly Condition[] | undefined;
}

/** Any of Meridian's own kinds, as far as the runtime has to know it. */
export interface ControlledObject extends KubeObject {
  readonly status?: StatusBase | undefined;
}

export type StatusOf<T extends ControlledObject> = NonNullable<T['status']>;

/** A status as a plan gives it: without what the runtime adds. */
export type PlannedStatus<T extends ControlledObject> = Omit<StatusOf<T>, 'conditions' | 'observedGeneration'>;

/** Reads of the watched kinds from memory; may lag behind the API server by milliseconds, or more when a watch is broken. */
export interface Cache {
  get<T extends KubeObject>(type: ResourceType<T>, reference: ObjectReferenceLike): Stored<T> | undefined;
  /** Objects of the namespace (all namespaces when undefined) that carry all these labels. */
  list<T extends KubeObject>(
    type: ResourceType<T>,
    options?: { readonly namespace?: string | undefined; readonly labels?: Readonly<Record<string, string>> },
  ): readonly Stored<T>[];
}

export interface ObjectReferenceLike {
  readonly namespace?: string | undefined;
  readonly name: string;
}

/** A kind whose changes wake this controller, and which of its keys they wake. */
export interface RelatedWatch<R extends KubeObject = KubeObject> {
  readonly type: ResourceType<R>;
  /** Only objects with these labels are watched (a label selector). Built-in kinds default to Meridian's own objects. */
  readonly labelSelector?: string;
  keys(object: Stored<R>, cache: Cache): readonly ObjectKey[];
}

export interface PlannedEvent {
  readonly type: 'Normal' | 'Warning';
  /** CamelCase, for example `Promoted`. */
  readonly reason: string;
  readonly message: string;
}

export interface Conclusion<T extends ControlledObject> {
  /** The whole status (conditions apart); undefined leaves it as it is. */
  readonly status?: PlannedStatus<T> | undefined;
  /** Each condition type belongs to one controller. Each transition becomes one log line and one Event by itself. */
  readonly conditions?: readonly Finding[];
  /** Events that aren't a transition of phase or condition. Repeats are counted, not repeated. */
  readonly events?: readonly PlannedEvent[];
  /** Look again after this long even if nothing changes. 0: at once. */
  readonly requeueAfterMs?: number | undefined;
}

export interface Plan<T extends ControlledObject, Action> extends Conclusion<T> {
  /** Done in this order; the first that fails ends the round. Data, so that tests can compare them. */
  readonly actions: readonly Action[];
  /** Only for an object being deleted: all that had to be undone is undone, the finalizer may go (after the actions). */
  readonly release?: boolean;
}

export type ActionResult<Action> =
  | { readonly action: Action; readonly outcome: 'done'; readonly value: unknown }
  | { readonly action: Action; readonly outcome: 'failed'; readonly error: unknown }
  | { readonly action: Action; readonly outcome: 'skipped' };

export interface ObserveContext {
  readonly cache: Cache;
  readonly log: Logger;
  /** Aborts when leadership is lost or the operator ends. */
  readonly signal: AbortSignal;
}

export interface ActContext<T extends ControlledObject> extends ObserveContext {
  /** The object as observed, or as last recorded by `recordStatus`. */
  readonly object: Stored<T>;
  /**
   * Writes the status now, before the actions that follow: a compare-and-swap, PUT /status with the resourceVersion that
   * was observed (docs/design.md, section 4: "never a patch, never retry-on-conflict"). The given fields replace those of
   * the present status, others stay. On a conflict it throws, and the round ends.
   */
  recordStatus(change: Partial<PlannedStatus<T>>): Promise<Stored<T>>;
}

export interface Controller<T extends ControlledObject, Snapshot, Action> {
  readonly type: ResourceType<T>;
  /**
   * Read the object from the API server before each reconcile instead of from the cache. Needed where the status is a record that
   * is compared and swapped (Shard, Tenant): the resourceVersion must be that of a GET.
   */
  readonly readsFresh?: boolean;
  /** Put on every object before anything is done for it, and taken off when a plan says `release`. */
  readonly finalizer?: string;
  readonly watches: readonly RelatedWatch<never>[];
  /** How many keys at once; default 4. */
  readonly concurrency?: number;
  /** Reads the world. May ask agents and Postgres; changes nothing. A failure is retried with back-off. */
  observe(object: Stored<T>, context: ObserveContext): Promise<Snapshot>;
  plan(snapshot: Snapshot, now: Date): Plan<T, Action>;
  /** The value it gives back reaches `conclude`. */
  act(action: Action, context: ActContext<T>): Promise<unknown>;
  /** For what only the actions can tell (a failed migration). Replaces the plan's status, conditions, events, requeue. */
  conclude?(
    snapshot: Snapshot,
    plan: Plan<T, Action>,
    results: readonly ActionResult<Action>[],
    now: Date,
  ): Conclusion<T>;
  /** A few words for the log line of an action, for example `apply StatefulSet a-eu`. Default: the action's `kind`. */
  describe?(action: Action): string;
}

/** What `create<Kind>Controller(deps)` gets. */
export interface ControllerDeps {
  readonly kube: KubeApi;
  readonly images: {
    /** Image of members (Postgres and agent); env MERIDIAN_POSTGRES_IMAGE. */
    readonly postgres: string;
    /** Image of routers; env MERIDIAN_PROGRAMS_IMAGE. */
    readonly programs: string;
  };
  /** `leaseTransitions` of the operator's Lease: goes into every order to an agent. */
  leaderTerm(): number;
  /** Failovers and planned handovers, which run beside the controllers. */
  readonly takeovers: Takeovers;
  /** Where the operator itself runs. */
  readonly operatorNamespace: string;
  readonly log: Logger;
  readonly metrics: Registry;
}

/** Keeps the type parameters of a watch while a controller's list of them forgets them. */
export function watch<R extends KubeObject>(
  type: ResourceType<R>,
  keys: (object: Stored<R>, cache: Cache) => readonly ObjectKey[],
  options: { readonly labelSelector?: string } = {},
): RelatedWatch<never> {
  return { type, keys, ...options } as unknown as RelatedWatch<never>;
}
