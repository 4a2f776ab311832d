/**
 * The member's metrics, read at each scrape from what the status shows: gauges have no life of their own, so they can't
 * disagree with it. Names: `meridian_member_*`, units last (bytes, seconds).
 */
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { AuthoritySeen } from '#agent/member/authority-facts.ts';
import { parseLsn } from '#core/lsn.ts';
import { type AgentStatus, agentPhaseSchema } from '#core/protocol/status.ts';

export interface MetricSources {
  readonly labels: Readonly<Record<string, string>>;
  readonly status: () => Promise<AgentStatus>;
  readonly authority: () => Promise<AuthoritySeen>;
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

const prefix = 'meridian_member_';

const gaugesOf =
  (registry: Registry) =>
  <Label extends string = never>(name: string, help: string, labelNames: Label[] = []): Gauge<Label> =>
    new Gauge({ name: `${prefix}${name}`, help, labelNames, registers: [registry] });

export function createMetrics(sources: MetricSources): MemberMetrics {
  const registry = new Registry();
  registry.setDefaultLabels({ ...sources.labels });
  collectDefaultMetrics({ register: registry, prefix: 'meridian_agent_' });
  const gauge = gaugesOf(registry);

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
  const collectAuthority = authorityMetrics(registry, sources.authority);

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
      await Promise.all([collect(), collectAuthority()]);
      return registry.metrics();
    },
  };
}

/** Leases, the dead man's handle, gates and fences. Returns what reads them. */
function authorityMetrics(registry: Registry, seenNow: () => Promise<AuthoritySeen>): () => Promise<void> {
  const gauge = gaugesOf(registry);
  const counter = (name: string, help: string): Counter =>
    new Counter({ name: `${prefix}${name}_total`, help, registers: [registry] });

  const held = gauge('lease_held', '1 on a primary whose lease holds, or that needs none.');
  const remaining = gauge('lease_remaining_seconds', 'Until the lease runs out; NaN where none is needed.');
  const losses = counter('lease_losses', 'Leases lost since the agent started.');
  const grantAge = gauge('lease_grant_age_seconds', "Since the request that a follower's last grant answers.", [
    'follower',
  ]);
  const grantRemaining = gauge('lease_grant_remaining_seconds', "Until a follower's last grant runs out.", [
    'follower',
  ]);
  const granted = gauge('lease_granted_seconds', 'For how long what this member has granted may still run.');
  const armed = gauge('handle_armed', "1 while process 1 holds the dead man's handle.");
  const confirmed = gauge('confirmed_epoch', 'Epoch for which the start gate was passed; 0 for none.');
  const opening = gauge('opening_gate', "1 for the state of a primary's opening gate.", ['state']);
  const fences = counter('fences', 'Fences taken since the agent started.');

  return async () => {
    const seen = await seenNow();
    held.set(seen.isHeld ? 1 : 0);
    remaining.set(seen.remainingMs === null ? Number.NaN : seen.remainingMs / 1000);
    grantAge.reset();
    grantRemaining.reset();
    for (const { from, ageMs, remainingMs } of seen.grants) {
      grantAge.set({ follower: from }, ageMs / 1000);
      grantRemaining.set({ follower: from }, remainingMs / 1000);
    }
    granted.set(seen.grantedRemainingMs / 1000);
    armed.set(seen.isArmed ? 1 : 0);
    confirmed.set(seen.confirmedEpoch);
    for (const state of ['none', 'waiting', 'passed']) opening.set({ state }, seen.opening === state ? 1 : 0);
    losses.reset();
    losses.inc(seen.losses);
    fences.reset();
    fences.inc(seen.fences);
  };
}
