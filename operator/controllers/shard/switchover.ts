/**
 * The planned switchover of a shard, from the wish to its end: whether one is asked for, whether it may begin, and what became
 * of it. Pure. It is begun by handing it to the takeover service, which records `Stopping` with the target (a swap that also
 * shows that the API server takes writes) before anything is stopped; from then on the record alone decides, and any replica
 * goes on with it.
 * The journal is `status.switchover`, written before the service is asked: an operator that dies in between asks again. What
 * somebody asked for by hand is tried once and then taken off; what follows from the objects is tried again, ever later.
 */
import { type AuthorityRecord, primaryOf, sameMember } from '#core/authority/record.ts';
import type { MemberIdentity } from '#core/identity.ts';
import { annotations } from '#core/names.ts';
import type { ShardSwitchover } from '#crds/index.ts';
import type { PlannedEvent } from '../../runtime/controller.ts';
import type { Action } from './actions.ts';
import { isOpenPrimary, primaryStatus } from './members.ts';
import type { Rollout } from './rollout.ts';
import type { Snapshot } from './snapshot.ts';
import type { Step } from './step.ts';
import { type Intent, intentOf, requestOf } from './switchover-intent.ts';
import { type Candidates, candidates, type Refusal } from './switchover-target.ts';

export interface SwitchoverPlan {
  readonly actions: readonly Action[];
  /** The journal after this round. */
  readonly journal: ShardSwitchover | undefined;
  readonly events: readonly PlannedEvent[];
  /** Authority is about to move: nothing else is begun meanwhile. */
  readonly isUnderWay: boolean;
  /** What asks for one now, and why it doesn't come about; for the condition. */
  readonly intent?: Intent | undefined;
  readonly refusal?: Refusal | undefined;
  /** Nothing is wrong, and it isn't time yet. */
  readonly waitsFor?: string | undefined;
}

/** How long one may take to begin (record `Stopping`) before it is given up. */
const beginWithinMs = 30_000;
/** After failures: this long, doubled each time, at most. */
const firstRetryMs = 30_000;
const lastRetryMs = 900_000;

const none = (journal: ShardSwitchover | undefined): SwitchoverPlan => ({
  actions: [],
  journal,
  events: [],
  isUnderWay: false,
});

export function planSwitchover(
  snapshot: Snapshot,
  record: AuthorityRecord,
  step: Pick<Step, 'swap' | 'change'>,
  rollout: Rollout,
  now: Date,
): SwitchoverPlan {
  const ended = afterwards(snapshot, record, now);
  if (ended !== undefined) return ended;
  const journal = served(snapshot);
  if (record.authority.state !== 'Active')
    return { ...none(journal), isUnderWay: record.authority.state === 'Stopping' };
  const request = requestOf(snapshot);
  if (request !== undefined && journal?.request === request && journal.outcome !== undefined)
    return {
      ...none(journal),
      actions: [{ kind: 'ClearAnnotation', annotation: annotations.switchover, value: request }],
    };
  const intent = intentOf(snapshot, record, rollout);
  const isBegun = journal !== undefined && journal.outcome === undefined;
  if (isBegun && intent?.reason !== journal.reason) {
    if (snapshot.takeover?.running === true) return { ...none(journal), isUnderWay: true };
    return over(journal, 'GivenUp', 'was given up: nothing asks for it any more', now);
  }
  if (intent === undefined) return none(journal);
  if (intent.reason === 'RegionDrained' && !snapshot.isDrainTurn)
    return { ...none(journal), intent, waitsFor: 'others move out of the region first' };
  if (!isBegun && intent.request === undefined) {
    const waitMs = retryInMs(journal, now);
    if (waitMs > 0)
      return {
        ...none(journal),
        intent,
        waitsFor: `the last try ${journal?.message ?? 'failed'}; the next is in ${Math.ceil(waitMs / 1000)} s`,
      };
    // One change of the record at a time: these are short, and whoever asked by hand doesn't wait for them.
    if (step.swap !== undefined || step.change !== undefined)
      return { ...none(journal), intent, waitsFor: 'the membership is being changed' };
  }
  return begin(snapshot, record, intent, isBegun ? journal : undefined, now);
}

