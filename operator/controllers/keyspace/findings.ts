/**
 * The conditions of a Keyspace: one small function each, from what was seen and what the actions found. Pure.
 * Each says what is, and what to do about it. Nothing here knows a password.
 */
import { roleSecretName, routerName } from '#core/names.ts';
import type { Finding } from '#kube/conditions.ts';
import type { CertificatesOutcome, RoleSecretOutcome, SetUpOutcome, ShardOutcome } from './actions.ts';
import { ordinalsFor } from './plan.ts';
import type { KeyspaceSnapshot } from './snapshot.ts';

/** What the actions of a round found; undefined where they weren't done (an earlier one failed). */
export interface KeyspaceOutcomes {
  readonly certificates: CertificatesOutcome | undefined;
  readonly setUp: SetUpOutcome | undefined;
  readonly roleSecrets: readonly RoleSecretOutcome[];
}

type Judge = (snapshot: KeyspaceSnapshot, outcomes: KeyspaceOutcomes) => Finding | undefined;

const good = (type: string, reason: string, message: string): Finding => ({ type, status: 'True', reason, message });
const bad = (type: string, reason: string, message: string, warning = false): Finding => ({
  type,
  status: 'False',
  reason,
  message,
  ...(warning ? { warning } : {}),
});

/** Names in a message, bounded. */
const named = (names: readonly string[]): string =>
  names.length <= 8 ? names.join(', ') : `${names.slice(0, 8).join(', ')} and ${names.length - 8} more`;

export const certificatesValid: Judge = (_snapshot, { certificates }) =>
  certificates === undefined
    ? undefined
    : good(
        'CertificatesValid',
        'Issued',
        `routers' and operator's certificates are valid until ${new Date(certificates.earliestNotAfterMs).toISOString().slice(0, 10)} and renewed before`,
      );

export const regionsKnown: Judge = ({ keyspace, regions }) => {
  const unknown = keyspace.spec.routers.regions.map(({ region }) => region).filter((region) => !regions.has(region));
  return unknown.length === 0
    ? good('RegionsKnown', 'AllDeclared', 'every region of spec.routers has a Region')
    : bad(
        'RegionsKnown',
        'UnknownRegion',
        `spec.routers.regions names ${named(unknown)}: make a Region of that name, or take it out`,
        true,
      );
};

/** What keeps one shard from being as wished. */
function shardObstacle(snapshot: KeyspaceSnapshot, outcomes: KeyspaceOutcomes, name: string): string | undefined {
  const shard = snapshot.shards.find((candidate) => candidate.name === name);
  if (shard?.primary.kind === 'missing') return shard.primary.message;
  const outcome = outcomes.setUp?.shards.find((candidate) => candidate.name === name);
  if (outcome?.problem !== undefined) return `shard ${name}: ${outcome.problem.message}`;
  return undefined;
}

export const shardsReady: Judge = (snapshot, outcomes) => {
  const ordinals = ordinalsFor(snapshot);
  if (ordinals.without.length > 0)
    return bad(
      'ShardsReady',
      'OrdinalsUsedUp',
      `${named(ordinals.without)}: the keyspace has had 8192 shards, and no more can be told apart`,
      true,
    );
  const staying = snapshot.shards.filter((shard) => !shard.deleting);
  if (staying.length === 0)
    return bad('ShardsReady', 'NoShards', `no Shard has spec.keyspace: ${snapshot.keyspace.metadata.name}`);
  const obstacles = staying
    .map(({ name }) => shardObstacle(snapshot, outcomes, name))
    .filter((obstacle) => obstacle !== undefined);
  if (obstacles.length > 0)
    return bad('ShardsReady', firstReason(snapshot, outcomes), obstacles.slice(0, 5).join('; '));
  if (outcomes.setUp === undefined) return bad('ShardsReady', 'Pending', 'the shards have not been set up yet');
  return good('ShardsReady', 'AllReady', `${staying.length} of ${staying.length} shards are set up`);
};

function firstReason(snapshot: KeyspaceSnapshot, outcomes: KeyspaceOutcomes): string {
  const missing = snapshot.shards.map(({ primary }) => primary).find((primary) => primary.kind === 'missing');
  if (missing?.kind === 'missing') return missing.reason;
  return outcomes.setUp?.shards.find(({ problem }) => problem !== undefined)?.problem?.reason ?? 'SetUpFailed';
}

export const migrationsApplied: Judge = (snapshot, { setUp }) => {
  const type = 'MigrationsApplied';
  const failed = failedMigration(setUp);
  if (failed !== undefined)
    return bad(
      type,
      failed.reason,
      `${failed.message} (on shard ${failed.shard}); nothing after it runs until it is corrected`,
      true,
    );
  const missing = snapshot.migrations.find((migration) => migration.kind === 'missing');
  if (missing?.kind === 'missing') return bad(type, missing.reason, missing.message, true);
  if (setUp === undefined) return bad(type, 'Pending', 'no shard has been looked at yet');
  if (setUp.waitingFor.length > 0)
    return bad(
      type,
      'WaitingForShards',
      `new migrations wait for ${named(setUp.waitingFor)}, which can't be reached now`,
    );
  const declared = snapshot.migrations.length;
  const staying = snapshot.shards.filter((shard) => !shard.deleting);
  const applied = new Map([
    ...ordinalsFor(snapshot).shards.map((entry) => [entry.name, entry.migrations] as const),
    ...setUp.shards.map((shard) => [shard.name, shard.applied] as const),
  ]);
  const behind = staying.filter(({ name }) => (applied.get(name) ?? 0) < declared);
  if (staying.length === 0 && declared > 0) return bad(type, 'NoShards', 'there is no shard to apply them to');
  if (behind.length > 0) return bad(type, 'Pending', `not all on ${named(behind.map(({ name }) => name))} yet`);
  return good(type, 'AllApplied', `${declared} of ${declared} migrations are applied on every shard`);
};

