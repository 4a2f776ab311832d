/**
 * Failover, switchover, and the end of a fence that somebody left: one step function over what is known, asked again after
 * every answer. It says what to do next; whoever runs it (any operator replica) asks, waits and writes.
 * An attempt begins with a GET of the record; its PUTs carry that GET's resourceVersion, so that of two attempts at most one
 * decides (traps A1, A10). Invariants: nothing is chosen before the old epoch is over; the record that is decided keeps the
 * membership (trap B1); a fence at an epoch is joined, not topped (B10); every fence ends in a decision, undo too (A1, A12).
 */
import { type MemberIdentity, replicationName } from '../identity.ts';
import type { Lsn } from '../lsn.ts';
import type { Fenced, FenceRefusal } from '../protocol/authority.ts';
import { type Candidate, type Choice, choose } from './choose.ts';
import { announced, decidedRecord, withdrawn } from './decision.ts';
import { type Counted, countedAnswers, epochEndsMs, type WatchedLease, whyNotEnough } from './fence.ts';
import { type AuthorityRecord, isPrimary, primaryOf, sameMember } from './record.ts';
import { stoppedAtMs, successorOf, whyNoSuccessor } from './successor.ts';
import { answerOf, type Pings, suspicionOf } from './suspicion.ts';
import { kubernetesLeaseMs, promiseOwnedMs } from './timing.ts';

export type TakeoverIntent =
  /** The primary is gone, or a fence was left; nothing is done unless that still holds. `wanted` wins among equals. */
  | { readonly kind: 'Recover'; readonly wanted?: MemberIdentity | undefined }
  /** Planned: hand over to exactly this member, or leave everything as it was. */
  | { readonly kind: 'Handover'; readonly target: MemberIdentity };

/** The newest that came of asking one member to be fenced, in this attempt. */
export type FenceOutcome =
  | { readonly kind: 'Fenced'; readonly fenced: Fenced /** Of the receipt. */; readonly atMs: number }
  | { readonly kind: 'Refused'; readonly refusal: FenceRefusal; readonly atMs: number }
  | { readonly kind: 'Silent'; readonly atMs: number };

export interface TakeoverInput {
  /** As from a GET (no cache) made before the first fence of this attempt; its PUTs carry that GET's resourceVersion. */
  readonly record: AuthorityRecord;
  /** When that GET was sent, or the last one that showed authority, membership and history unchanged. */
  readonly recordReadAtMs: number;
  readonly intent: TakeoverIntent;
  /** By `replicationName`. */
  readonly pings: Pings;
  /** By `replicationName`. */
  readonly fences: ReadonlyMap<string, FenceOutcome>;
  readonly candidates: readonly Candidate[];
  /** Nearest to the preferred region first; that one itself at the head. */
  readonly regions: readonly string[];
  /** Of the shard's Kubernetes Lease as this operator watches it; needed where k = 0. */
  readonly kubernetesLease?: WatchedLease | undefined;
  /** When the attempt began. */
  readonly startedAtMs: number;
  readonly nowMs: number;
  /** RFC 3339, for `authority.since`. */
  readonly since: string;
}

export type TakeoverAction =
  /** There is nothing (more) to do, or it can't be done now; `retryInMs` where it is worth asking again. */
  | { readonly kind: 'Nothing'; readonly why: string; readonly retryInMs?: number }
  /** Ask these who they are (again): at once, all together. */
  | { readonly kind: 'Ping'; readonly members: readonly MemberIdentity[] }
  /** GET the record: with authority, membership and history unchanged go on with the new version, else begin anew. */
  | { readonly kind: 'Reread'; readonly why: string }
  /** PUT this record, which changes only the state of authority: a handover is announced, or withdrawn. */
  | { readonly kind: 'Announce'; readonly record: AuthorityRecord; readonly why: string }
  | {
      readonly kind: 'Fence';
      readonly members: readonly MemberIdentity[];
      readonly epoch: number;
      readonly handover: boolean;
      /** Fenced enough already, and it is waited for these no longer than until then. Absent: not enough without them. */
      readonly untilMs?: number;
    }
  /** Fenced enough; meanwhile `fence` may still be asked, at `epoch`: they may have more, but nobody waits for them. */
  | {
      readonly kind: 'WaitOut';
      readonly untilMs: number;
      readonly epoch: number;
      readonly fence: readonly MemberIdentity[];
    }
  /**
   * `to` streams from `from` up to `lsn`, both fenced at `epoch`; then `to` is asked for its position again (a fence).
   * Meanwhile `fence` may still be asked: with them it may not be needed.
   */
  | {
      readonly kind: 'Ship';
      readonly from: MemberIdentity;
      readonly to: MemberIdentity;
      readonly lsn: Lsn;
      readonly epoch: number;
      readonly fence: readonly MemberIdentity[];
    }
  /** k = 0: PUT the shard's Kubernetes Lease with this holder and epoch, by the resourceVersion that was watched unchanged. */
  | { readonly kind: 'HandLease'; readonly holder: MemberIdentity; readonly epoch: number }
  /** PUT this record. */
  | { readonly kind: 'Decide'; readonly record: AuthorityRecord; readonly why: string };