/** A request that is gone was served, whatever comes next under the same words. */
function served({ shard }: Snapshot): ShardSwitchover | undefined {
  const journal = shard.status?.switchover;
  if (journal?.request === undefined || requestOf({ shard }) !== undefined || journal.outcome === undefined)
    return journal;
  const { request: _request, ...rest } = journal;
  return rest;
}

/** The epoch that was to end has ended: who has it now says what became of the switchover. */
function afterwards(snapshot: Snapshot, record: AuthorityRecord, now: Date): SwitchoverPlan | undefined {
  const journal = snapshot.shard.status?.switchover;
  if (journal === undefined || journal.outcome !== undefined || record.authority.epoch === journal.epoch)
    return undefined;
  const primary = primaryOf(record);
  const { epoch } = record.authority;
  if (journal.target !== undefined && sameMember(primary, journal.target))
    return over(journal, 'Done', `${primary.name} is primary at epoch ${epoch}`, now);
  if (primary.name === journal.from)
    return over(journal, 'Undone', `was undone: ${primary.name} leads again, at epoch ${epoch}`, now);
  return over(journal, 'Overtaken', `was overtaken: ${primary.name} is primary at epoch ${epoch}`, now);
}

function over(
  journal: ShardSwitchover,
  outcome: 'Done' | 'Undone' | 'Overtaken' | 'GivenUp',
  message: string,
  now: Date,
): SwitchoverPlan {
  const isDone = outcome === 'Done';
  const subject = `the switchover from ${journal.from} to ${journal.target?.name ?? 'another member'}`;
  return {
    ...none({
      ...journal,
      outcome,
      at: secondsOf(now),
      failures: isDone ? 0 : Math.min(1_000, journal.failures + 1),
      message: message.slice(0, 1024),
    }),
    events: [
      {
        type: isDone ? 'Normal' : 'Warning',
        reason: `Switchover${outcome}`,
        message: isDone ? `${subject} is done: ${message}` : `${subject} ${message}`,
      },
    ],
  };
}

function begin(
  snapshot: Snapshot,
  record: AuthorityRecord,
  intent: Intent,
  begun: ShardSwitchover | undefined,
  now: Date,
): SwitchoverPlan {
  const status = primaryStatus(record, snapshot.views);
  const { member } = record.authority;
  if (intent.request !== undefined && isThere(intent, record)) return nothingToDo(snapshot, record, intent, now);
  // A primary that doesn't answer at all is left to a failover, which somebody may ask for by hand.
  const isLost = status === undefined;
  if (isLost ? intent.request === undefined : !isOpenPrimary(record, status))
    return refused(snapshot, record, intent, begun, now, {
      reason: 'PrimaryNotOpen',
      message: isLost
        ? `${member} does not answer`
        : `${member} is ${status?.phase ?? 'silent'}: there is nothing to hand over until it is open`,
    });
  const found = candidates(intent.among, { snapshot, record, mustBeUpToDate: intent.mustBeUpToDate });
  const target = (begun && found.able.find((able) => isTarget(begun, able.member))) ?? found.able[0];
  if (target === undefined) return refused(snapshot, record, intent, begun, now, whyNobody(intent, found));
  return handOver(snapshot, record, intent, begun, target.member, now);
}

const isTarget = (journal: ShardSwitchover, member: MemberIdentity): boolean =>
  journal.target !== undefined && sameMember(journal.target, member);

/** The primary is the member that is asked for, or is in that region. */
const isThere = ({ request, among }: Intent, { authority }: AuthorityRecord): boolean =>
  request === authority.member || (request === authority.region && !among.some(({ name }) => name === request));

