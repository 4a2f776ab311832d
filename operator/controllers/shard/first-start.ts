/**
 * The beginning of a shard: naming its first primary, and recording that it runs. Pure; who may be named is decided in
 * `core/authority/first-start.ts`. Its opening gate stays shut until so many followers have joined as commits need, and they
 * can join only once the record is established (docs/design-traps.md, B1).
 */
import {
  decideFirstStart,
  establishedRecord,
  type FirstStartDecision,
  initialRecord,
} from '#core/authority/first-start.ts';
import type { AuthorityRecord } from '#core/authority/record.ts';
import { bad, not } from './findings.ts';
import { isOpeningPrimary, isOpenPrimary, type MemberView, primaryStatus, statusOf } from './members.ts';
import type { Snapshot } from './snapshot.ts';
import type { Step } from './step.ts';

/** After this, a shard takes any promotable member of its primary region that answers as its first primary. */
const patienceMs = 60_000;

/** Reasons that pass only when somebody does something about them. */
const wrongs: readonly string[] = ['DataFound', 'RecordLost', 'NoPromotableMember'];

export function planFirstStart(snapshot: Snapshot, now: Date): Step {
  const { shard, record, views } = snapshot;
  const status = record && primaryStatus(record, views);
  if (record !== undefined && (isOpenPrimary(record, status) || isOpeningPrimary(record, status)))
    return establish(snapshot, record);
  const decision = decideFirstStart({
    shardUid: shard.metadata.uid,
    preferredRegion: shard.spec.primaryRegion,
    named: record?.authority,
    impatient: now.getTime() - Date.parse(shard.metadata.creationTimestamp) > patienceMs,
    members: views.map((view) => ({
      name: view.name,
      region: view.region ?? '',
      promotable: view.promotable,
      declared: view.declared,
      hasVolume: view.volume === 'bound',
      volumeGoing: view.volumeGoing,
      answer: firstAnswer(view),
    })),
  });
  if (decision.kind === 'Wait') {
    const finding = wrongs.includes(decision.reason) ? bad : not;
    return { initialised: finding('Initialised', decision.reason, decision.message + problemsOf(decision, views)) };
  }
  return name(snapshot, decision, now);
}

function firstAnswer(view: MemberView) {
  const status = statusOf(view);
  if (status === undefined) return undefined;
  return {
    incarnation: status.member.incarnation,
    hasData: status.hasData,
    promisedTo: status.promise === undefined || status.promise.epoch === 0 ? undefined : status.promise.shardUid,
  };
}

function name({ shard, record }: Snapshot, decision: Extract<FirstStartDecision, { kind: 'Name' }>, now: Date): Step {
  const since = `${now.toISOString().slice(0, 19)}Z`;
  const named = initialRecord(decision, shard.spec.durability.acknowledgements, since, record);
  const message = `${decision.member.name} in ${decision.region} is named first primary, epoch ${decision.epoch}`;
  return {
    swap: { kind: 'Record', record: named, why: message },
    event: { type: 'Normal', reason: 'Initialising', message },
    initialised: not('Initialised', 'Initialising', message),
  };
}

function establish({ views }: Snapshot, record: AuthorityRecord): Step {
  const message = `${record.authority.member} runs at epoch ${record.authority.epoch}`;
  return {
    swap: {
      kind: 'Record',
      record: establishedRecord(record),
      systemIdentifier: primaryStatus(record, views)?.systemIdentifier,
      why: message,
    },
    event: { type: 'Normal', reason: 'Initialised', message },
    initialised: not('Initialised', 'Initialising', message),
  };
}

/** What keeps those from answering whom we wait for. */
function problemsOf({ reason }: Extract<FirstStartDecision, { kind: 'Wait' }>, views: readonly MemberView[]): string {
  if (reason !== 'WaitingForMembers' && reason !== 'WaitingForVolumes') return '';
  const problems = views.flatMap(({ pod }) => pod?.problem ?? []);
  return problems.length === 0 ? '' : ` (${problems.slice(0, 3).join('; ')})`;
}
