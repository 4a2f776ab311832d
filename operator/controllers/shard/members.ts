/**
 * Every member that a shard has, had or should have, with what each source says of it: RegionalReplicas (who is asked for),
 * pods, volumes, agents. Pure: puts observations side by side and decides nothing.
 */

import type { MemberFacts } from '#core/authority/membership-change.ts';
import { type AuthorityRecord, mayAcknowledge, type RegionOf, type Scope } from '#core/authority/record.ts';
import type { RejoiningMember } from '#core/authority/rejoin.ts';
import type { MemberIdentity } from '#core/identity.ts';
import { type Lsn, parseLsn } from '#core/lsn.ts';
import { memberName } from '#core/names.ts';
import type { AgentStatus } from '#core/protocol/status.ts';
import type { PersistentVolumeClaim, Pod, StatefulSet } from '#kube/kinds.ts';
import type { RegionalReplica } from '#kube/meridian.ts';
import type { KubeObject } from '#kube/objects.ts';
import { agentTarget } from '../../agents/access.ts';
import type { StatusAnswer } from '../../agents/client.ts';
import { dataVolume } from '../../resources/member-pod.ts';
import { hasAnnounced } from '../regionalreplica/leaving.ts';
import { isReady, podProblem } from '../regionalreplica/members.ts';
import { ordinalOf } from '../regionalreplica/scale.ts';
import type { MemberPromise } from './trust.ts';

export interface MemberView {
  readonly name: string;
  /** Undefined where no RegionalReplica (any more) has such a member. */
  readonly region: string | undefined;
  readonly promotable: boolean;
  /** A RegionalReplica asks for it. */
  readonly declared: boolean;
  readonly pod: PodView | undefined;
  /** Bound: it may hold something. Pending: it waits for its pod, and is empty. */
  readonly volume: 'none' | 'pending' | 'bound';
  /** The volume is marked for deletion, which takes place when its pod ends. */
  readonly volumeGoing: boolean;
  readonly answer: StatusAnswer;
  /** Who it was when it last answered somebody, for as long as its volume is there; to be used only while it is silent. */
  readonly lastKnown: MemberIdentity | undefined;
}

export interface PodView {
  readonly uid: string;
  readonly address: string | undefined;
  readonly ready: boolean;
  readonly ending: boolean;
  /** It doesn't get to run: it waits for a node, an image, or its next try after failures. Not so while it restarts. */
  readonly idle: boolean;
  /** Made from another template than the StatefulSet's present one. */
  readonly outdated: boolean;
  /** Why it isn't ready, for people; undefined when it is. */
  readonly problem: string | undefined;
}

export interface MemberSources {
  /** As it was read for this round: RegionalReplicas announce on it that they go. */
  readonly shard: KubeObject;
  readonly replicas: readonly RegionalReplica[];
  readonly pods: readonly Pod[];
  readonly statefulSets: readonly StatefulSet[];
  readonly claims: readonly PersistentVolumeClaim[];
  readonly answers: ReadonlyMap<string, StatusAnswer>;
  /** Members of the record, which may have nothing else left. */
  readonly listed: readonly string[];
}

export function memberViews(sources: MemberSources): MemberView[] {
  const { replicas, pods, claims, listed } = sources;
  const declared = replicas.flatMap((replica) => (isLeaving(replica, sources.shard) ? [] : declaredNames(replica)));
  const names = new Set([
    ...declared,
    ...pods.map(({ metadata }) => metadata.name),
    ...claims.flatMap((claim) => memberOfClaim(claim) ?? []),
    ...listed,
  ]);
  return [...names].toSorted().map((name) => view(name, declared.includes(name), sources));
}

const isLeaving = (replica: RegionalReplica, shard: KubeObject): boolean =>
  replica.metadata.deletionTimestamp !== undefined || hasAnnounced(shard, replica);

const declaredNames = ({ metadata, spec }: RegionalReplica): string[] =>
  Array.from({ length: spec.instances }, (_, ordinal) => memberName(metadata.name, ordinal));

export function memberOfClaim({ metadata }: PersistentVolumeClaim): string | undefined {
  const prefix = `${dataVolume}-`;
  return metadata.name.startsWith(prefix) ? metadata.name.slice(prefix.length) : undefined;
}

