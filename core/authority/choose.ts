/**
 * Who becomes primary, of those whose positions were read after they were fenced (docs/design.md, section 4, "Failover" 4).
 * Invariants: the most advanced position wins, by (epoch of its timeline, LSN); nobody is chosen who lacks any of it: one that
 * may not lead, or can't, gives what it has to the one that will (trap B6). Choosing before the fence would lose writes, so
 * nothing but fence answers is looked at.
 */
import { type MemberIdentity, replicationName } from '../identity.ts';
import type { Lsn } from '../lsn.ts';
import type { Counted } from './fence.ts';
import { comparePositions, divergenceFrom, type Position } from './position.ts';
import { type AuthorityRecord, sameMember } from './record.ts';

/** What is known of a member besides its position. */
export interface Candidate {
  readonly name: string;
  readonly region: string;
  /** Declared, promotable, and not about to be taken away. */
  readonly promotable: boolean;
  /** Only where nobody else will do: its region is being drained, its pod is outdated. Absent: no. */
  readonly isAvoided?: boolean | undefined;
}

export type Choice =
  | { readonly kind: 'Chosen'; readonly member: MemberIdentity; readonly region: string; readonly position: Position }
  /** `to` is the one, but first needs what `from` has up to `lsn`. */
  | { readonly kind: 'Ship'; readonly from: MemberIdentity; readonly to: MemberIdentity; readonly lsn: Lsn }
  | { readonly kind: 'Nobody'; readonly why: string };

export interface ChoiceInput {
  readonly record: AuthorityRecord;
  readonly counted: readonly Counted[];
  readonly candidates: readonly Candidate[];
  /** Nearest to the preferred region first; that one itself at the head. */
  readonly regions: readonly string[];
  /** Chosen only where nobody else may be, however much it has: a primary that has given up, or was stopped. */
  readonly last?: MemberIdentity | undefined;
  /** Taken if it has everything, whoever is nearer: the target of a switchover, or the primary that is to stay. */
  readonly wanted?: MemberIdentity | undefined;
}

export function choose(input: ChoiceInput): Choice {
  const { counted, record } = input;
  const furthest = counted.reduce<Counted | undefined>(
    (best, entry) => (best === undefined || comparePositions(entry.position, best.position) > 0 ? entry : best),
    undefined,
  );
  if (furthest === undefined) return { kind: 'Nobody', why: 'no position is known' };
  const eligible = counted
    .filter((entry) => candidateOf(entry.member, input)?.promotable === true && isPartOf(record, entry, furthest))
    .toSorted((a, b) => comparePositions(b.position, a.position) || preference(a.member, b.member, input));
  const best = eligible.find(({ member }) => !isLast(member, input)) ?? eligible[0];
  if (best === undefined)
    return {
      kind: 'Nobody',
      why: `none of ${counted.map(({ member }) => member.name).join(', ')} may become primary: promotable members are needed`,
    };
  if (comparePositions(best.position, furthest.position) === 0)
    return {
      kind: 'Chosen',
      member: best.member,
      region: candidateOf(best.member, input)?.region ?? '',
      position: best.position,
    };
  return { kind: 'Ship', from: furthest.member, to: best.member, lsn: furthest.position.lsn };
}

const isLast = (member: MemberIdentity, { last }: ChoiceInput): boolean =>
  last !== undefined && sameMember(member, last);

/** Whatever it has is a part of what the furthest has: only then can the rest simply be streamed to it. */
const isPartOf = (record: AuthorityRecord, { position }: Counted, furthest: Counted): boolean =>
  divergenceFrom(record, position, furthest.position.timeline) === undefined;

const candidateOf = (member: MemberIdentity, { candidates }: ChoiceInput): Candidate | undefined =>
  candidates.find(({ name }) => name === member.name);

function preference(a: MemberIdentity, b: MemberIdentity, input: ChoiceInput): number {
  return rankOf(a, input) - rankOf(b, input) || (replicationName(a) < replicationName(b) ? -1 : 1);
}

function rankOf(member: MemberIdentity, input: ChoiceInput): number {
  if (input.wanted !== undefined && sameMember(member, input.wanted)) return -1;
  const candidate = candidateOf(member, input);
  const index = input.regions.indexOf(candidate?.region ?? '');
  const distance = index === -1 ? input.regions.length : index;
  return candidate?.isAvoided === true ? distance + input.regions.length + 1 : distance;
}
