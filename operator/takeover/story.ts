/**
 * Tells what a takeover does: a line in the log and an Event on the Shard for each step, with the time since its beginning, so
 * that `kubectl describe shard` reads as the story; and metrics.
 */
import type { Logger } from 'pino';
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { EventRecorder } from '#kube/events.ts';
import type { Shard } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import type { AttemptStep } from './attempt.ts';
import type { PromotionStep } from './promotion.ts';
import type { TakeoverKind, TakeoverOutcome } from './takeovers.ts';

export interface TakeoverMetrics {
  readonly takeovers: Counter<'kind' | 'outcome'>;
  /** From the suspicion, or the order to hand over, to the end of each step. */
  readonly stepSeconds: Histogram<'kind' | 'step'>;
}

export function makeTakeoverMetrics(
  registry: Registry,
  read: { readonly suspected: () => number; readonly rank: () => number; readonly silent: () => number },
): TakeoverMetrics {
  const registers = [registry];
  const gauge = (name: string, help: string, value: () => number): Gauge =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });
  gauge('meridian_suspected_shards', 'Shards whose primary is gone, as far as this operator can tell.', read.suspected);
  gauge('meridian_silent_members', 'Members that do not answer this operator.', read.silent);
  gauge('meridian_operator_rank', 'How many operators act before this one when a primary is lost.', read.rank);
  return {
    takeovers: new Counter({
      name: 'meridian_takeovers_total',
      help: 'Attempts at a failover or a planned handover, by outcome (Done, Undone, Overtaken, Stopped).',
      labelNames: ['kind', 'outcome'],
      registers,
    }),
    stepSeconds: new Histogram({
      name: 'meridian_takeover_step_seconds',
      help: 'Time from the suspicion, or from the wish to hand over, to the end of a step.',
      labelNames: ['kind', 'step'],
      buckets: [0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 15, 30],
      registers,
    }),
  };
}

export interface StoryOptions {
  readonly log: Logger;
  readonly recorder: Pick<EventRecorder, 'record'>;
  readonly metrics: TakeoverMetrics;
  readonly nowMs: () => number;
}

type Step = AttemptStep | PromotionStep;

interface Told {
  readonly reason: string;
  readonly message: string;
  readonly isWarning?: boolean;
}

/** One takeover's story. */
export class Story {
  readonly #options: StoryOptions;
  readonly #kind: TakeoverKind;
  readonly #beganMs: number;

  constructor(options: StoryOptions, kind: TakeoverKind, beganMs: number) {
    this.#options = options;
    this.#kind = kind;
    this.#beganMs = beganMs;
  }

  tell(step: Step, shard: Stored<Shard>): string {
    const seconds = Math.max(0, this.#options.nowMs() - this.#beganMs) / 1000;
    const { reason, message, isWarning = false } = toldAs(step, this.#kind);
    this.#options.metrics.stepSeconds.observe({ kind: this.#kind, step: step.kind }, seconds);
    const { log, recorder } = this.#options;
    const { namespace, name } = shard.metadata;
    const timed = `${message} (after ${seconds.toFixed(2)} s)`;
    log[isWarning ? 'warn' : 'info']({ kind: 'Shard', namespace, name, takeover: reason, seconds }, timed);
    // A member that gets its orders is news for the log only.
    if (step.kind !== 'Ordered')
      recorder.record(shard, { type: isWarning ? 'Warning' : 'Normal', reason, action: this.#kind, message: timed });
    return message;
  }

  end(outcome: TakeoverOutcome): void {
    this.#options.metrics.takeovers.inc({ kind: this.#kind, outcome });
  }
}

function toldAs(step: Step, kind: TakeoverKind): Told {
  switch (step.kind) {
    case 'Began':
      return kind === 'Failover'
        ? { reason: 'Suspected', message: step.why, isWarning: true }
        : { reason: 'HandoverBegan', message: step.why };
    case 'Announced':
      return { reason: 'HandoverAnnounced', message: step.why };
    case 'Withdrawn':
      return { reason: 'HandoverWithdrawn', message: step.why, isWarning: true };
    case 'LeaseHanded':
      return { reason: 'LeaseHanded', message: step.why };
    case 'Fenced': {
      const wait = step.waitMs > 0 ? `; their grants run for ${(step.waitMs / 1000).toFixed(2)} s more` : '';
      return { reason: 'Fenced', message: `${step.members.join(', ')} promised epoch ${step.epoch}${wait}` };
    }
    case 'WaitedOut':
      return { reason: 'WaitedOut', message: `nobody can acknowledge writes below epoch ${step.epoch} any more` };
    case 'Shipping':
      return {
        reason: 'Shipping',
        message: `${step.to} gets the end of the log from ${step.from}, who has more and may not lead`,
      };
    case 'Refused':
      return { reason: 'FenceRefused', message: `${step.member}: ${step.why}`, isWarning: true };
    case 'Decided': {
      const { member, region, epoch, timeline } = step.record.authority;
      const fork = step.record.history.at(-1)?.forkLsn ?? '';
      return {
        reason: 'Decided',
        message: `${member} in ${region} is primary from epoch ${epoch} on, timeline ${timeline} from ${fork} (${step.why})`,
      };
    }
    case 'Ordered':
      return { reason: 'Ordered', message: `${step.member} has its orders to be ${step.role}` };
    case 'OrdersRefused':
      return { reason: 'OrdersRefused', message: `${step.member}: ${step.why}`, isWarning: true };
    case 'Promoted':
      return { reason: 'Promoted', message: 'the new primary runs, and waits for its followers to open' };
    case 'Opened':
      return { reason: 'Opened', message: 'the new primary serves' };
    case 'NotOpened':
      return {
        reason: 'NotOpened',
        message: 'the new primary does not serve yet; see its phase and problem',
        isWarning: true,
      };
    default:
      return step satisfies never;
  }
}
