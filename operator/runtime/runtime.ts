/**
 * Runs controllers: shared watches from the start (a standby is warm), queues of keys and rounds only while leading.
 * Every change of an object wakes its own controller and those whose watches map it to a key; everything is looked at again
 * every ten minutes, so that a missed wake-up is a delay and never a loss.
 */
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { KubeApi } from '#kube/client.ts';
import type { EventRecorder } from '#kube/events.ts';
import type { Leadership } from '#kube/lease.ts';
import { type KubeObject, keyOf, type ObjectKey, referenceOf, type Stored } from '#kube/objects.ts';
import { WorkQueue } from '#kube/queue.ts';
import { announce } from './announce.ts';
import { SharedCache } from './cache.ts';
import type { ControlledObject, Controller, RelatedWatch } from './controller.ts';
import { makeRuntimeMetrics, type RuntimeMetrics } from './metrics.ts';
import { type AnyController, LeadershipLostError, runRound } from './round.ts';

export interface RuntimeOptions {
  readonly kube: KubeApi;
  readonly recorder: EventRecorder;
  readonly log: Logger;
  readonly metrics: Registry;
  /** All namespaces when absent. */
  readonly namespace?: string | undefined;
  /** Default 10 min. */
  readonly resyncMs?: number;
}

const defaultResyncMs = 10 * 60_000;

export class ControllerRuntime {
  readonly cache: SharedCache;
  readonly #options: RuntimeOptions;
  readonly #metrics: RuntimeMetrics;
  readonly #controllers: AnyController[] = [];
  readonly #queues = new Map<AnyController, WorkQueue>();
  #leadership: Leadership | undefined;

  constructor(options: RuntimeOptions) {
    this.#options = options;
    this.#metrics = makeRuntimeMetrics(options.metrics, () =>
      [...this.#queues].map(([controller, queue]) => [controller.type.kind, queue.length]),
    );
    this.cache = new SharedCache({
      api: options.kube,
      namespace: options.namespace,
      onTrouble: (type, error, failures) => {
        this.#metrics.watchFailures.inc({ kind: type.kind });
        // Single failures are everyday; a row of them is worth reading about.
        options.log[failures < 3 ? 'debug' : 'warn']({ err: error, watched: type.kind, failures }, 'watch failed');
      },
    });
  }

  register<T extends ControlledObject, Snapshot, Action>(controller: Controller<T, Snapshot, Action>): void {
    const registered = controller as unknown as AnyController;
    this.#controllers.push(registered);
    this.cache.add(registered.type, undefined, ({ key }) => this.#queues.get(registered)?.add(key));
    for (const related of registered.watches) this.#addWatch(registered, related);
  }

  /** `leaseTransitions` of the present leadership. @throws Error while not leading. */
  leaderTerm(): number {
    if (this.#leadership === undefined) throw new LeadershipLostError('not leading');
    return this.#leadership.term;
  }

  /** Gives the leadership up for somebody better placed. @returns False where there is none to give up. */
  resign(standAsideMs: number): boolean {
    if (this.#leadership === undefined || this.#leadership.signal.aborted) return false;
    this.#leadership.resign(standAsideMs);
    return true;
  }

  /** Keeps the watches going until `signal` aborts. */
  async watch(signal: AbortSignal): Promise<void> {
    await this.cache.run(signal);
  }

  /** Reconciles until leadership ends; then waits for the rounds under way, which end at their next step. */
  async lead(leadership: Leadership): Promise<void> {
    const { log, resyncMs = defaultResyncMs } = this.#options;
    log.info({ term: leadership.term, identity: leadership.identity }, 'leading');
    await untilAborted(leadership.signal, this.cache.synced());
    if (leadership.signal.aborted) return;
    this.#leadership = leadership;
    this.#metrics.isLeader.set(1);
    this.#metrics.leaderTerm.set(leadership.term);
    for (const controller of this.#controllers) this.#queues.set(controller, this.#makeQueue(controller, leadership));
    this.#addAll();
    const resync = setInterval(() => this.#addAll(), resyncMs);
    for (const queue of this.#queues.values()) queue.start();

    await untilAborted(leadership.signal);
    clearInterval(resync);
    const queues = [...this.#queues.values()];
    this.#queues.clear();
    await Promise.all(queues.map((queue) => queue.stop()));
    this.#leadership = undefined;
    this.#metrics.isLeader.set(0);
    log.info({ term: leadership.term }, 'not leading any more');
  }

  #addWatch(controller: AnyController, related: RelatedWatch): void {
    const wake = (object: Stored<KubeObject> | undefined): void => {
      if (object === undefined) return;
      const queue = this.#queues.get(controller);
      for (const key of queue === undefined ? [] : related.keys(object, this.cache)) queue?.add(key);
    };
    this.cache.add(related.type, related.labelSelector, ({ before, after }) => {
      // Both: an object that no longer belongs to a key concerns that key, too.
      wake(before);
      wake(after);
    });
  }

  #addAll(): void {
    for (const [controller, queue] of this.#queues)
      for (const object of this.cache.list(controller.type)) queue.add(keyOf(object));
  }

  #makeQueue(controller: AnyController, leadership: Leadership): WorkQueue {
    const { kind } = controller.type;
    const queue = new WorkQueue((key) => this.#round(controller, key, queue, leadership), {
      ...(controller.concurrency === undefined ? {} : { concurrency: controller.concurrency }),
      onFailure: (key, error, failures, pauseMs) => {
        if (error instanceof LeadershipLostError || leadership.signal.aborted) return;
        const log = this.#logOf(kind, key);
        log[failures < 2 ? 'info' : 'error'](
          { err: error, failures, againInMs: Math.round(pauseMs) },
          'reconcile failed',
        );
      },
    });
    return queue;
  }

  async #round(
    controller: AnyController,
    key: ObjectKey,
    queue: WorkQueue,
    leadership: Leadership,
  ): Promise<{ readonly againAfterMs?: number | undefined }> {
    const { kind } = controller.type;
    const { kube, recorder } = this.#options;
    const log = this.#logOf(kind, key);
    const stopTimer = this.#metrics.roundSeconds.startTimer({ kind });
    try {
      const outcome = await runRound(controller, key, queue.failuresOf(key), {
        kube,
        cache: this.cache,
        leadership,
        log,
        announce: (before, after, announcement) => announce(before, after, announcement, log, recorder),
      });
      this.#metrics.rounds.inc({ kind, outcome: outcome.outcome });
      if (outcome.outcome === 'absent') queue.forget(key);
      return { againAfterMs: outcome.againAfterMs };
    } catch (error) {
      this.#metrics.rounds.inc({ kind, outcome: 'failed' });
      throw error;
    } finally {
      stopTimer();
    }
  }

  #logOf(kind: string, key: ObjectKey): Logger {
    return this.#options.log.child({ kind, ...referenceOf(key) });
  }
}

/** Fulfilled when `signal` aborts, or when `other` is. */
async function untilAborted(signal: AbortSignal, other?: Promise<void>): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener('abort', () => resolve(), { once: true });
  await (other === undefined ? promise : Promise.race([promise, other]));
}