function whyNobody({ request, among }: Intent, { refusals }: Candidates): Refusal {
  if (request !== undefined && among.length === 0)
    return { reason: 'TargetUnknown', message: `${request} is neither a member of this shard nor a region with one` };
  const [first] = refusals;
  if (first === undefined) return { reason: 'NobodyElse', message: 'the shard has no other member there' };
  // One word can't say several: the first stands for them where they differ.
  return { reason: first.reason, message: refusals.map(({ message }) => message).join('; ') };
}

function handOver(
  snapshot: Snapshot,
  record: AuthorityRecord,
  intent: Intent,
  begun: ShardSwitchover | undefined,
  target: MemberIdentity,
  now: Date,
): SwitchoverPlan {
  const before = snapshot.shard.status?.switchover;
  const journal: ShardSwitchover =
    begun !== undefined && isTarget(begun, target)
      ? begun
      : {
          reason: intent.reason,
          ...(intent.request === undefined ? {} : { request: intent.request }),
          from: record.authority.member,
          target: { ...target },
          epoch: record.authority.epoch,
          at: secondsOf(now),
          failures: before?.outcome === 'Done' ? 0 : (before?.failures ?? 0),
        };
  const report = snapshot.takeover?.kind === 'Handover' ? snapshot.takeover : undefined;
  const ageMs = now.getTime() - Date.parse(journal.at);
  // The service may look at it several times; it has its own words for what is in the way.
  if (journal === begun && ageMs > beginWithinMs && report?.running !== true)
    return over(journal, 'GivenUp', `was given up: ${report?.message ?? 'it did not begin in time'}`, now);
  const why = `${intent.why}; ${target.name} takes over from ${record.authority.member}`;
  return {
    actions: [{ kind: 'Handover', target, why, journal }],
    journal,
    events: journal === begun ? [] : [{ type: 'Normal', reason: 'SwitchoverAsked', message: why }],
    isUnderWay: true,
    intent,
  };
}

function refused(
  snapshot: Snapshot,
  record: AuthorityRecord,
  intent: Intent,
  begun: ShardSwitchover | undefined,
  now: Date,
  refusal: Refusal,
): SwitchoverPlan {
  if (begun !== undefined) return over(begun, 'GivenUp', `was given up: ${refusal.message}`, now);
  // Only what somebody asked for by hand is over with that; the rest is looked at again in the next round.
  if (intent.request === undefined) return { ...none(snapshot.shard.status?.switchover), intent, refusal };
  const message = `${intent.why}: refused, ${refusal.message}`;
  return {
    ...none({
      reason: intent.reason,
      request: intent.request,
      from: record.authority.member,
      epoch: record.authority.epoch,
      at: secondsOf(now),
      failures: 0,
      outcome: 'Refused',
      refusal: refusal.reason,
      message: message.slice(0, 1024),
    }),
    events: [{ type: 'Warning', reason: 'SwitchoverRefused', message: `${refusal.reason}: ${message}` }],
    intent,
    refusal,
  };
}

function nothingToDo(snapshot: Snapshot, record: AuthorityRecord, intent: Intent, now: Date): SwitchoverPlan {
  const message = `${record.authority.member} is primary already`;
  return {
    ...none({
      reason: intent.reason,
      ...(intent.request === undefined ? {} : { request: intent.request }),
      from: record.authority.member,
      epoch: record.authority.epoch,
      at: secondsOf(now),
      failures: snapshot.shard.status?.switchover?.failures ?? 0,
      outcome: 'Done',
      message,
    }),
    events: [{ type: 'Normal', reason: 'SwitchoverDone', message: `${intent.why}: ${message}` }],
  };
}

function retryInMs(journal: ShardSwitchover | undefined, now: Date): number {
  if (journal === undefined || journal.failures === 0 || journal.outcome === 'Done') return 0;
  const waitMs = Math.min(lastRetryMs, firstRetryMs * 2 ** Math.min(10, journal.failures - 1));
  return Math.max(0, Date.parse(journal.at) + waitMs - now.getTime());
}

const secondsOf = (time: Date): string => `${time.toISOString().slice(0, 19)}Z`;