function view(name: string, declared: boolean, sources: MemberSources): MemberView {
  const replica = sources.replicas.find(({ metadata }) => ordinalOf(metadata.name, name) !== undefined);
  const pod = sources.pods.find(({ metadata }) => metadata.name === name);
  const claim = sources.claims.find((candidate) => memberOfClaim(candidate) === name);
  const set = sources.statefulSets.find(({ metadata }) => metadata.name === replica?.metadata.name);
  const volume = claim === undefined ? 'none' : claim.status?.phase === 'Bound' ? 'bound' : 'pending';
  const published = replica?.status?.members?.find((member) => member.name === name)?.incarnation;
  return {
    name,
    region: replica?.spec.region,
    promotable: replica?.spec.promotable === true,
    declared,
    pod: pod && podView(pod, set, sources.answers.get(name)),
    volume,
    volumeGoing: claim?.metadata.deletionTimestamp !== undefined,
    answer: sources.answers.get(name) ?? { kind: 'silent', why: 'it has no pod' },
    lastKnown: volume !== 'bound' || published === undefined ? undefined : { name, incarnation: published },
  };
}

function podView(pod: Pod, set: StatefulSet | undefined, answer: StatusAnswer | undefined): PodView {
  const revision = pod.metadata.labels?.['controller-revision-hash'];
  const wanted = set?.status?.updateRevision;
  // The revision counts only once the StatefulSet's controller has seen the newest template.
  const seen = set?.status?.observedGeneration === set?.metadata.generation;
  return {
    uid: pod.metadata.uid ?? '',
    address: agentTarget(pod)?.address,
    ready: isReady(pod),
    ending: pod.metadata.deletionTimestamp !== undefined,
    idle: isIdle(pod),
    problem: podProblem(pod, answer),
    outdated: seen && revision !== undefined && wanted !== undefined && wanted !== '' && revision !== wanted,
  };
}

/** A container that has just ended starts again by itself in a moment; one that is held back (BackOff, Err...) doesn't. */
function isIdle({ status }: Pod): boolean {
  const states = (status?.containerStatuses ?? []).map(({ state }) => state);
  if (states.some((state) => state?.running !== undefined || state?.terminated !== undefined)) return false;
  return (
    states.some((state) => /BackOff|Err|Invalid|CreateContainer/.test(state?.waiting?.reason ?? '')) ||
    status?.phase === 'Pending'
  );
}

export const statusOf = (view: MemberView | undefined): AgentStatus | undefined =>
  view?.answer.kind === 'status' ? view.answer.status : undefined;

/** Who it says it is; undefined while it is silent. */
export const identityOf = (view: MemberView): MemberIdentity | undefined => statusOf(view)?.member;

/** The record lists it as who it is; while nobody knows that, as whoever had its name. */
export function isCounted(record: AuthorityRecord | undefined, view: MemberView): boolean {
  const member = identityOf(view) ?? view.lastKnown;
  return (record?.membership.members ?? []).some(
    ({ name, incarnation }) => name === view.name && (member === undefined || incarnation === member.incarnation),
  );
}

/**
 * Every identity, listed or answering, as the rules of rejoining see it. Who streams is known from the primary only: while
 * that doesn't answer, nobody counts as away.
 */
export function rejoiningMembers(
  record: AuthorityRecord,
  views: readonly MemberView[],
  awayMs: ReadonlyMap<string, number>,
  scope: Scope,
): RejoiningMember[] {
  const isPrimarySeen = primaryStatus(record, views) !== undefined;
  return memberFacts(record, views, isPrimarySeen ? awayMs : new Map()).map((facts) => ({
    member: facts.member,
    diverged: facts.diverged === true,
    gone: facts.replaced,
    stale: facts.stale,
    outOfScope: !mayAcknowledge(record, facts.member, scope, regionIn(views)),
    awayMs: facts.awayMs,
  }));
}

/** What members have promised, as far as they answer. */
export const promisesIn = (views: readonly MemberView[]): MemberPromise[] =>
  views.flatMap((view) => {
    const promise = statusOf(view)?.promise;
    return promise === undefined ? [] : [{ name: view.name, ...promise }];
  });

