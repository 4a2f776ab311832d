/**
 * Status, conditions, Events and when to look again, from what was seen and what the actions found. Pure.
 * Invariant: the record of ordinals in the status is never made smaller than what is recorded, whatever failed in this round.
 */
import { ports } from '#core/names.ts';
import type { Finding } from '#kube/conditions.ts';
import type { Keyspace } from '#kube/meridian.ts';
import type { ActionResult, Conclusion, PlannedEvent, PlannedStatus } from '#operator/runtime/controller.ts';
import type { CertificatesOutcome, KeyspaceAction, RoleSecretOutcome, SetUpOutcome } from './actions.ts';
import {
  failedMigration,
  farewellFinding,
  type KeyspaceOutcomes,
  keyspaceFindings,
  rolesEverywhere,
} from './findings.ts';
import { ordinalsFor } from './plan.ts';
import { routerHost } from './role-secret.ts';
import type { KeyspaceSnapshot } from './snapshot.ts';

type Result = ActionResult<KeyspaceAction>;

/** What the actions gave back, by kind. The casts hold because `act` gives exactly these for these kinds. */
export function outcomesOf(results: readonly Result[]): KeyspaceOutcomes {
  const values = (kind: KeyspaceAction['kind']): unknown[] =>
    results.flatMap((result) => (result.outcome === 'done' && result.action.kind === kind ? [result.value] : []));
  return {
    certificates: values('ensureCertificates')[0] as CertificatesOutcome | undefined,
    setUp: values('setUpShards')[0] as SetUpOutcome | undefined,
    roleSecrets: values('ensureRoleSecret') as RoleSecretOutcome[],
  };
}

export function concludeKeyspace(
  snapshot: KeyspaceSnapshot,
  results: readonly Result[],
  now: Date,
): Conclusion<Keyspace> {
  const outcomes = outcomesOf(results);
  const conditions = keyspaceFindings(snapshot, outcomes);
  return {
    status: keyspaceStatus(snapshot, outcomes, conditions),
    conditions,
    events: keyspaceEvents(outcomes),
    requeueAfterMs: requeueAfterMs(snapshot, outcomes, now),
  };
}

export function concludeFarewell(snapshot: KeyspaceSnapshot): Conclusion<Keyspace> {
  const { conditions: _conditions, observedGeneration: _generation, ...present } = snapshot.keyspace.status ?? {};
  return { status: { ...present, phase: 'Deleting' }, conditions: [farewellFinding(snapshot)] };
}

function keyspaceStatus(
  snapshot: KeyspaceSnapshot,
  outcomes: KeyspaceOutcomes,
  conditions: readonly Finding[],
): PlannedStatus<Keyspace> {
  const { keyspace } = snapshot;
  const ordinals = ordinalsFor(snapshot);
  const found = new Map(outcomes.setUp?.shards.map((shard) => [shard.name, shard]));
  const declared = snapshot.migrations.length;
  const shards = ordinals.shards.map((entry) => {
    const outcome = found.get(entry.name);
    if (outcome === undefined) return { ...entry, ready: outcomes.setUp === undefined ? entry.ready : false };
    const isReady =
      outcome.problem === undefined && outcome.failedMigration === undefined && outcome.applied >= declared;
    return { ...entry, migrations: outcome.applied, ready: isReady };
  });
  const schemaVersion = snapshot.migrations[Math.min(...shards.map(({ migrations }) => migrations)) - 1]?.name;
  const failed = failedMigration(outcomes.setUp);
  return {
    phase: phaseOf(conditions),
    shards,
    nextOrdinal: ordinals.nextOrdinal,
    ...(schemaVersion === undefined ? {} : { schemaVersion }),
    ...(failed === undefined
      ? {}
      : { migration: { failed: failed.migration, shard: failed.shard, message: failed.message.slice(0, 4096) } }),
    roles:
      outcomes.setUp === undefined
        ? (keyspace.status?.roles ?? [])
        : [...rolesEverywhere(snapshot, outcomes.setUp.shards)],
    routers: keyspace.spec.routers.regions.map(({ region, replicas }) => ({
      region,
      replicas,
      ready: snapshot.deployments.get(region)?.status?.readyReplicas ?? 0,
      address: routerAddress(snapshot, region),
    })),
  };
}

