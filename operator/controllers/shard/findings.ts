/**
 * What to say about a Shard: one small function for each condition, in words for people. Pure.
 * Conditions assert the positive, but for WouldBlock and RolloutPending, which warn.
 */
import { type CommitHealth, type DeclaredMember, whyImpossible } from '#core/authority/durability.ts';
import type { MembershipChange } from '#core/authority/membership-change.ts';
import type { AuthorityRecord } from '#core/authority/record.ts';
import { annotations } from '#core/names.ts';
import type { Finding } from '#kube/conditions.ts';
import { fencedNames } from './fencing.ts';
import { isOpenPrimary, type MemberView, primaryStatus, statusOf } from './members.ts';
import type { Rollout } from './rollout.ts';
import type { Snapshot } from './snapshot.ts';

export const good = (type: string, reason: string, message: string): Finding => ({
  type,
  status: 'True',
  reason,
  message,
});

export const bad = (type: string, reason: string, message: string): Finding => ({
  type,
  status: 'False',
  reason,
  message,
  warning: true,
});

/** Not so, and nothing is wrong with that. */
export const not = (type: string, reason: string, message: string): Finding => ({
  type,
  status: 'False',
  reason,
  message,
});

export function referenceFindings({ shard, keyspace, regions, replicasWithoutRegion }: Snapshot): Finding[] {
  const { spec } = shard;
  const primaryRegionKnown = regions.some(({ name }) => name === spec.primaryRegion);
  return [
    keyspace === undefined
      ? bad('KeyspaceKnown', 'NoSuchKeyspace', `there is no Keyspace ${spec.keyspace} in this namespace`)
      : good('KeyspaceKnown', 'Found', `Keyspace ${spec.keyspace} is there`),
    regionFinding(spec.primaryRegion, primaryRegionKnown, replicasWithoutRegion),
  ];
}

function regionFinding(region: string, isKnown: boolean, replicasWithoutRegion: readonly string[]): Finding {
  if (!isKnown) return bad('RegionKnown', 'NoSuchRegion', `there is no Region ${region} in this namespace`);
  if (replicasWithoutRegion.length > 0)
    return bad(
      'RegionKnown',
      'ReplicaInUnknownRegion',
      `the Region of RegionalReplica ${replicasWithoutRegion.join(', ')} isn't in this namespace`,
    );
  return good('RegionKnown', 'Found', `Region ${region} is there`);
}

export const declaredMembers = (views: readonly MemberView[]): DeclaredMember[] =>
  views
    .filter(({ declared }) => declared)
    .map(({ name, region, promotable }) => ({ name, region: region ?? '', promotable }));

export function acknowledgementsFinding({ shard, views, record }: Snapshot): Finding {
  const primaryRegion = record?.authority.region ?? shard.spec.primaryRegion;
  const impossible = whyImpossible(declaredMembers(views), primaryRegion, shard.spec.durability);
  return impossible === undefined
    ? good('AcknowledgementsPossible', 'EnoughMembers', 'the RegionalReplicas declare enough members')
    : bad('AcknowledgementsPossible', impossible.reason, impossible.message);
}

export function primaryFinding({ shard, record, views, takeover }: Snapshot): Finding {
  if (record === undefined) return not('PrimaryAvailable', 'NoAuthority', 'no member has authority yet');
  const { member, incarnation } = record.authority;
  const view = views.find(({ name }) => name === member);
  const status = statusOf(view);
  if (isOpenPrimary(record, primaryStatus(record, views)))
    return good('PrimaryAvailable', 'Open', `${member} is open at epoch ${record.authority.epoch}`);
  if (record.authority.state === 'Stopping')
    return not(
      'PrimaryAvailable',
      'HandingOver',
      `${member} hands over to ${record.authority.target?.name ?? 'another member'}; routers hold what is new`,
    );
  if (fencedNames(shard).has(member))
    return not('PrimaryAvailable', 'Fenced', `${member} is kept down by the annotation meridian.db/fence`);
  if (takeover?.kind === 'Failover' && takeover.running)
    return bad('PrimaryAvailable', 'FailingOver', `${member} is being taken over from: ${takeover.message}`);
  if (status === undefined)
    return bad(
      'PrimaryAvailable',
      'PrimaryUnreachable',
      `${member} does not answer: ${view?.answer.kind === 'silent' ? view.answer.why : 'it has no pod'}` +
        (takeover === undefined || takeover.outcome === 'Done' ? '' : `; ${takeover.message}`),
    );
  if (status.member.incarnation !== incarnation)
    return bad(
      'PrimaryAvailable',
      'VolumeReplaced',
      `${member} has another volume than the one with authority (incarnation ${status.member.incarnation}, not ${incarnation}); it is not used`,
    );
  const said = `${member} is ${status.phase}${status.problem === '' ? '' : `: ${status.problem}`}`;
  // At the first start this is the way things go; nobody has been let in yet.
  if (status.phase === 'Opening')
    return not('PrimaryAvailable', 'Opening', `${said}; it lets nobody in before enough followers have what it has`);
  // The way that every change of authority goes; one that stays here is told by its phase and by how long it is so.
  if (status.phase === 'Promoting') return not('PrimaryAvailable', 'Promoting', said);
  return bad('PrimaryAvailable', 'PrimaryStarting', said);
}

