/**
 * One reconcile of one object: finalizer, observe, plan, act, conclude, and one write of the status.
 * Decides nothing about the world; keeps the order of the steps and what a failure in each of them means.
 * Invariants: no step changes anything once leadership is in doubt; a status is only written over the very version that was
 * observed; a conflict is never retried here: the key starts again from a new read.
 */
import type { Logger } from 'pino';
import type { KubeApi } from '#kube/client.ts';
import { type Condition, type Finding, sameStatus, setConditions } from '#kube/conditions.ts';
import { ApiError, isNotFound } from '#kube/errors.ts';
import type { Leadership } from '#kube/lease.ts';
import { type ObjectKey, referenceOf, type Stored } from '#kube/objects.ts';
import type { SharedCache } from './cache.ts';
import type {
  ActContext,
  ActionResult,
  Conclusion,
  ControlledObject,
  Controller,
  Plan,
  PlannedEvent,
  StatusBase,
} from './controller.ts';

export type AnyController = Controller<ControlledObject, unknown, unknown>;

export interface RoundDeps {
  readonly kube: KubeApi;
  readonly cache: SharedCache;
  readonly leadership: Leadership;
  readonly log: Logger;
  /** Tells people what changed: log and Events. */
  announce(before: Stored<ControlledObject>, after: Stored<ControlledObject>, round: Announcement): void;
}

export interface Announcement {
  readonly findings: readonly Finding[];
  readonly events: readonly PlannedEvent[];
}

export interface RoundOutcome {
  readonly outcome: 'done' | 'absent' | 'conflict';
  readonly againAfterMs?: number | undefined;
}

/** Leadership ended in the middle: what is left of the round is the next leader's. */
export class LeadershipLostError extends Error {
  override readonly name = 'LeadershipLostError';
}

/** After a conflict a little later: the cache, too, has to see the other's write. */
const afterConflictMs = 100;

export async function runRound(
  controller: AnyController,
  key: ObjectKey,
  failures: number,
  deps: RoundDeps,
): Promise<RoundOutcome> {
  try {
    return await new Round(controller, key, failures, deps).run();
  } catch (error) {
    if (!isSwapLost(error)) throw error;
    deps.log.debug({ err: error }, 'changed by somebody else meanwhile');
    return { outcome: 'conflict', againAfterMs: afterConflictMs };
  }
}

const isSwapLost = (error: unknown): boolean => error instanceof ApiError && error.reason === 'Conflict';

class Round {
  readonly #controller: AnyController;
  readonly #key: ObjectKey;
  readonly #failures: number;
  readonly #deps: RoundDeps;
  /** Status fields that `recordStatus` wrote in this round: they win over what was planned before. */
  #recorded: Partial<StatusBase> = {};

  constructor(controller: AnyController, key: ObjectKey, failures: number, deps: RoundDeps) {
    this.#controller = controller;
    this.#key = key;
    this.#failures = failures;
    this.#deps = deps;
  }

  async run(): Promise<RoundOutcome> {
    const found = await this.#read();
    if (found === undefined) return { outcome: 'absent' };
    const object = await this.#withFinalizer(found);
    if (object === undefined) return { outcome: 'absent' };

    const { snapshot, plan } = await this.#plan(object);
    const { results, present } = await this.#act(object, plan.actions);
    const conclusion = this.#controller.conclude?.(snapshot, plan, results, new Date()) ?? plan;
    const failed = results.find((result) => result.outcome === 'failed');

    const written = await this.#writeStatus(object, present, conclusion, this.#reconciled(failed?.error));
    if (failed !== undefined) throw failed.error;
    if (plan.release === true && object.metadata.deletionTimestamp !== undefined) await this.#removeFinalizer(written);
    return { outcome: 'done', againAfterMs: conclusion.requeueAfterMs };
  }