/** How old a ping may be that an attempt begins on. */
const pingFreshMs = 2_000;
/** How long an attempt goes on without an enough fence. */
export const attemptPatienceMs = 10_000;
/** How long a target may take to get the last of the log after the primary has stopped, before the primary takes over again. */
export const handoverPatienceMs = 4_000;
/** How long a primary may take to stop for a handover before it is treated as lost. */
export const handoverStopPatienceMs = 10_000;

export function decideTakeover(input: TakeoverInput): TakeoverAction {
  const { record } = input;
  if (record.authority.state === 'Initialising') return nothing('the first primary is being made');
  const unasked = unpinged(input);
  if (unasked.length > 0) return { kind: 'Ping', members: unasked };
  const epoch = epochOfAttempt(input);
  if (typeof epoch !== 'number') return epoch;
  const hasFenced = [...input.fences.values()].some(
    (outcome) => outcome.kind === 'Fenced' && outcome.fenced.epoch === epoch,
  );
  const obstacle = hasFenced ? undefined : whyNotBegin(input);
  if (obstacle !== undefined) return obstacle;
  const attempt: Attempt = { ...input, epoch, counted: countedAnswers(record, epoch, answersOf(input)) };
  return input.intent.kind === 'Handover' && !isPrimaryLost(attempt)
    ? handOver(attempt, input.intent.target)
    : recover(attempt);
}

interface Attempt extends TakeoverInput {
  readonly epoch: number;
  readonly counted: readonly Counted[];
}

/** Asked about so long ago, or never, that nothing may begin on it. Once fencing has begun the fence answers are what counts. */
function unpinged({ record, pings, fences, nowMs }: TakeoverInput): readonly MemberIdentity[] {
  return record.membership.members.filter((member) => {
    const name = replicationName(member);
    const ping = pings.get(name);
    if (ping === undefined) return true;
    return fences.size === 0 && ping.kind === 'Answered' && nowMs - ping.atMs > pingFreshMs;
  });
}

/** e': above the record, at a promise that waits for its decision where there is one. Or why there can't be one now. */
function epochOfAttempt(input: TakeoverInput): number | TakeoverAction {
  const { fences, nowMs } = input;
  const next = input.record.authority.epoch + 1;
  let epoch = next;
  let topped = next;
  for (const { name, promises } of promisesOf(input)) {
    for (const promise of promises) {
      if (promise.epoch < next) continue;
      if (promise.grantee !== '') {
        // Somebody was decided there: by a record that we haven't read, or by one that was set back since (trap A21).
        if (promise.atMs >= input.recordReadAtMs)
          return { kind: 'Reread', why: `${name} serves epoch ${promise.epoch} already` };
        topped = Math.max(topped, promise.epoch + 1);
        continue;
      }
      epoch = Math.max(epoch, promise.epoch);
      const isOurs = [...fences.values()].some(
        (outcome) => outcome.kind === 'Fenced' && outcome.fenced.epoch === promise.epoch,
      );
      const ageMs = promise.ageMs + (nowMs - promise.atMs);
      if (!isOurs && ageMs < promiseOwnedMs && promise.epoch >= epoch)
        return nothing(
          `${name} was fenced at epoch ${promise.epoch} a moment ago by somebody else, who may be deciding it`,
          promiseOwnedMs - ageMs,
        );
    }
  }
  return Math.max(epoch, topped);
}

interface SeenPromise {
  readonly epoch: number;
  readonly grantee: string;
  readonly ageMs: number;
  readonly atMs: number;
}

