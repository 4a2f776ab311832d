/**
 * What a Shard needs now. Pure: the same snapshot and time give the same plan.
 * A round swaps the record first, and only when that has succeeded orders what the new record means: nobody is told anything
 * that isn't recorded, and a crash between two lines leaves a state that the next round goes on from.
 */
import { type CommitHealth, commitHealth } from '#core/authority/durability.ts';
import type { AuthorityRecord } from '#core/authority/record.ts';
import type { ShardLastFailover } from '#crds/index.ts';
import type { Finding } from '#kube/conditions.ts';
import type { Shard } from '#kube/meridian.ts';
import { controllerReference } from '#kube/objects.ts';
import { shardDisruptionBudget } from '../../resources/disruption-budget.ts';
import { shardNetworkPolicies } from '../../resources/network-policies.ts';
import type { Plan } from '../../runtime/controller.ts';
import type { Action } from './actions.ts';
import { lossAfter } from './aftermath.ts';
import {
  divergedFinding,
  failoverFinding,
  fencedFinding,
  lossFinding,
  ordersFinding,
  switchoverFinding,
  trustFinding,
} from './authority-findings.ts';
import {
  acknowledgementsFinding,
  bad,
  durableFinding,
  good,
  membershipFinding,
  type PrimaryState,
  parametersFinding,
  preferredRegionFinding,
  primaryFinding,
  readyFinding,
  referenceFindings,
  rolloutFinding,
  versionFinding,
  volumesFinding,
  wouldBlockFinding,
} from './findings.ts';
import { planFirstStart } from './first-start.ts';
import {
  acknowledgingFacts,
  isOpeningPrimary,
  isOpenPrimary,
  type MemberView,
  primaryStatus,
  promisesIn,
  statusOf,
} from './members.ts';
import { membershipInput, planMembership } from './membership.ts';
import { deliveryOf, type WishedOrders } from './orders.ts';
import type { Rollout } from './rollout.ts';
import type { Snapshot } from './snapshot.ts';
import type { Step } from './step.ts';
import { summaryOf } from './summary.ts';
import { planSwitchover, type SwitchoverPlan } from './switchover.ts';
import { preferenceOf } from './switchover-intent.ts';
import { type Contradiction, contradiction } from './trust.ts';
import { ordersDuring, rolloutOf } from './wishes.ts';

export type ShardPlan = Plan<Shard, Action>;

const convergingMs = 1_000;
const stableMs = 5_000;

export function plan(snapshot: Snapshot, now: Date): ShardPlan {
  return snapshot.shard.metadata.deletionTimestamp === undefined ? serve(snapshot, now) : leave(snapshot, now);
}

/** While tenants are owned a deleted shard serves on; then its members stop, and at last their volumes may go. */
function leave(snapshot: Snapshot, now: Date): ShardPlan {
  const { ownedTenants, statefulSets, shard } = snapshot;
  if (ownedTenants.length > 0) {
    const served = serve(snapshot, now);
    // Nothing was decided in this round.
    if (served.status === undefined) return served;
    const held = bad(
      'DeletionAllowed',
      'OwnsTenants',
      `deletion waits: the shard still owns ${tenantNames(ownedTenants)}`,
    );
    return {
      ...served,
      status: { ...served.status, phase: 'Deleting' },
      conditions: [...(served.conditions ?? []), held],
    };
  }
  const allowed = good('DeletionAllowed', 'OwnsNoTenants', 'the shard owns no tenants; its members are being removed');
  const status = { ...shard.status, phase: 'Deleting' };
  // The RegionalReplicas' controller removes the StatefulSets when it sees that condition.
  if (statefulSets.length > 0) return { actions: [], status, conditions: [allowed], requeueAfterMs: convergingMs };
  const claims = shard.spec.deletionPolicy === 'Delete' ? snapshot.claims : [];
  return {
    actions: claims.map(({ name, uid }) => ({ kind: 'DeleteClaim', name, uid })),
    status,
    conditions: [allowed],
    release: true,
  };
}

function tenantNames(keys: readonly string[]): string {
  const shown = keys.slice(0, 5).join(', ');
  const noun = keys.length === 1 ? 'tenant' : `${keys.length} tenants:`;
  return `${noun} ${shown}${keys.length > 5 ? ` and ${keys.length - 5} more` : ''}`;
}