  async #read(): Promise<Stored<ControlledObject> | undefined> {
    const { type, readsFresh } = this.#controller;
    return readsFresh === true
      ? this.#deps.kube.findByKey(type, this.#key)
      : this.#deps.cache.get(type, referenceOf(this.#key));
  }

  /** The object with our finalizer on it; undefined when there is nothing (more) to do for an object being deleted. */
  async #withFinalizer(object: Stored<ControlledObject>): Promise<Stored<ControlledObject> | undefined> {
    const { finalizer, type } = this.#controller;
    const { finalizers = [], deletionTimestamp, resourceVersion } = object.metadata;
    const isOurs = finalizer !== undefined && finalizers.includes(finalizer);
    if (deletionTimestamp !== undefined) return isOurs ? object : undefined;
    if (finalizer === undefined || isOurs) return object;
    this.#assertLeading();
    return this.#deps.kube
      .of(type)
      .patch(object.metadata, { metadata: { resourceVersion, finalizers: [...finalizers, finalizer] } });
  }

  async #plan(
    object: Stored<ControlledObject>,
  ): Promise<{ readonly snapshot: unknown; readonly plan: Plan<ControlledObject, unknown> }> {
    const { cache, log, leadership } = this.#deps;
    try {
      const snapshot = await this.#controller.observe(object, { cache, log, signal: leadership.signal });
      return { snapshot, plan: this.#controller.plan(snapshot, new Date()) };
    } catch (error) {
      await this.#writeStatus(object, object, {}, this.#reconciled(error));
      throw error;
    }
  }

  async #act(
    object: Stored<ControlledObject>,
    actions: readonly unknown[],
  ): Promise<{ readonly results: readonly ActionResult<unknown>[]; readonly present: Stored<ControlledObject> }> {
    const { cache, log, leadership } = this.#deps;
    const results: ActionResult<unknown>[] = [];
    let present = object;
    const context: ActContext<ControlledObject> = {
      cache,
      log,
      signal: leadership.signal,
      get object() {
        return present;
      },
      recordStatus: async (change) => {
        present = await this.#record(present, change);
        return present;
      },
    };
    let hasFailed = false;
    for (const action of actions) {
      if (hasFailed) {
        results.push({ action, outcome: 'skipped' });
        continue;
      }
      this.#assertLeading();
      log.debug({ action: describeAction(this.#controller, action) }, 'acting');
      try {
        results.push({ action, outcome: 'done', value: await this.#controller.act(action, context) });
      } catch (error) {
        if (isSwapLost(error) || error instanceof LeadershipLostError) throw error;
        hasFailed = true;
        results.push({ action, outcome: 'failed', error });
      }
    }
    return { results, present };
  }

  async #record(present: Stored<ControlledObject>, change: object): Promise<Stored<ControlledObject>> {
    this.#assertLeading();
    const status = { ...present.status, ...change };
    const written = await this.#deps.kube.of(this.#controller.type).updateStatus({ ...present, status });
    this.#recorded = { ...this.#recorded, ...change };
    this.#deps.announce(present, written, { findings: [], events: [] });
    return written;
  }

  async #writeStatus(
    observed: Stored<ControlledObject>,
    present: Stored<ControlledObject>,
    conclusion: Conclusion<ControlledObject>,
    reconciled: Finding | undefined,
  ): Promise<Stored<ControlledObject>> {
    const findings = [...(conclusion.conditions ?? []), ...(reconciled === undefined ? [] : [reconciled])];
    const before = present.status;
    const conditions: readonly Condition[] = setConditions(before?.conditions ?? [], findings, {
      now: new Date(),
      observedGeneration: observed.metadata.generation,
    });
    const status: StatusBase = {
      ...(conclusion.status ?? before),
      ...this.#recorded,
      observedGeneration: observed.metadata.generation,
      conditions,
    };
    const announcement = { findings, events: conclusion.events ?? [] };
    if (sameStatus(before, status)) {
      this.#deps.announce(present, present, announcement);
      return present;
    }
    this.#assertLeading();
    const written = await this.#deps.kube.of(this.#controller.type).updateStatus({ ...present, status });
    if (!sameStatus(written.status, status))
      this.#deps.log.warn(
        { planned: status, stored: written.status },
        'the status was stored otherwise: are the CRDs older than this operator?',
      );
    this.#deps.announce(present, written, announcement);
    return written;
  }

  async #removeFinalizer(object: Stored<ControlledObject>): Promise<void> {
    const { finalizer, type } = this.#controller;
    const { finalizers = [], resourceVersion } = object.metadata;
    if (finalizer === undefined) return;
    this.#assertLeading();
    try {
      await this.#deps.kube.of(type).patch(object.metadata, {
        metadata: { resourceVersion, finalizers: finalizers.filter((name) => name !== finalizer) },
      });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  /** The runtime's own condition. A first failure is only logged: most are over with the next try. */
  #reconciled(error: unknown): Finding | undefined {
    if (error === undefined)
      return { type: 'Reconciled', status: 'True', reason: 'Reconciled', message: 'all actions were done' };
    if (this.#failures === 0) return undefined;
    const message = error instanceof Error ? error.message : JSON.stringify(error);
    return { type: 'Reconciled', status: 'False', reason: 'Failing', message: message.slice(0, 1_000), warning: true };
  }

  #assertLeading(): void {
    if (this.#deps.leadership.signal.aborted || !this.#deps.leadership.isHeld())
      throw new LeadershipLostError('not leading any more');
  }
}

function describeAction(controller: AnyController, action: unknown): string {
  if (controller.describe !== undefined) return controller.describe(action);
  return typeof action === 'object' && action !== null && 'kind' in action ? String(action.kind) : String(action);
}
