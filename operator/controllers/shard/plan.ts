/**
 * What a Shard needs now. Pure: the same snapshot and time give the same plan.
 * A round swaps the record first, and only when that has succeeded orders what the new record means: nobody is told anything
 * that isn't recorded, and a crash between two lines leaves a state that the next round goes on from.
 */
import { commitHealth } from '#core/authority/durability.ts';
import type { AuthorityRecord } from '#core/authority/record.ts';
import type { Finding } from '#kube/conditions.ts';
import type { Shard } from '#kube/meridian.ts';
import { controllerReference } from '#kube/objects.ts';
import { shardDisruptionBudget } from '../../resources/disruption-budget.ts';
import { shardNetworkPolicies } from '../../resources/network-policies.ts';
import type { Plan } from '../../runtime/controller.ts';
import type { Action } from './actions.ts';
import {
  acknowledgementsFinding,
  bad,
  durableFinding,
  good,
  membershipFinding,
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
import { acknowledgingFacts, type MemberView, statusOf } from './members.ts';
import { membershipInput, planMembership } from './membership.ts';
import { deliveryOf, type WishedOrders } from './orders.ts';
import type { Rollout } from './rollout.ts';
import type { Snapshot } from './snapshot.ts';
import type { Step } from './step.ts';
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
  const { record } = snapshot;
  const step =
    record === undefined || record.authority.state === 'Initialising'
      ? planFirstStart(snapshot, now)
      : planMembership(snapshot, record);
  return assemble(snapshot, step);
}

function assemble(snapshot: Snapshot, step: Step): ShardPlan {
  const { shard, record, views, leaderTerm } = snapshot;
  const rollout = rolloutOf(snapshot);
  // A failed swap ends the round before any of these are sent.
  const effective = step.swap?.record ?? record;
  const pending = step.swap === undefined ? step.change : undefined;
  const wished = effective === undefined ? [] : ordersDuring(snapshot, effective, pending, rollout);
  const due = wished.filter((orders) => deliveryOf(orders, leaderTerm) === 'due');
  const conditions = findings(snapshot, step, rollout, wished);
  const settled =
    due.length === 0 && step.swap === undefined && step.change === undefined && rollout.state !== 'Rolling';
  const isCalm =
    settled &&
    wished.every(({ view }) => statusOf(view)?.orders?.applied === true) &&
    conditions.every(({ type, status }) => type !== 'Ready' || status === 'True') &&
    everybodyFollows(snapshot);
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
    ],
    status: { ...shard.status, phase: phaseOf(record, conditions, views) },
    conditions,
    ...(step.event === undefined ? {} : { events: [step.event] }),
    requeueAfterMs: isCalm ? stableMs : convergingMs,
  };
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

function findings(snapshot: Snapshot, step: Step, rollout: Rollout, wished: readonly WishedOrders[]): Finding[] {
  const { record, views, leaderTerm } = snapshot;
  const active = record?.authority.state === 'Active' ? record : undefined;
  const health =
    active &&
    commitHealth({
      ...membershipInput(snapshot, active),
      members: acknowledgingFacts(active, views, snapshot.awayMs),
    });
  const outranked = wished.filter((orders) => deliveryOf(orders, leaderTerm) === 'outranked');
  const all = [
    ...referenceFindings(snapshot),
    acknowledgementsFinding(snapshot),
    step.initialised,
    primaryFinding(record, views),
    durableFinding(health, views),
    wouldBlockFinding(health),
    membershipFinding(active, step.change, step.held),
    volumesFinding(record, views),
    rolloutFinding(rollout),
    parametersFinding(views),
    versionFinding(snapshot),
    preferredRegionFinding(snapshot, record),
    outranked.length === 0
      ? good('OrdersTaken', 'Taken', 'no member refuses orders')
      : bad(
          'OrdersTaken',
          'HigherTerm',
          `${outranked.map(({ view }) => view.name).join(', ')} took orders of a higher leader term than ours (${leaderTerm}): another operator leads, or its Lease was made anew`,
        ),
  ].filter((finding) => finding !== undefined);
  return [...all, readyFinding(all)];
}

function phaseOf(
  record: AuthorityRecord | undefined,
  conditions: readonly Finding[],
  views: readonly MemberView[],
): string {
  const isTrue = (type: string): boolean =>
    conditions.some((finding) => finding.type === type && finding.status === 'True');
  if (record === undefined) return 'Waiting';
  if (record.authority.state !== 'Active') return record.authority.state;
  if (!isTrue('PrimaryAvailable')) return 'Unavailable';
  if (!isTrue('Durable')) return 'WritesWait';
  // Members that wait for the primary to move are no work under way: a condition says so.
  if (conditions.some(({ type, reason }) => type === 'RolloutPending' && reason === 'Rolling')) return 'Rolling';
  const absent = views.some(
    ({ name: member, declared }) => declared && !record.membership.members.some((listed) => listed.name === member),
  );
  return absent ? 'Joining' : 'Ready';
}