function serve(snapshot: Snapshot, now: Date): ShardPlan {
  const { record, shard, views } = snapshot;
  if (snapshot.isOutdated) return { actions: [], requeueAfterMs: 100 };
  const contradicted = record && contradiction(record, shard.metadata.uid, promisesIn(views));
  if (contradicted !== undefined) return distrust(snapshot, contradicted);
  const rollout = rolloutOf(snapshot);
  if (record === undefined || record.authority.state === 'Initialising')
    return assemble(snapshot, { step: planFirstStart(snapshot, now), rollout, switchover: undefined }, now);
  const step = planMembership(snapshot, record);
  const switchover = planSwitchover(snapshot, record, step, rollout, now);
  // Nothing else is begun while authority moves: the record is to be the next primary's, and members its followers.
  const decided = switchover.isUnderWay
    ? { step: { initialised: step.initialised }, rollout: { ...rollout, replace: [], restart: undefined }, switchover }
    : { step, rollout, switchover };
  return assemble(snapshot, decided, now);
}

interface Decided {
  readonly step: Step;
  readonly rollout: Rollout;
  readonly switchover: SwitchoverPlan | undefined;
}

/** Nobody is ordered anything by such a record; what runs goes on by what it has promised. */
function distrust(snapshot: Snapshot, found: Contradiction): ShardPlan {
  const trust = trustFinding(snapshot.record, found);
  const findings = [...referenceFindings(snapshot), ...(trust === undefined ? [] : [trust])];
  return {
    actions: wishedObjects(snapshot),
    status: { ...snapshot.shard.status, phase: 'Distrusted' },
    conditions: [...findings, readyFinding(findings)],
    requeueAfterMs: convergingMs,
  };
}

function assemble(snapshot: Snapshot, decided: Decided, now: Date): ShardPlan {
  const { shard, record, views, leaderTerm } = snapshot;
  const { step, rollout, switchover } = decided;
  // A failed swap ends the round before any of these are sent.
  const effective = step.swap?.record ?? record;
  const pending = step.swap === undefined ? step.change : undefined;
  const wished = effective === undefined ? [] : ordersDuring(snapshot, effective, pending, rollout);
  const due = wished.filter((orders) => deliveryOf(orders, leaderTerm) === 'due');
  const health = healthOf(snapshot);
  const last = lossAfter(shard.status?.lastFailover, views);
  const conditions = findings(snapshot, decided, { wished, health, last }, now);
  const settled =
    due.length === 0 &&
    step.swap === undefined &&
    step.change === undefined &&
    rollout.state !== 'Rolling' &&
    switchover?.isUnderWay !== true &&
    // One that is refused waits for something else to change.
    (switchover?.intent === undefined || switchover.refusal !== undefined);
  const isCalm =
    settled &&
    wished.every(({ view }) => statusOf(view)?.orders?.applied === true) &&
    conditions.every(({ type, status }) => type !== 'Ready' || status === 'True') &&
    everybodyFollows(snapshot);
  const events = [...(step.event === undefined ? [] : [step.event]), ...(switchover?.events ?? [])];
  return {
    actions: [
      ...wishedObjects(snapshot),
      // Forgotten as soon as other orders are wished: it would say nothing about these any more.
      ...(step.note === snapshot.noted ? [] : [{ kind: 'NotePosition' as const, noted: step.note }]),
      ...(step.swap === undefined ? [] : [step.swap]),
      ...due.flatMap(toAction),
      ...rollout.replace.flatMap(({ name: pod, pod: view }) =>
        view === undefined ? [] : [{ kind: 'ReplacePod' as const, name: pod, uid: view.uid }],
      ),
      // Last: the version that it is written over is that of the swaps before.
      ...(switchover?.actions ?? []),
    ],
    status: {
      ...shard.status,
      phase: phaseOf(record, conditions, views),
      summary: summaryOf(snapshot, record, health),
      ...(record?.authority.state === 'Active' ? { preferred: preferenceOf(snapshot, record).preferred } : {}),
      ...(switchover?.journal === undefined ? {} : { switchover: switchover.journal }),
      ...(last === undefined ? {} : { lastFailover: last }),
    },
    conditions,
    ...(events.length === 0 ? {} : { events }),
    requeueAfterMs: isCalm ? stableMs : convergingMs,
  };
}