/** Of everybody who answers, listed or not. */
function promisesOf({ pings, fences }: TakeoverInput): readonly { name: string; promises: readonly SeenPromise[] }[] {
  return [...new Set([...pings.keys(), ...fences.keys()])].map((name) => {
    const promises: SeenPromise[] = [];
    const ping = pings.get(name);
    if (ping?.kind === 'Answered') promises.push({ ...ping.answer.promise, atMs: ping.atMs });
    const outcome = fences.get(name);
    if (outcome?.kind === 'Refused' && outcome.refusal.promise !== undefined)
      promises.push({ ...outcome.refusal.promise, atMs: outcome.atMs });
    return { name, promises };
  });
}

/** Before the first fence: whether it is wanted still, and whether it can succeed. */
function whyNotBegin(input: TakeoverInput): TakeoverAction | undefined {
  const { record, intent } = input;
  const reachable = reachableMembers(input);
  if (intent.kind === 'Handover') {
    const obstacle = whyNotHandOver(input, intent.target, reachable);
    if (obstacle === undefined) return undefined;
    // Announced, and nobody is fenced: taken back in the record, so that nobody begins it again.
    return record.authority.state === 'Stopping'
      ? { kind: 'Announce', record: withdrawn(record), why: obstacle }
      : nothing(obstacle);
  }
  const suspicion = suspicionOf(input);
  if (suspicion.kind === 'None') return nothing(suspicion.why);
  const missing = whyNotEnough(
    record,
    reachable.map((member) => ({ member })),
  );
  if (missing !== undefined) return nothing(missing, 500);
  const nobody = suspicion.kind === 'Failover' ? whyNoSuccessor(input, reachable) : undefined;
  return nobody === undefined ? undefined : nothing(nobody, 1_000);
}

function whyNotHandOver(
  { record, candidates }: TakeoverInput,
  target: MemberIdentity,
  reachable: readonly MemberIdentity[],
): string | undefined {
  const isReachable = (member: MemberIdentity): boolean => reachable.some((other) => sameMember(other, member));
  if (isPrimary(record, target)) return `${target.name} is the primary already`;
  if (!record.membership.members.some((member) => sameMember(member, target)))
    return `${replicationName(target)} is not a member`;
  if (candidates.find(({ name }) => name === target.name)?.promotable !== true)
    return `${target.name} is not promotable`;
  if (!isReachable(target)) return `${target.name} doesn't answer`;
  if (!isReachable(primaryOf(record))) return `the primary ${record.authority.member} doesn't answer`;
  return undefined;
}

/** Members whose own incarnation answered the last ping. */
const reachableMembers = ({ record, pings }: TakeoverInput): readonly MemberIdentity[] =>
  record.membership.members.filter((member) => answerOf(pings, member) !== undefined);

const answersOf = ({ fences }: TakeoverInput): readonly { readonly fenced: Fenced; readonly atMs: number }[] =>
  [...fences.values()].flatMap((outcome) => (outcome.kind === 'Fenced' ? [outcome] : []));

/** It was to stop for a handover, and hasn't within its time: whatever it does, it is to be taken over from. */
function isPrimaryLost({ record, counted, startedAtMs, nowMs, fences }: Attempt): boolean {
  if (counted.some(({ member }) => isPrimary(record, member))) return false;
  return fences.size > 0 && nowMs - startedAtMs >= handoverStopPatienceMs;
}

/** The primary stops first, so that the target gets all of its log; then the target; nobody else needs to be fenced. */
function handOver(attempt: Attempt, target: MemberIdentity): TakeoverAction {
  const { record, epoch, counted, nowMs } = attempt;
  const primary = primaryOf(record);
  // The write that shows, just before anything stops, that the API server takes writes (trap A1).
  if (record.authority.state !== 'Stopping')
    return { kind: 'Announce', record: announced(record, target), why: `${target.name} is to take over` };
  const stopped = counted.find(({ member }) => sameMember(member, primary));
  if (stopped === undefined) return { kind: 'Fence', members: [primary], epoch, handover: true };
  const given = counted.find(({ member }) => sameMember(member, target));
  const stoppedAtMs = answersOf(attempt).find(({ fenced }) => sameMember(fenced.member, primary))?.atMs ?? nowMs;
  const isLate = nowMs - stoppedAtMs >= handoverPatienceMs;
  if (given === undefined && !isLate) return { kind: 'Fence', members: [target], epoch, handover: false };
  const choice = choose({ ...attempt, wanted: target, counted: given === undefined ? [stopped] : [stopped, given] });
  if (choice.kind === 'Chosen' && sameMember(choice.member, target)) return decide(attempt, choice, 'switchover');
  // It stopped without the target having all of it: the same primary again, at the new epoch (trap A1).
  return decide(
    attempt,
    { kind: 'Chosen', member: primary, region: record.authority.region, position: stopped.position },
    `${target.name} lacks the end of the log, so ${primary.name} leads on`,
  );
}