/** Whether the primary serves, is behind its gate, or neither. */
export type PrimaryState = 'Open' | 'Opening' | 'NotOpen';

export function durableFinding(
  health: CommitHealth | undefined,
  views: readonly MemberView[],
  primary: PrimaryState,
): Finding {
  if (health === undefined) return not('Durable', 'NoAuthority', 'no member has authority yet');
  const { acknowledging, needed, canCommit } = health;
  if (primary === 'NotOpen') return not('Durable', 'PrimaryNotOpen', 'no primary is open: nothing is committed');
  if (needed === 0)
    return good(
      'Durable',
      'NotAsked',
      'acknowledgements: 0, commits wait for nobody; a failover may lose the last ones',
    );
  if (canCommit)
    return good('Durable', 'Acknowledged', `${acknowledging.join(', ')} acknowledge; ${needed} needed for each commit`);
  const missing = views
    .filter(({ name, declared }) => declared && !acknowledging.includes(name))
    .flatMap((view) => followerProblem(view) ?? []);
  const so = `${acknowledging.length} of ${needed} needed followers acknowledge`;
  return primary === 'Opening'
    ? not('Durable', 'Opening', [`${so}; the primary opens when they do`, ...missing].join('; '))
    : bad('Durable', 'WritesWait', [`${so}; commits wait`, ...missing].join('; '));
}

/** Undefined for the primary and for followers that are well. */
function followerProblem(view: MemberView): string | undefined {
  const status = statusOf(view);
  if (status === undefined) return `${view.name}: ${view.answer.kind === 'silent' ? view.answer.why : ''}`;
  if (status.phase === 'Primary' || status.phase === 'Following') return undefined;
  const copied =
    status.clone === undefined || status.clone.totalBytes === 0
      ? ''
      : ` (${Math.floor((100 * status.clone.receivedBytes) / status.clone.totalBytes)} %)`;
  return `${view.name} is ${status.phase}${copied}${status.problem === '' ? '' : `: ${status.problem}`}`;
}

export function wouldBlockFinding(health: CommitHealth | undefined, primary: PrimaryState): Finding {
  if (health !== undefined && primary !== 'Open')
    return not('WouldBlock', 'PrimaryNotOpen', 'no primary is open: nothing is committed');
  if (health === undefined || health.needed === 0)
    return not('WouldBlock', 'NotWaiting', 'commits wait for no follower');
  if (!health.canCommit) return { ...good('WouldBlock', 'Blocked', 'commits wait already'), warning: true };
  if (health.spare === 0)
    return good(
      'WouldBlock',
      'NoSpareFollower',
      `the loss of any of ${health.acknowledging.join(', ')} stops writes until it is back: no more followers acknowledge than are needed`,
    );
  return not('WouldBlock', 'Spare', `${health.spare} more followers acknowledge than are needed`);
}

export function membershipFinding(
  record: AuthorityRecord | undefined,
  change: MembershipChange | undefined,
  held: string | undefined,
  primary: PrimaryState,
): Finding {
  const type = 'MembershipSettled';
  if (record === undefined) return not(type, 'NoAuthority', 'no member has authority yet');
  if (change !== undefined) return not(type, change.kind, `${describeChange(change)} is under way`);
  // While a gate is shut nobody is removed: that passes.
  if (held !== undefined) return primary === 'Open' ? bad(type, 'Held', held) : not(type, 'PrimaryNotOpen', held);
  return good(
    type,
    'Settled',
    `generation ${record.membership.generation}, ${record.membership.members.length} members`,
  );
}

