/**
 * Whether the primary of before may go on, and from whose positions its successor is chosen once its epoch is over.
 * Invariant: a primary that has given up, or that was stopped by the fence, is chosen only where nobody else who answers may
 * lead. It may be the one that its followers can't hear: at a new epoch they would hear it no better (trap A13).
 */
import { type MemberIdentity, replicationName } from '../identity.ts';
import { type Candidate, type Choice, type ChoiceInput, choose } from './choose.ts';
import { isEnough } from './fence.ts';
import { type AuthorityRecord, isPrimary, primaryOf, sameMember } from './record.ts';
import { answerOf, type Pings } from './suspicion.ts';

/** How long others are waited for who answer and might spare shipping, or the choice of whoever has given up. */
export const choicePatienceMs = 1_000;

/** It leads still, by its own word: the alarm was false, or somebody left a fence that has stopped only others. */
export function leadsStill(record: AuthorityRecord, pings: Pings): boolean {
  const said = answerOf(pings, primaryOf(record))?.answer.primary;
  if (said === undefined || said.released || said.epoch !== record.authority.epoch) return false;
  return said.leaseRemainingMs === null || said.leaseRemainingMs > 0;
}

interface Situation {
  readonly record: AuthorityRecord;
  readonly pings: Pings;
  readonly candidates: readonly Candidate[];
}

/**
 * Why it is no use to fence anybody, though the primary is gone or has given up. While nobody is fenced it can come back by
 * itself, at the same epoch: but not where too few are left who could grant it a lease. Then it needs a new epoch to run shut;
 * so does one that is listed alone, for which there is nobody to wait.
 */
export function whyNoSuccessor(situation: Situation, reachable: readonly MemberIdentity[]): string | undefined {
  const { record, pings } = situation;
  const primary = primaryOf(record);
  const others = record.membership.members.filter((member) => !isPrimary(record, member));
  const mayLead = (member: MemberIdentity): boolean => isPromotable(situation, member);
  if (reachable.some((member) => mayLead(member) && (!isPrimary(record, member) || leadsStill(record, pings))))
    return undefined;
  const couldGrant = others.filter((member) => {
    const said = answerOf(pings, member)?.answer.promise;
    return !isGone(pings, member) && (said?.epoch ?? 0) <= record.authority.epoch;
  });
  const isWedged =
    others.length === 0 || couldGrant.length < Math.min(record.membership.acknowledgements, others.length);
  if (isWedged && mayLead(primary) && reachable.some((member) => sameMember(member, primary))) return undefined;
  return 'nobody else who answers may become primary: promotable members are needed';
}

/** Its name answers with another volume. */
const isGone = (pings: Pings, member: MemberIdentity): boolean =>
  [...pings.values()].some(
    (ping) =>
      ping.kind === 'Answered' && ping.answer.member.name === member.name && !sameMember(ping.answer.member, member),
  );

interface SuccessorInput extends Situation, ChoiceInput {
  /** Who answers, and hasn't said yet what it has. One that said that it has nothing isn't among them. */
  readonly unanswered: readonly MemberIdentity[];
  /** When the primary was shown to be stopped at this epoch; undefined where it wasn't. */
  readonly stoppedAtMs: number | undefined;
  /** No longer is anybody waited for, whoever is chosen then. */
  readonly givesUpAtMs: number;
  /** How long a member that is to lead may take to get the rest of the log. */
  readonly shipPatienceMs: number;
  readonly nowMs: number;
}

export interface Successor {
  readonly choice: Choice;
  /** Until then the fences of others are worth waiting for. */
  readonly waitUntilMs: number;
}

export function successorOf(input: SuccessorInput): Successor {
  const { record, pings, counted, wanted, nowMs } = input;
  const primary = primaryOf(record);
  if (leadsStill(record, pings)) return { choice: choose({ ...input, wanted: wanted ?? primary }), waitUntilMs: 0 };
  const others = counted.filter(({ member }) => !sameMember(member, primary));
  // N - k others have all that was acknowledged: what only the primary has needn't be got from it, which may be impossible.
  // With k = 0 that would be lost: it is tried for a while.
  const isShippedInVain = input.stoppedAtMs !== undefined && nowMs - input.stoppedAtMs >= input.shipPatienceMs;
  const areOthersEnough = isEnough(record, others);
  const doWithout = areOthersEnough && (record.membership.acknowledgements > 0 || isShippedInVain);
  const choice = choose({ ...input, last: primary, counted: doWithout ? others : counted });
  return { choice, waitUntilMs: waitUntilMs(input, choice, areOthersEnough) };
}

function waitUntilMs(input: SuccessorInput, choice: Choice, areOthersEnough: boolean): number {
  const { record, unanswered, stoppedAtMs, givesUpAtMs } = input;
  const isSomebodyElse = choice.kind === 'Ship' || (choice.kind === 'Chosen' && !isPrimary(record, choice.member));
  if (!isSomebodyElse && unanswered.some((member) => isPromotable(input, member))) return givesUpAtMs;
  if (areOthersEnough || stoppedAtMs === undefined || unanswered.length === 0) return 0;
  return Math.min(givesUpAtMs, stoppedAtMs + choicePatienceMs);
}

const isPromotable = ({ candidates }: Pick<Situation, 'candidates'>, member: MemberIdentity): boolean =>
  candidates.find(({ name }) => name === member.name)?.promotable === true;

/** When the primary's own fence was answered, of the answers by `replicationName`. */
export const stoppedAtMs = (
  record: AuthorityRecord,
  counted: ChoiceInput['counted'],
  answers: ReadonlyMap<string, { readonly atMs: number }>,
): number | undefined =>
  counted.some(({ member }) => isPrimary(record, member))
    ? answers.get(replicationName(primaryOf(record)))?.atMs
    : undefined;