function recover(attempt: Attempt): TakeoverAction {
  const { record, epoch, nowMs } = attempt;
  const unanswered = reachableMembers(attempt).filter(
    (member) => !attempt.counted.some((entry) => sameMember(entry.member, member)),
  );
  const missing = whyNotEnough(record, attempt.counted);
  if (missing !== undefined) {
    // Begun anew, who was silent then may answer now; what was promised meanwhile is joined.
    if (nowMs - attempt.startedAtMs >= attemptPatienceMs) return nothing(missing, 1_000);
    return { kind: 'Fence', members: unanswered, epoch, handover: false };
  }
  const untilMs = epochEndsMs(record, attempt.counted, attempt.kubernetesLease, kubernetesLeaseMs);
  if (nowMs < untilMs && renewsItsLease(attempt))
    return nothing(`${record.authority.member} has renewed its Kubernetes Lease meanwhile`, 1_000);
  if (nowMs < untilMs) return { kind: 'WaitOut', untilMs, epoch, fence: unanswered };
  const { intent, fences, startedAtMs } = attempt;
  const { choice, waitUntilMs } = successorOf({
    ...attempt,
    wanted: intent.kind === 'Recover' ? intent.wanted : intent.target,
    unanswered: unanswered.filter((member) => !hasNothingToGive(attempt, member)),
    stoppedAtMs: stoppedAtMs(record, attempt.counted, fences),
    givesUpAtMs: startedAtMs + attemptPatienceMs,
    shipPatienceMs: handoverPatienceMs,
  });
  if (nowMs < waitUntilMs) return { kind: 'Fence', members: unanswered, epoch, handover: false, untilMs: waitUntilMs };
  switch (choice.kind) {
    case 'Chosen':
      return decide(attempt, choice, 'failover');
    case 'Ship':
      return { ...choice, epoch, fence: uncounted(attempt) };
    case 'Nobody':
      return nothing(choice.why, 1_000);
    default:
      return choice satisfies never;
  }
}

/** Fenced, and without a position that counts: a copy or a rewind that hasn't ended won't end while it is waited for. */
const hasNothingToGive = (attempt: Attempt, member: MemberIdentity): boolean =>
  answersOf(attempt).some(
    ({ fenced }) => sameMember(fenced.member, member) && fenced.epoch === attempt.epoch && fenced.stopped,
  );

/** Also who was silent when the attempt began: that may have been a lost packet, and shipping may be what can't be done. */
const uncounted = ({ record, counted }: Attempt): readonly MemberIdentity[] =>
  record.membership.members.filter((member) => !counted.some((entry) => sameMember(entry.member, member)));

/** k = 0: a sign of life since the attempt began; waiting for that Lease would never end. Begun anew, it may be reachable. */
const renewsItsLease = ({ record, kubernetesLease, startedAtMs }: Attempt): boolean =>
  record.membership.acknowledgements === 0 &&
  kubernetesLease?.holder === replicationName(primaryOf(record)) &&
  kubernetesLease.unchangedSinceMs > startedAtMs;

function decide(
  { record, epoch, since, kubernetesLease }: Attempt,
  { member, region, position }: Extract<Choice, { kind: 'Chosen' }>,
  why: string,
): TakeoverAction {
  if (record.membership.acknowledgements === 0 && kubernetesLease?.holder !== replicationName(member))
    return { kind: 'HandLease', holder: member, epoch };
  return { kind: 'Decide', record: decidedRecord(record, { epoch, member, region, position, since }), why };
}

const nothing = (why: string, retryInMs?: number): TakeoverAction =>
  retryInMs === undefined ? { kind: 'Nothing', why } : { kind: 'Nothing', why, retryInMs };