/** The first failure, in the order of migrations, then of shards. */
export function failedMigration(
  setUp: SetUpOutcome | undefined,
): { migration: string; shard: string; reason: string; message: string } | undefined {
  const failures = (setUp?.shards ?? []).flatMap(({ name, failedMigration: failure }) =>
    failure === undefined
      ? []
      : [{ migration: failure.name, shard: name, reason: failure.reason, message: failure.message }],
  );
  return failures.toSorted((a, b) => compareText(a.migration, b.migration) || compareText(a.shard, b.shard))[0];
}

const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

export const tablesProtected: Judge = (_snapshot, { setUp }) => {
  if (setUp === undefined) return undefined;
  const problem = setUp.shards.map((shard) => shard.problem).find((found) => found?.step === 'protect');
  if (problem !== undefined) return bad('TablesProtected', problem.reason, problem.message, true);
  return setUp.shards.some((shard) => shard.problem === undefined)
    ? good('TablesProtected', 'AllProtected', 'every table keeps tenants apart')
    : { type: 'TablesProtected', status: 'Unknown', reason: 'NoShardReached', message: 'no shard could be looked at' };
};

export const rolesReady: Judge = (snapshot, outcomes) => {
  const type = 'RolesReady';
  const { setUp, roleSecrets } = outcomes;
  const problem = setUp?.shards.map((shard) => shard.problem).find((found) => found?.step === 'roles');
  if (problem !== undefined) return bad(type, problem.reason, problem.message, true);
  const declared = snapshot.keyspace.spec.roles.map(({ name }) => name);
  if (roleSecrets.length < declared.length) return bad(type, 'Pending', 'the Secrets of roles are not made yet');
  const reached = new Set(setUp?.shards.filter((shard) => shard.problem === undefined).map(({ name }) => name));
  const without = snapshot.shards.filter((shard) => !shard.deleting && !reached.has(shard.name));
  if (declared.length > 0 && (reached.size === 0 || without.length > 0))
    return bad(
      type,
      'WaitingForShards',
      without.length === 0
        ? 'there is no shard to make them on'
        : `not yet on ${named(without.map(({ name }) => name))}`,
    );
  const rotating = roleSecrets.filter(({ preparing }) => preparing).map(({ role }) => role);
  if (rotating.length > 0)
    return good(
      type,
      'Rotating',
      `new passwords of ${named(rotating)} are shown as soon as every shard and router accepts them`,
    );
  return good(type, 'AllReady', `${declared.length} roles on every shard`);
};

export const routersReady: Judge = (snapshot) => {
  const type = 'RoutersReady';
  const { keyspace, deployments } = snapshot;
  const wished = keyspace.spec.routers.regions;
  const short = wished.flatMap(({ region, replicas }) => {
    const ready = deployments.get(region)?.status?.readyReplicas ?? 0;
    return ready >= replicas ? [] : [`${routerName(keyspace.metadata.name, region)} has ${ready} of ${replicas}`];
  });
  if (short.length > 0) return bad(type, 'NotEnough', `${named(short)} ready`);
  // The former routers serve on meanwhile, so nothing else would tell.
  const stuck = wished.filter(({ region }) =>
    deployments
      .get(region)
      ?.status?.conditions?.some((condition) => condition.type === 'Progressing' && condition.status === 'False'),
  );
  if (stuck.length > 0)
    return bad(
      type,
      'RolloutStuck',
      `new routers don't become ready in ${named(stuck.map(({ region }) => region))}; the former ones serve on`,
      true,
    );
  const replicas = wished.reduce((sum, region) => sum + region.replicas, 0);
  return good(type, 'AllReady', `${replicas} routers are ready`);
};

/** In the order in which a person should read them: what has to be put right first comes first. */
const judges: readonly Judge[] = [
  regionsKnown,
  certificatesValid,
  shardsReady,
  migrationsApplied,
  tablesProtected,
  rolesReady,
  routersReady,
];

export function keyspaceFindings(snapshot: KeyspaceSnapshot, outcomes: KeyspaceOutcomes): readonly Finding[] {
  const findings = judges.map((judge) => judge(snapshot, outcomes)).filter((finding) => finding !== undefined);
  const first = findings.find(({ status }) => status === 'False') ?? findings.find(({ status }) => status !== 'True');
  const ready =
    first === undefined
      ? good('Ready', 'AllReady', 'applications can connect')
      : bad('Ready', first.reason, first.message);
  return [ready, ...findings];
}

/** Why a Keyspace that is being deleted is still there. */
export function farewellFinding(snapshot: KeyspaceSnapshot): Finding {
  const names = snapshot.shards.map(({ name }) => name);
  return names.length === 0
    ? bad('Ready', 'Deleting', 'the keyspace is being deleted')
    : bad('Ready', 'ShardsExist', `deletion waits for the Shards of this keyspace: delete ${named(names)} as well`);
}

/** Which of the declared roles exist on every shard: what is said stays said while a shard can't be asked for a moment. */
export function rolesEverywhere(
  snapshot: KeyspaceSnapshot,
  outcome: readonly ShardOutcome[],
): readonly { name: string; secret: string }[] {
  const { keyspace } = snapshot;
  const roles = keyspace.spec.roles.map(({ name }) => ({ name, secret: roleSecretName(keyspace.metadata.name, name) }));
  const isSure = outcome.length > 0 && outcome.every(({ problem }) => problem === undefined);
  const said = new Set(keyspace.status?.roles?.map(({ name }) => name));
  return isSure ? roles : roles.filter(({ name }) => said.has(name));
}
