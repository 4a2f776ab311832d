/**
 * The member's metrics, read at each scrape from what the status shows: gauges have no life of their own, so they can't
 * disagree with it. Names: `meridian_member_*`, units last (bytes, seconds).
 */
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { parseLsn } from '#core/lsn.ts';
import { type AgentStatus, agentPhaseSchema } from '#core/protocol/status.ts';

export interface MetricSources {
  readonly labels: Readonly<Record<string, string>>;
  readonly status: () => Promise<AgentStatus>;
  readonly isReady: () => boolean;
  readonly restarts: () => number;
  readonly tunnels: () => {
    readonly open: number;
    readonly sentBytes: number;
    readonly receivedBytes: number;
  };
}

export interface MemberMetrics {
  readonly contentType: string;
  readonly render: () => Promise<string>;
}

export function createMetrics(sources: MetricSources): MemberMetrics {
  const registry = new Registry();
  registry.setDefaultLabels({ ...sources.labels });
  collectDefaultMetrics({ register: registry, prefix: 'meridian_agent_' });
  const gauge = <Label extends string = never>(name: string, help: string, labelNames: Label[] = []): Gauge<Label> =>
    new Gauge({ name: `meridian_member_${name}`, help, labelNames, registers: [registry] });

  const phase = gauge('phase', '1 for the phase that the member is in.', ['phase']);
  const ready = gauge('ready', '1 when the member serves.');
  const epoch = gauge('promised_epoch', 'Highest epoch that the member has promised.');
  const timeline = gauge('timeline', 'Timeline of the data.');
  const inRecovery = gauge('in_recovery', '1 on a follower.');
  const position = gauge('lsn_bytes', 'Positions in the write-ahead log.', ['position']);
  const replayAge = gauge('replay_age_seconds', 'Age of the last replayed commit while there is more to replay.');
  const streaming = gauge('upstream_streaming', '1 when a follower streams from its primary.');
  const lag = gauge('upstream_lag_bytes', 'What a follower has yet to replay.');
  const standbyLag = gauge('standby_lag_bytes', 'What a standby of this primary has yet to replay.', ['standby']);
  const retained = gauge('slot_retained_bytes', 'Write-ahead log held back by a slot.', ['slot']);
  const restarts = gauge('postgres_restarts', 'Times Postgres ended by itself since the agent started.');
  const tunnels = gauge('tunnels_open', 'Tunnels that other members have open to this one.');
  const tunnelBytes = gauge('tunnel_bytes', 'Bytes through tunnels since the agent started.', ['direction']);
  const certificate = gauge('certificate_expiry_seconds', 'When the certificate in use ends (Unix time).');

  const collect = async (): Promise<void> => {
    const status = await sources.status();
    for (const name of agentPhaseSchema.options) phase.set({ phase: name }, status.phase === name ? 1 : 0);
    ready.set(sources.isReady() ? 1 : 0);
    epoch.set(status.promise?.epoch ?? 0);
    restarts.set(sources.restarts());
    const { open, sentBytes, receivedBytes } = sources.tunnels();
    tunnels.set(open);
    tunnelBytes.set({ direction: 'sent' }, sentBytes);
    tunnelBytes.set({ direction: 'received' }, receivedBytes);
    if (status.certificateNotAfter !== undefined) certificate.set(Date.parse(status.certificateNotAfter) / 1000);
    const { postgres, upstream } = status;
    if (postgres !== undefined) {
      timeline.set(postgres.timeline);
      inRecovery.set(postgres.inRecovery ? 1 : 0);
      for (const name of ['written', 'flushed', 'replayed'] as const) {
        position.set({ position: name }, Number(parseLsn(postgres.lsn[name])));
      }
      replayAge.set((postgres.replayAgeMs ?? 0) / 1000);
    }
    streaming.set(upstream?.streaming === true ? 1 : 0);
    lag.set(upstream?.lagBytes ?? 0);
    standbyLag.reset();
    for (const standby of status.standbys) standbyLag.set({ standby: standby.name }, standby.lagBytes);
    retained.reset();
    for (const slot of status.slots) retained.set({ slot: slot.name }, slot.retainedBytes);
  };
  return {
    contentType: registry.contentType,
    async render() {
      // All from one status, before the registry reads any of them.
      await collect();
      return registry.metrics();
    },
  };
}