/** Where clients connect: from outside where the cluster gives such an address, else the Service's name. */
function routerAddress(snapshot: KeyspaceSnapshot, region: string): string {
  const { name, namespace = '' } = snapshot.keyspace.metadata;
  const ingress = snapshot.services.get(region)?.status?.loadBalancer?.ingress?.[0];
  const host = ingress?.hostname ?? ingress?.ip ?? routerHost({ namespace, keyspace: name }, region);
  return `${host}:${ports.postgres}`;
}

function phaseOf(conditions: readonly Finding[]): string {
  const status = (type: string) => conditions.find((finding) => finding.type === type);
  if (status('Ready')?.status === 'True') return 'Ready';
  const migrations = status('MigrationsApplied');
  if (migrations?.warning === true && migrations.reason !== 'ConfigMapMissing') return 'MigrationFailed';
  return status('ShardsReady')?.status === 'True' ? 'Degraded' : 'Pending';
}

const roleEvents: Readonly<Partial<Record<RoleSecretOutcome['step'], { reason: string; text: string }>>> = {
  made: { reason: 'PasswordMade', text: 'made the password of role' },
  remade: { reason: 'PasswordMade', text: 'made a new password, since the Secret had none, of role' },
  adopted: { reason: 'PasswordAdopted', text: 'took over the password written into the Secret of role' },
  prepared: { reason: 'RotationStarted', text: 'teaching the shards a new password of role' },
  published: {
    reason: 'PasswordRotated',
    text: 'the Secret has the new password, the former is accepted for a while, of role',
  },
  'overlap ended': { reason: 'FormerPasswordEnded', text: 'the former password is no longer accepted of role' },
};

function keyspaceEvents(outcomes: KeyspaceOutcomes): readonly PlannedEvent[] {
  const passwords = outcomes.roleSecrets.flatMap(({ role, step }): PlannedEvent[] => {
    const event = roleEvents[step];
    return event === undefined ? [] : [{ type: 'Normal', reason: event.reason, message: `${event.text} ${role}` }];
  });
  const certificates = (outcomes.certificates?.renewed ?? []).map(
    (name): PlannedEvent => ({ type: 'Normal', reason: 'CertificateIssued', message: `issued ${name}` }),
  );
  return [...certificates, ...passwords];
}

const halfDayMs = 12 * 3600_000;
const verifyMs = 10 * 60_000;
const retryMs = 5_000;
const recordedMs = 500;
/** ConfigMaps aren't watched unless labelled: watching all of a cluster's would keep all of them in memory. */
const configMapMs = 30_000;

function requeueAfterMs(snapshot: KeyspaceSnapshot, outcomes: KeyspaceOutcomes, now: Date): number {
  const reasons = [halfDayMs];
  // What was recorded in the middle of the round stands in the status as it was then.
  if (ordinalsFor(snapshot).changed) reasons.push(recordedMs);
  if (snapshot.shards.length > 0) reasons.push(verifyMs);
  if (snapshot.keyspace.spec.migrations.some(({ configMapKeyRef }) => configMapKeyRef !== undefined))
    reasons.push(configMapMs);
  if (snapshot.migrations.some(({ kind }) => kind === 'missing')) reasons.push(retryMs);
  if (
    outcomes.setUp?.shards.some(
      ({ problem, failedMigration: failure }) => problem !== undefined || failure !== undefined,
    )
  )
    reasons.push(retryMs);
  for (const { nextStepMs } of outcomes.roleSecrets)
    if (nextStepMs !== undefined) reasons.push(Math.max(1_000, nextStepMs - now.getTime()));
  return Math.min(...reasons);
}