export const regionIn =
  (views: readonly MemberView[]): RegionOf =>
  (name) =>
    views.find((view) => view.name === name)?.region;

/** The status of the primary's agent, only where it is the very member that the record names. */
export function primaryStatus(record: AuthorityRecord, views: readonly MemberView[]): AgentStatus | undefined {
  const status = statusOf(views.find(({ name }) => name === record.authority.member));
  return status?.member.incarnation === record.authority.incarnation ? status : undefined;
}

/** It is open for writes at the recorded epoch, and works by our orders. */
export function isOpenPrimary(record: AuthorityRecord, status: AgentStatus | undefined): boolean {
  return status?.phase === 'Primary' && status.postgres?.open === true && leads(record, status);
}

/** It runs as primary at the recorded epoch, behind its opening gate: followers may join, nobody may be removed (trap B1). */
export function isOpeningPrimary(record: AuthorityRecord, status: AgentStatus | undefined): boolean {
  return status?.phase === 'Opening' && leads(record, status);
}

const leads = (record: AuthorityRecord, { postgres, orders }: AgentStatus): boolean =>
  postgres?.running === true && !postgres.inRecovery && orders?.epoch === record.authority.epoch;

/** Facts for the membership decision: one entry for each identity, listed or answering. */
export function memberFacts(
  record: AuthorityRecord,
  views: readonly MemberView[],
  awayMs: ReadonlyMap<string, number>,
): MemberFacts[] {
  const primary = primaryStatus(record, views);
  const identities = new Map<string, MemberIdentity>();
  for (const member of record.membership.members) identities.set(`${member.name}/${member.incarnation}`, member);
  for (const view of views) {
    const member = identityOf(view);
    if (member !== undefined) identities.set(`${member.name}/${member.incarnation}`, member);
  }
  return [...identities.values()].map((member) => {
    const view = views.find(({ name }) => name === member.name);
    const status = statusOf(view);
    const standby = primary?.standbys.find(
      ({ name, incarnation }) => name === member.name && incarnation === member.incarnation,
    );
    const isCurrent = status?.member.incarnation === member.incarnation;
    const streaming = standby?.state === 'streaming';
    return {
      member,
      declared: view?.declared === true,
      replaced: status !== undefined && !isCurrent,
      stale: isCurrent && status?.upstream?.needsCopy === true,
      // While nobody says whose volume that is, it is that of every identity of this name.
      volumeGoing: view?.volumeGoing === true && (status === undefined || isCurrent),
      diverged: isCurrent && status?.diverged !== undefined,
      streaming,
      caughtUp: isCurrent && status?.upstream?.streaming === true && status.upstream.caughtUp,
      flushed: streaming && standby !== undefined ? lsnOf(standby.flushed) : undefined,
      awayMs: awayMs.get(member.name) ?? 0,
    };
  });
}

/**
 * The same facts, with `streaming` only for those whom Postgres itself counts now: a member may stream and be in the record
 * while the sync list doesn't have it yet.
 */
export function acknowledgingFacts(
  record: AuthorityRecord,
  views: readonly MemberView[],
  awayMs: ReadonlyMap<string, number>,
): MemberFacts[] {
  const standbys = primaryStatus(record, views)?.standbys ?? [];
  return memberFacts(record, views, awayMs).map((facts) => {
    const counted = standbys.some(
      ({ name, incarnation, sync }) =>
        name === facts.member.name && incarnation === facts.member.incarnation && ['sync', 'quorum'].includes(sync),
    );
    return { ...facts, streaming: facts.streaming && counted };
  });
}

/** Undefined for what isn't a position: a member's word is never a reason to fail the round. */
export function lsnOf(text: string | undefined): Lsn | undefined {
  try {
    return text === undefined ? undefined : parseLsn(text);
  } catch {
    return undefined;
  }
}

/** Names that are neither reachable nor streaming now. */
export function awayNames(record: AuthorityRecord | undefined, views: readonly MemberView[]): string[] {
  const standbys = record === undefined ? [] : (primaryStatus(record, views)?.standbys ?? []);
  return views
    .filter((view) => statusOf(view) === undefined)
    .map(({ name }) => name)
    .filter((name) => !standbys.some((standby) => standby.name === name && standby.state === 'streaming'));
}
