/**
 * Whether a shard needs a new authority: its primary has given up, is gone by all accounts, or a fence was begun and left.
 * Invariants (traps A13, B9; docs/design.md, section 4, "Failover" 1): a primary that its followers hear serving isn't
 * failed over, whoever else can't reach it; being wrong here costs an interruption, never a write.
 * Leaves asking, and how long each rank of operator waits on top, to the operator.
 */
import { type MemberIdentity, replicationName } from '../identity.ts';
import type { AuthorityAnswer } from '../protocol/authority.ts';
import type { WatchedLease } from './fence.ts';
import { neededForFence } from './fence.ts';
import { type AuthorityRecord, isPrimary, primaryOf, sameMember } from './record.ts';
import { kubernetesLeaseMs, promiseOwnedMs, suspicionMs } from './timing.ts';

/** What came of asking a member who it is; times on the asking operator's boot-time clock. */
export type Ping =
  | { readonly kind: 'Answered'; readonly answer: AuthorityAnswer /** Of its receipt. */; readonly atMs: number }
  /** No answer since then. */
  | { readonly kind: 'Silent'; readonly sinceMs: number };

/**
 * By `replicationName`: the members of the record, and whoever else of the shard answers. Those count for nothing, but one that
 * was fenced before it was removed follows nobody until its epoch is decided.
 */
export type Pings = ReadonlyMap<string, Ping>;

export type Suspicion =
  | { readonly kind: 'None'; readonly why: string }
  /** The primary is gone, or has said that it gives up. */
  | { readonly kind: 'Failover'; readonly why: string }
  /** Somebody promised a later epoch that nobody decided: it must be decided, for whoever promised helps nobody below it (A12). */
  | { readonly kind: 'Settle'; readonly epoch: number; readonly why: string };

/** A primary is unreachable once it has been silent for this long: longer than a lost packet or a busy moment. */
export const unreachableMs = 1_000;
/** How old the word of a follower may be. */
const wordFreshMs = 2_000;

export interface SuspicionInput {
  readonly record: AuthorityRecord;
  readonly pings: Pings;
  /** Of the shard's Kubernetes Lease, where k = 0. */
  readonly kubernetesLease?: WatchedLease | undefined;
  readonly nowMs: number;
}

export function suspicionOf(input: SuspicionInput): Suspicion {
  const { record, pings, nowMs } = input;
  if (record.authority.state === 'Initialising') return none('the first primary is being made');
  const left = leftFence(input);
  const primary = primaryOf(record);
  const ping = answerOf(pings, primary);
  if (ping !== undefined && nowMs - ping.atMs <= wordFreshMs) {
    if (ping.answer.primary?.released === true && ping.answer.promise.epoch <= record.authority.epoch)
      return { kind: 'Failover', why: `${primary.name} has given its epoch up` };
    return left ?? none(`${primary.name} answers`);
  }
  const silentMs = silentForMs(pings, primary, nowMs);
  if (silentMs < unreachableMs) return left ?? none(`${primary.name} has been silent for ${silentMs} ms only`);
  return goneByAllAccounts(input, primary) ?? left ?? none(`${primary.name} is silent, but not shown to be gone`);
}

/** N - k followers heard neither a serving request nor WAL for long enough. */
function goneByAllAccounts(input: SuspicionInput, primary: MemberIdentity): Suspicion | undefined {
  const { record, pings, nowMs, kubernetesLease } = input;
  const followers = record.membership.members.filter((member) => !isPrimary(record, member));
  const words = followers.flatMap((member) => {
    const word = answerOf(pings, member);
    return word === undefined || nowMs - word.atMs > wordFreshMs ? [] : [word.answer];
  });
  const inContact = words.filter((answer) => hasContact(answer, record));
  const without = words.length - inContact.length;
  if (record.membership.acknowledgements === 0) {
    // One that hears it serving keeps it alive while the API server is away; and its Lease is the other sign of life (B5).
    const leaseIsOver =
      kubernetesLease !== undefined &&
      (kubernetesLease.holder !== replicationName(primary) ||
        nowMs - kubernetesLease.unchangedSinceMs >= kubernetesLeaseMs);
    if (inContact.length > 0 || without === 0 || !leaseIsOver) return undefined;
  } else if (without < neededForFence(record)) return undefined;
  return {
    kind: 'Failover',
    why: `${primary.name} doesn't answer, and ${without} of ${followers.length} followers have heard nothing of it for ${suspicionMs} ms`,
  };
}

/** It hears this primary at this epoch: a request that says serving, or WAL. */
function hasContact({ follower, agentAgeMs }: AuthorityAnswer, record: AuthorityRecord): boolean {
  if (follower === undefined || follower.epoch !== record.authority.epoch || !isPrimary(record, follower.source))
    return false;
  // An agent that was just started has heard nothing for as long as it lives.
  const silenceMs = Math.min(follower.servingHeardMs ?? agentAgeMs, follower.walHeardMs ?? agentAgeMs);
  return silenceMs < suspicionMs;
}

/** A promise above the record to nobody, older than its owner may take to decide. */
function leftFence({ record, pings, nowMs }: SuspicionInput): Suspicion | undefined {
  let left: { readonly member: string; readonly epoch: number } | undefined;
  for (const ping of pings.values()) {
    if (ping.kind !== 'Answered' || nowMs - ping.atMs > wordFreshMs) continue;
    const { epoch, grantee, ageMs } = ping.answer.promise;
    const isLeft = epoch > record.authority.epoch && grantee === '' && ageMs + (nowMs - ping.atMs) >= promiseOwnedMs;
    if (isLeft && epoch > (left?.epoch ?? 0)) left = { member: ping.answer.member.name, epoch };
  }
  return (
    left && {
      kind: 'Settle',
      epoch: left.epoch,
      why: `${left.member} was fenced at epoch ${left.epoch}, and nobody decided that epoch`,
    }
  );
}

/** What a member said; undefined where it is silent, or where another incarnation answers in its place. */
export function answerOf(pings: Pings, member: MemberIdentity): Extract<Ping, { kind: 'Answered' }> | undefined {
  const ping = pings.get(replicationName(member));
  return ping?.kind === 'Answered' && sameMember(ping.answer.member, member) ? ping : undefined;
}

/**
 * Since its last word. For ever where its name answers with another incarnation: the volume of this one is lost, and with it
 * the member (a pod's name and its volume are each there once); the answers that go on coming are another's.
 */
export function silentForMs(pings: Pings, member: MemberIdentity, nowMs: number): number {
  const ping = pings.get(replicationName(member));
  if (ping === undefined) return 0;
  if (ping.kind === 'Silent') return nowMs - ping.sinceMs;
  return sameMember(ping.answer.member, member) ? nowMs - ping.atMs : Number.POSITIVE_INFINITY;
}

const none = (why: string): Suspicion => ({ kind: 'None', why });