/** Said while it can still be helped: a mark for deletion can't be taken back, and is carried out when the pod ends. */
export function volumesFinding(record: AuthorityRecord | undefined, views: readonly MemberView[]): Finding {
  const going = views.filter(({ volumeGoing }) => volumeGoing);
  if (going.length === 0) return good('VolumesKept', 'Kept', 'no volume of a member is marked for deletion');
  const sentences = going.map(({ name }) =>
    name === record?.authority.member
      ? `the volume of the primary ${name} is marked for deletion and goes with its pod, which must not end before authority is elsewhere`
      : `the volume of ${name} is marked for deletion and goes with its pod, which is replaced once ${name} doesn't count`,
  );
  return bad('VolumesKept', 'MarkedForDeletion', sentences.join('; '));
}

export function describeChange(change: MembershipChange): string {
  switch (change.kind) {
    case 'Add':
      return `adding ${change.member.name}`;
    case 'Remove':
      return `removing ${change.member.name} (${change.why})`;
    case 'LowerAcknowledgements':
      return `lowering acknowledgements to ${change.acknowledgements}`;
    case 'RaiseAcknowledgements':
      return `raising acknowledgements to ${change.acknowledgements}`;
    default:
      return change satisfies never;
  }
}

export function rolloutFinding({ state, message }: Rollout): Finding {
  switch (state) {
    case 'Done':
      return not('RolloutPending', 'UpToDate', message);
    case 'Rolling':
      return good('RolloutPending', 'Rolling', message);
    case 'Held':
      return { ...good('RolloutPending', 'VolumeMarkedForDeletion', message), warning: true };
    case 'PrimaryWaits':
      return { ...good('RolloutPending', 'PrimaryWaitsForSwitchover', message), warning: true };
    default:
      return state satisfies never;
  }
}

export function preferredRegionFinding({ shard }: Snapshot, record: AuthorityRecord | undefined): Finding | undefined {
  if (record === undefined) return undefined;
  const { region, member } = record.authority;
  const { primaryRegion } = shard.spec;
  return region === primaryRegion
    ? good('InPreferredRegion', 'Preferred', `the primary is in ${region}`)
    : not(
        'InPreferredRegion',
        'Elsewhere',
        `the primary ${member} is in ${region}; ${primaryRegion} is preferred, and it goes there only when asked: ` +
          `kubectl annotate shard ${shard.metadata.name} ${annotations.switchover}=${primaryRegion}`,
      );
}

/** What Postgres says of the settings is known by the agents only; each refused one is left out, and said here. */
export function parametersFinding(views: readonly MemberView[]): Finding {
  const refusals = new Map<string, string[]>();
  for (const view of views)
    for (const problem of statusOf(view)?.problem.split('; ') ?? [])
      if (problem.startsWith('parameter ')) refusals.set(problem, [...(refusals.get(problem) ?? []), view.name]);
  if (refusals.size === 0) return good('ParametersAccepted', 'Accepted', 'no member refuses a parameter');
  const sentences = [...refusals].map(([problem, names]) => `${problem} (${names.join(', ')})`);
  return bad('ParametersAccepted', 'Refused', sentences.join('; '));
}

export function versionFinding({ shard, views }: Snapshot): Finding | undefined {
  const wished = shard.spec.postgres.version;
  const running = views.flatMap((view) => {
    const version = statusOf(view)?.postgres?.version;
    return version === undefined ? [] : [{ name: view.name, version }];
  });
  if (running.length === 0) return undefined;
  const others = running.filter(({ version }) => /^\d+/.exec(version)?.[0] !== wished);
  return others.length === 0
    ? good('VersionAsWished', 'AsWished', `every member runs Postgres ${wished}`)
    : bad(
        'VersionAsWished',
        'AnotherVersion',
        `${others.map(({ name, version }) => `${name} runs ${version}`).join(', ')}, not ${wished}: spec.postgres.image has to contain Postgres ${wished}`,
      );
}

/** The first thing that keeps the shard from serving, in the words of its own condition. */
export function readyFinding(findings: readonly Finding[]): Finding {
  const blockers = ['KeyspaceKnown', 'RegionKnown', 'RecordTrusted', 'Initialised', 'PrimaryAvailable', 'Durable'];
  // Once there is authority, a Region or Keyspace object that vanished doesn't stop the data plane.
  const serves = findings.some(({ type, status }) => type === 'PrimaryAvailable' && status === 'True');
  const relevant = serves ? ['Initialised', 'RecordTrusted', 'PrimaryAvailable', 'Durable'] : blockers;
  for (const type of relevant) {
    const found = findings.find((finding) => finding.type === type && finding.status !== 'True');
    if (found !== undefined) return { type: 'Ready', status: 'False', reason: found.reason, message: found.message };
  }
  return good('Ready', 'Serving', 'the primary is open, and commits are acknowledged');
}