function healthOf(snapshot: Snapshot): CommitHealth | undefined {
  const { record, views, awayMs } = snapshot;
  if (record?.authority.state !== 'Active') return undefined;
  return commitHealth({
    ...membershipInput(snapshot, record),
    members: acknowledgingFacts(record, views, awayMs),
  });
}

const everybodyFollows = ({ record, views }: Snapshot): boolean =>
  record !== undefined &&
  views
    .filter(({ declared }) => declared)
    .every(({ name: member }) => record.membership.members.some((listed) => listed.name === member));

function toAction({ view, orders }: WishedOrders): Action[] {
  const address = view.pod?.address;
  if (address === undefined) return [];
  return [{ kind: 'SendOrders', member: view.name, address, orders, taken: statusOf(view)?.orders }];
}

function wishedObjects({ shard, operatorNamespace }: Snapshot): Action[] {
  const wish = {
    namespace: shard.metadata.namespace ?? '',
    keyspace: shard.spec.keyspace,
    shard: shard.metadata.name,
    owner: controllerReference(shard),
  };
  if (shard.metadata.deletionTimestamp !== undefined) return [];
  return [
    { kind: 'ApplyBudget', object: shardDisruptionBudget(wish) },
    ...shardNetworkPolicies({ ...wish, operatorNamespace }).map((object) => ({ kind: 'ApplyPolicy' as const, object })),
  ];
}

function primaryState(record: AuthorityRecord, views: readonly MemberView[]): PrimaryState {
  const status = primaryStatus(record, views);
  if (isOpenPrimary(record, status)) return 'Open';
  return isOpeningPrimary(record, status) ? 'Opening' : 'NotOpen';
}

interface Known {
  readonly wished: readonly WishedOrders[];
  readonly health: CommitHealth | undefined;
  readonly last: ShardLastFailover | undefined;
}

function findings(snapshot: Snapshot, decided: Decided, { wished, health, last }: Known, now: Date): Finding[] {
  const { record, views } = snapshot;
  const { step, rollout, switchover } = decided;
  const active = record?.authority.state === 'Active' ? record : undefined;
  const primary = record === undefined ? 'NotOpen' : primaryState(record, views);
  const all = [
    ...referenceFindings(snapshot),
    acknowledgementsFinding(snapshot),
    step.initialised,
    trustFinding(record, undefined),
    primaryFinding(snapshot),
    durableFinding(health, views, primary),
    wouldBlockFinding(health, primary),
    failoverFinding(snapshot, record),
    switchoverFinding(snapshot, record, switchover, now),
    membershipFinding(active, step.change, step.held, primary),
    divergedFinding(views),
    lossFinding(last),
    fencedFinding(snapshot),
    volumesFinding(record, views),
    rolloutFinding(rollout),
    parametersFinding(views),
    versionFinding(snapshot),
    preferredRegionFinding(snapshot, record),
    ordersFinding(snapshot, wished),
  ].filter((finding) => finding !== undefined);
  return [...all, readyFinding(all)];
}

/** Phases that say more than a condition's status. */
const phaseOfReason: Readonly<Record<string, string>> = {
  Opening: 'Opening',
  Promoting: 'Promoting',
  FailingOver: 'FailingOver',
  Fenced: 'Fenced',
};

function phaseOf(
  record: AuthorityRecord | undefined,
  conditions: readonly Finding[],
  views: readonly MemberView[],
): string {
  const find = (type: string): Finding | undefined => conditions.find((finding) => finding.type === type);
  if (record === undefined) return 'Waiting';
  if (record.authority.state !== 'Active') return record.authority.state;
  const available = find('PrimaryAvailable');
  if (available?.status !== 'True') return phaseOfReason[available?.reason ?? ''] ?? 'Unavailable';
  if (find('Durable')?.status !== 'True') return 'WritesWait';
  // Members that wait for the primary to move are no work under way: a condition says so.
  if (find('RolloutPending')?.reason === 'Rolling') return 'Rolling';
  const absent = views.some(
    ({ name: member, declared }) => declared && !record.membership.members.some((listed) => listed.name === member),
  );
  return absent ? 'Joining' : 'Ready';
}
