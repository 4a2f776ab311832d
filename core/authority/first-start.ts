/**
 * The very first primary of a shard: whether one may be named now, and which. Names it at most once by itself: afterwards only
 * while the record still says Initialising, and only if the member named has lost its volume (trap A21).
 * Invariant: nobody is named while any volume of the shard could hold data or a promise: a fresh `initdb` beside a healthy
 * follower would be the end of that follower's data.
 */
import type { MemberIdentity } from '../identity.ts';
import type { Authority, AuthorityRecord } from './record.ts';

export interface FirstStartMember {
  readonly name: string;
  readonly region: string;
  readonly promotable: boolean;
  /** False for a member that no RegionalReplica asks for any more, though something of it is left. */
  readonly declared: boolean;
  /** Whether it has a volume that may hold something: a bound claim. A claim that waits for its pod is empty. */
  readonly hasVolume: boolean;
  /** That volume is marked for deletion: a database made on it would go with the pod. */
  readonly volumeGoing: boolean;
  /** What its agent says; undefined while it doesn't answer. */
  readonly answer?:
    | {
        readonly incarnation: string;
        readonly hasData: boolean;
        /** The shard that it made a promise to. */
        readonly promisedTo?: string | undefined;
      }
    | undefined;
}

export interface FirstStartInput {
  /** UID of the Shard object. */
  readonly shardUid: string;
  readonly members: readonly FirstStartMember[];
  readonly preferredRegion: string;
  /** Present when a first member was named already: the record says Initialising. */
  readonly named?: Authority | undefined;
  /** True once members of the preferred region have had their time to appear: then the first that answers is taken. */
  readonly impatient: boolean;
}

export type FirstStartDecision =
  | { readonly kind: 'Wait'; readonly reason: FirstStartReason; readonly message: string }
  | { readonly kind: 'Name'; readonly member: MemberIdentity; readonly region: string; readonly epoch: number };

export type FirstStartReason =
  | 'NoMembers'
  | 'NoPromotableMember'
  | 'DataFound'
  | 'RecordLost'
  | 'WaitingForVolumes'
  | 'WaitingForMembers'
  | 'Initialising';

const wait = (reason: FirstStartReason, message: string): FirstStartDecision => ({ kind: 'Wait', reason, message });

export function decideFirstStart(input: FirstStartInput): FirstStartDecision {
  const { named } = input;
  // Its data, and the promise to this record, are what it was told to make: it is left alone for as long as it is itself.
  if (named !== undefined && !hasLostItsVolume(input, named))
    return wait('Initialising', `${named.member} makes the first data directory`);
  return recordLost(input) ?? volumesInTheWay(input.members) ?? choose(input);
}

/** Shown by its own agent, which answers with another incarnation; silence is not loss. */
function hasLostItsVolume({ members }: FirstStartInput, named: Authority): boolean {
  const answer = members.find((member) => member.name === named.member)?.answer;
  return answer !== undefined && answer.incarnation !== named.incarnation;
}

/** Somebody has promised this very shard, and yet there is no record: it was edited, or restored without its status. */
function recordLost({ members, shardUid, named }: FirstStartInput): FirstStartDecision | undefined {
  const promised = members.filter(
    ({ name, answer }) => answer?.promisedTo === shardUid && (named === undefined || name !== named.member),
  );
  if (promised.length === 0) return undefined;
  return wait(
    'RecordLost',
    `${namesOf(promised)} already ${promised.length === 1 ? 'serves' : 'serve'} this shard, but its record of authority (status.authority) is gone. ` +
      'Nothing is made anew beside them: restore the status of the Shard.',
  );
}

function volumesInTheWay(members: readonly FirstStartMember[]): FirstStartDecision | undefined {
  const full = members.filter(({ answer }) => answer?.hasData === true || answer?.promisedTo !== undefined);
  if (full.length > 0)
    return wait(
      'DataFound',
      `${namesOf(full)} already ${full.length === 1 ? 'has' : 'have'} data or a promise of an earlier shard, so no new database is made. ` +
        'Delete the PersistentVolumeClaims (data-<member>) if they may be lost, or give the Shard another name.',
    );
  const silent = members.filter(({ hasVolume, answer }) => hasVolume && answer === undefined);
  if (silent.length > 0)
    return wait(
      'WaitingForVolumes',
      `the volumes of ${namesOf(silent)} may hold data, and no agent answers for them yet. ` +
        'If these members will not come back, delete their PersistentVolumeClaims (data-<member>).',
    );
  return undefined;
}

function choose({ members, preferredRegion, impatient, named }: FirstStartInput): FirstStartDecision {
  const declared = members.filter((member) => member.declared);
  if (declared.length === 0) return wait('NoMembers', 'no RegionalReplica asks for a member of this shard yet');
  const candidates = declared
    .filter((member) => member.region === preferredRegion && member.promotable)
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  if (candidates.length === 0)
    return wait(
      'NoPromotableMember',
      `no RegionalReplica of this shard has a promotable instance in the primary region ${preferredRegion}`,
    );
  const lasting = candidates.filter(({ volumeGoing }) => !volumeGoing);
  if (lasting.length === 0)
    return wait(
      'WaitingForVolumes',
      `the volumes of ${namesOf(candidates)} are marked for deletion; new ones are awaited`,
    );
  // The first by name, so that the outcome doesn't depend on who was quickest; any of them once that took too long.
  const chosen = impatient ? lasting.find(({ answer }) => answer !== undefined) : lasting[0];
  if (chosen?.answer === undefined)
    return wait('WaitingForMembers', `no agent answers yet for ${namesOf(lasting)} in ${preferredRegion}`);
  return {
    kind: 'Name',
    member: { name: chosen.name, incarnation: chosen.answer.incarnation },
    region: chosen.region,
    epoch: (named?.epoch ?? 0) + 1,
  };
}

const namesOf = (members: readonly FirstStartMember[]): string =>
  members
    .map(({ name }) => name)
    .toSorted()
    .join(', ');

/**
 * The record that names the first primary. Timeline 1 is what initdb makes.
 * @param before The record that named another one, which has lost its volume; the generation goes on from it.
 */
export function initialRecord(
  decision: Extract<FirstStartDecision, { kind: 'Name' }>,
  acknowledgements: number,
  since: string,
  before: AuthorityRecord | undefined,
): AuthorityRecord {
  return {
    authority: {
      epoch: decision.epoch,
      timeline: 1,
      member: decision.member.name,
      incarnation: decision.member.incarnation,
      region: decision.region,
      since,
      state: 'Initialising',
    },
    membership: { generation: (before?.membership.generation ?? 0) + 1, members: [decision.member], acknowledgements },
    history: [],
  };
}

/** The record once the first primary is open. */
export function establishedRecord(record: AuthorityRecord): AuthorityRecord {
  const { epoch, timeline, member } = record.authority;
  return {
    ...record,
    authority: { ...record.authority, state: 'Active' },
    history: [...record.history, { epoch, timeline, member, forkLsn: '0/0' }],
  };
}
