/**
 * What the operator counts about itself, for `/metrics`. Controllers add their own to the same registry.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, type Registry } from 'prom-client';

export interface RuntimeMetrics {
  readonly rounds: Counter<'kind' | 'outcome'>;
  readonly roundSeconds: Histogram<'kind'>;
  readonly watchFailures: Counter<'kind'>;
  readonly isLeader: Gauge;
  readonly leaderTerm: Gauge;
  readonly queueLength: Gauge<'kind'>;
}

export function makeRuntimeMetrics(
  registry: Registry,
  readQueueLengths: () => Iterable<[kind: string, length: number]>,
): RuntimeMetrics {
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  return {
    rounds: new Counter({
      name: 'meridian_reconcile_rounds_total',
      help: 'Reconciles by kind and outcome (done, absent, conflict, failed).',
      labelNames: ['kind', 'outcome'],
      registers,
    }),
    roundSeconds: new Histogram({
      name: 'meridian_reconcile_seconds',
      help: 'How long a reconcile took.',
      labelNames: ['kind'],
      buckets: [0.005, 0.02, 0.1, 0.5, 2, 10, 60],
      registers,
    }),
    watchFailures: new Counter({
      name: 'meridian_watch_failures_total',
      help: 'Failed lists and broken watches.',
      labelNames: ['kind'],
      registers,
    }),
    isLeader: new Gauge({ name: 'meridian_leader', help: '1 while this operator leads.', registers }),
    leaderTerm: new Gauge({ name: 'meridian_leader_term', help: 'Term of the present leadership.', registers }),
    queueLength: new Gauge({
      name: 'meridian_reconcile_queue_length',
      help: 'Objects that wait for a reconcile.',
      labelNames: ['kind'],
      registers,
      collect() {
        for (const [kind, length] of readQueueLengths()) this.set({ kind }, length);
      },
    }),
  };
}
